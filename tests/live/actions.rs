//! Actions on the real kernel and the real software.

#[path = "actions/commands.rs"]
mod commands;
