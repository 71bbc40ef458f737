//! Services that somebody else runs, and checks of real software.

#[path = "services/container.rs"]
mod container;
#[path = "services/pid_file.rs"]
mod pid_file;
