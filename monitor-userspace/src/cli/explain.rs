//! `smart-monitor explain`: the causal time line of an incident, from kernel event to outcome.

mod frozen;
pub(super) mod story;
pub(super) mod verdict;

use std::process::ExitCode;

use super::ask::{self, Daemon};
use super::incidents;
use super::render::{self, Paint};
use super::stored::Stored;
use crate::model::IncidentId;

/// Tell the story of an incident: what the kernel saw, what was concluded, what was done, and whether it helped.
///
/// When the daemon does not run, or has forgotten the incident, the story comes from its journal.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the incident; `smart-monitor incidents` lists them.
    id: u64,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    stored: Stored,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        id,
        daemon,
        stored,
        json,
    } = args;
    let one = match incidents::find(&daemon, &stored, IncidentId(id)) {
        Ok(one) => one,
        Err(why) => return why.show(json),
    };
    if json {
        ask::show_json(&one)?;
    } else {
        render::show(&story::full(&one, Paint::for_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
