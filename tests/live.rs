//! What needs root and a real kernel: `cargo xtask test --live`, or `cargo test --test live` as root.

#[path = "live/actions.rs"]
mod actions;
#[path = "live/daemon.rs"]
mod daemon;
#[path = "live/emergency.rs"]
mod emergency;
#[path = "live/events.rs"]
mod events;
#[path = "live/identity.rs"]
mod identity;
#[path = "live/kernel.rs"]
mod kernel;
#[path = "live/priority.rs"]
mod priority;
#[path = "live/services.rs"]
mod services;
