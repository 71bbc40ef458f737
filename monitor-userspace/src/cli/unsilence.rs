//! `smart-monitor unsilence`: ends a silence before its time.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::render;
use crate::api::answers::{OneSilence, Word};

/// End a silence before its time.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of the silence; `smart-monitor silences` lists them.
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
    match daemon.delete::<OneSilence>(&format!("/api/v1/silences/{id}"), &word) {
        Ok(OneSilence { clock, silence }) => render::show(&format!(
            "silence {id} on {} has ended, {} before its time\n",
            render::clean(&silence.on),
            render::duration(silence.until.since(clock.time()))
        ))?,
        Err(error) => return NoAnswer::to_change(error).show(false),
    }
    Ok(ExitCode::SUCCESS)
}
