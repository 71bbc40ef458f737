//! Actions, on the running kernel and real software.

#[path = "actions/restraints.rs"]
mod restraints;
