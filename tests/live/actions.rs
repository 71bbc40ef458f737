//! Actions, on the running kernel and real software.

#[path = "actions/crashes.rs"]
mod crashes;
#[path = "actions/processes.rs"]
mod processes;
#[path = "actions/restraints.rs"]
mod restraints;
