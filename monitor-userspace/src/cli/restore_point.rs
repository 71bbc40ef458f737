//! `smart-monitor restore-point`: keeps the release that a service runs as one to go back to.

use std::process::ExitCode;

use super::act;
use super::ask::{self, Daemon};
use super::waiting::Wait;
use crate::api::answers::ByHand;

/// Keep the release that a service runs now as one to go back to.
///
/// A release becomes one by itself when the service has been well with it for long enough (`proven_after`); this is for who does not
/// want to wait. Refused for a service that does not serve. The exit code is 0 when it was done (or
/// would be, with --dry-run), 1 when it was refused, failed or is not over yet, 2 when it was not understood or the daemon cannot be
/// reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the service.
    service: String,
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
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let new = ByHand {
        step: None,
        dry_run: args.dry_run,
        on_behalf: ask::on_behalf(),
    };
    let path = format!("/api/v1/services/{}/restore-point", args.service);
    let how = (args.dry_run, args.wait, args.json);
    act::follow(&args.daemon, &path, &new, how)
}
