//! `smart-monitor run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::config::DEFAULT_FILE;
use crate::config::units::Listen;
use crate::pipeline;

/// The daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration; without one (and without /etc/smart-monitor/smart-monitor.toml) everything is observed and nothing is acted on.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only say what would have been done.
    #[arg(long)]
    dry_run: bool,
    /// Folder of the journal, in place of `[daemon] state_dir`.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Unix socket for the command line, in place of `[daemon] socket`.
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Address of the exporter and the API, in place of `[daemon] http`; an empty one switches it off.
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    http: Option<Listen>,
    /// Record all signals into this new file, for replay.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn listen(text: &str) -> Result<Listen, String> {
    Listen::parse(text).ok_or_else(|| "write it as 127.0.0.1:9464, or \"\" for none".to_owned())
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let filter =
        EnvFilter::try_from_env("SMART_MONITOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // A closed standard error is no reason to end, and there is nobody to tell.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    let default = PathBuf::from(DEFAULT_FILE);
    let options = pipeline::Options {
        config: args.config.or_else(|| default.exists().then_some(default)),
        dry_run: args.dry_run,
        state_dir: args.state_dir,
        socket: args.socket,
        http: args.http,
        record: args.record,
    };
    // Its message holds its causes.
    pipeline::run(options).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(ExitCode::SUCCESS)
}
