//! Services that somebody else runs, with the real software.

#[path = "services/systemd.rs"]
mod systemd;
