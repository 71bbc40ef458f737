//! `smart-monitor reject`: forbids what an incident proposes.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::render;
use crate::api::answers::{OneIncident, Word};

/// Forbid what an incident proposes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the incident.
    id: u64,
    #[command(flatten)]
    daemon: Daemon,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { id, daemon } = args;
    let word = Word {
        on_behalf: ask::on_behalf(),
    };
    let path = format!("/api/v1/incidents/{id}/reject");
    match daemon.post::<OneIncident>(&path, &word) {
        Ok(_) => render::show(&format!(
            "rejected: what incident {id} proposed is not done\n"
        ))?,
        Err(error) => return NoAnswer::to_change(error).show(false),
    }
    Ok(ExitCode::SUCCESS)
}
