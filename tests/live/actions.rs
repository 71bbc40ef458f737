//! Actions on the real kernel and on real software.

#[path = "actions/connections.rs"]
mod connections;
#[path = "actions/network.rs"]
mod network;
#[path = "actions/network_steps.rs"]
mod network_steps;
