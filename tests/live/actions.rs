//! Actions, on the running kernel and real software.

#[path = "actions/connections.rs"]
mod connections;
#[path = "actions/crashes.rs"]
mod crashes;
#[path = "actions/network.rs"]
mod network;
#[path = "actions/network_steps.rs"]
mod network_steps;
#[path = "actions/processes.rs"]
mod processes;
#[path = "actions/restraints.rs"]
mod restraints;
