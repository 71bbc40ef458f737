//! `smart-monitor repair`: does what the rules provide for a service, on a person's word.

use std::process::ExitCode;

use super::act;
use super::ask::{self, Daemon};
use super::waiting::Wait;
use crate::api::answers::ByHand;

/// Have a service repaired now, as its rules provide.
///
/// Without STEP: the step that is next for the incident that is open on it, or else the first of the first rule that names it. Goes
/// through policy like any other act. The exit code is 0 when it was done (or
/// would be, with --dry-run), 1 when it was refused, failed or is not over yet, 2 when it was not understood or the daemon cannot be
/// reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the service.
    service: String,
    /// Which step: the name of an action, or its number in the rule.
    step: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Only say what would be done, and what stands in the way.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    /// Print the incident that came of it as JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let new = ByHand {
        step: args.step,
        dry_run: args.dry_run,
        on_behalf: ask::on_behalf(),
    };
    let path = format!("/api/v1/services/{}/repair", args.service);
    let how = (args.dry_run, args.wait, args.json);
    act::follow(&args.daemon, &path, &new, how)
}
