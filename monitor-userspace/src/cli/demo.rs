//! `smart-monitor demo`: the daemon over simulated services, one fault after the other, and how each was repaired.
//!
//! Starts a daemon of its own in a private temporary folder, follows incidents over the daemon's socket like any other
//! client, and ends what it started, however it ends. It touches no process that it did not start.

mod api;
mod drive;
mod scenarios;
mod session;
mod setup;
mod story;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::session::Session;
use self::setup::Setup;
use self::story::Story;
use self::table::Table;
use super::render;

/// Exit code after Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// Inject faults into simulated services and watch each one being repaired.
///
/// Needs root, as the daemon does. Ends by itself; the exit code is 1 when a loop did not close.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration of the demo's daemon; the one in the repository is built in.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON, and no table.
    #[arg(long)]
    json: bool,
    /// How long each fault may take to be repaired, seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
}

/// How the faults went, if they could all be tried.
#[derive(Debug)]
enum End {
    Ran(anyhow::Result<()>),
    Interrupted,
}

/// Runs it.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!(
            "the demo's daemon loads kernel programs, which needs root; run `cargo xtask demo` or `sudo smart-monitor demo`"
        );
    }
    let setup = Setup::load(args.config)?;
    setup.ports_are_free()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut table = Table::new(args.json);
    let mut stories = Vec::new();
    // Listening for signals before there is anything to stop.
    let end = runtime.block_on(async {
        let interrupted = interrupted()?;
        let mut session = Session::start(&setup)?;
        let deadline = Duration::from_secs(args.deadline);
        let ran = drive::drive(&mut session, &setup, &mut table, &mut stories, deadline);
        let end = tokio::select! {
            ran = ran => End::Ran(ran),
            () = interrupted => End::Interrupted,
        };
        if let End::Ran(Err(_)) = &end {
            render::ask(session.last_words());
        }
        session.stop()?;
        anyhow::Ok(end)
    })?;
    if args.json {
        render::show(&format!("{}\n", story::json(&stories)))?;
    } else if !stories.is_empty() {
        table.summary(&stories, scenarios::ALL.len());
    }
    match end {
        End::Interrupted => {
            render::remark("smart-monitor: interrupted; everything it started is stopped");
            Ok(ExitCode::from(EXIT_INTERRUPTED))
        }
        End::Ran(Err(error)) => Err(error),
        End::Ran(Ok(())) if stories.iter().all(Story::closed) => Ok(ExitCode::SUCCESS),
        End::Ran(Ok(())) => Ok(ExitCode::FAILURE),
    }
}

/// Ends at SIGINT, SIGTERM or SIGHUP; from the call on, none of them ends the demo by itself.
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
