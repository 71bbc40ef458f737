//! `smart-monitor ack`: says that somebody has seen an incident.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::render;
use crate::api::answers::{OneIncident, Word};

/// Say that you have seen an incident; its story and the listings then name you.
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
    let path = format!("/api/v1/incidents/{id}/acknowledge");
    match daemon.post::<OneIncident>(&path, &word) {
        Ok(one) => {
            let by = one.incident.acknowledged_by.unwrap_or_default();
            let by = render::clean(&by);
            render::show(&format!("incident {id} is acknowledged by {by}\n"))?;
        }
        Err(error) => return NoAnswer::to_change(error).show(false),
    }
    Ok(ExitCode::SUCCESS)
}
