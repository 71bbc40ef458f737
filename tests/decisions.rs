//! What the core decides in situations that are hard to bring about for real: losses, limits, protected processes, other causes.

#![expect(clippy::panic, reason = "a test's helper fails by panicking")]

#[path = "decisions/attacks.rs"]
mod attacks;
#[path = "decisions/before.rs"]
mod before;
#[path = "decisions/by_hand.rs"]
mod by_hand;
#[path = "decisions/called_off.rs"]
mod called_off;
#[path = "decisions/cascades.rs"]
mod cascades;
#[path = "decisions/commands.rs"]
mod commands;
#[path = "decisions/connections.rs"]
mod connections;
#[path = "decisions/disks.rs"]
mod disks;
#[path = "decisions/dns.rs"]
mod dns;
#[path = "decisions/emergencies.rs"]
mod emergencies;
#[path = "decisions/folders.rs"]
mod folders;
#[path = "decisions/frozen.rs"]
mod frozen;
#[path = "decisions/growth.rs"]
mod growth;
#[path = "decisions/guards.rs"]
mod guards;
#[path = "decisions/held.rs"]
mod held;
#[path = "decisions/killed.rs"]
mod killed;
#[path = "decisions/manual.rs"]
mod manual;
#[path = "decisions/network.rs"]
mod network;
#[path = "decisions/objectives.rs"]
mod objectives;
#[path = "decisions/observed.rs"]
mod observed;
#[path = "decisions/processes.rs"]
mod processes;
#[path = "decisions/queues.rs"]
mod queues;
#[path = "decisions/releases.rs"]
mod releases;
#[path = "decisions/reloads.rs"]
mod reloads;
#[path = "decisions/repairs.rs"]
mod repairs;
#[path = "decisions/routes.rs"]
mod routes;
#[path = "decisions/scene.rs"]
mod scene;
#[path = "decisions/services.rs"]
mod services;
#[path = "decisions/storms.rs"]
mod storms;
#[path = "decisions/supervised.rs"]
mod supervised;

use scene::{RESTART, SERVICE, Scene, attempt, connect, done, key, settings, task};
