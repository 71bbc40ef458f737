//! `smart-monitor watch`: has a service checked as after a release.

use std::process::ExitCode;

use super::act;
use super::ask::{self, Daemon};
use super::waiting::Wait;
use crate::api::answers::ByHand;

/// Check a service as often as after a release, from now on.
///
/// How often stands in `after_release` of its checks. The exit code is 0 when it was done (or
/// would be, with --dry-run), 1 when it was refused, failed or is not over yet, 2 when it was not understood or the daemon cannot be
/// reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the service.
    service: String,
    /// As after a release, which is the only way there is so far.
    #[arg(long, required = true)]
    after_release: bool,
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
    let path = format!("/api/v1/services/{}/watch", args.service);
    let how = (args.dry_run, args.wait, args.json);
    act::follow(&args.daemon, &path, &new, how)
}
