//! `smart-monitor simulate`: a service that misbehaves on request, and the request.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::render;
use crate::simulate::{self, Options, Peer, fault::Settings, fault_client};

/// Run a small service that misbehaves on request, for trying things out.
///
/// It answers GET /health, GET /metrics and GET /work; POST /fault/KIND makes it crash, leak, spin, hang, refuse
/// connections or answer with errors.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Name that its reports carry.
    #[arg(long, default_value = "service")]
    name: String,
    /// Address and port of its HTTP listener.
    #[arg(long, required = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Services that it depends on.
    #[arg(long, num_args = 1.., value_name = "NAME=ADDRESS")]
    calls: Vec<Peer>,
    /// Calls to each of them in a second.
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// Time between two signs of life, such as 500ms or 1s.
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    heartbeat: Duration,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Ask a simulated service to misbehave.
    Fault {
        /// Where it listens.
        #[arg(long, value_name = "ADDRESS")]
        at: SocketAddr,
        /// crash, leak, spin, hang, refuse, errors, or none (ends leak, spin and errors).
        kind: String,
        /// Options of the fault, such as `how=abort`, `mib_per_s=50`, `max_mib=500`, `threads=2`, `ratio=0.2`.
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
}

/// Runs it.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match (args.command, args.listen) {
        (Some(Command::Fault { at, kind, settings }), _) => {
            let settings: Settings = settings.into_iter().collect();
            let answer = fault_client::inject(at, &kind, &settings)?;
            render::show(&format!("{answer}\n"))?;
        }
        (None, Some(listen)) => simulate::run(Options {
            name: args.name,
            listen,
            calls: args.calls,
            rate: args.rate,
            heartbeat: args.heartbeat,
        })?,
        (None, None) => anyhow::bail!("--listen is missing; give an address and port"),
    }
    Ok(ExitCode::SUCCESS)
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

/// A whole number with `ms` or `s`, above zero and below an hour.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = if let Some(number) = text.strip_suffix("ms") {
        number.parse().ok().map(Duration::from_millis)
    } else {
        let number = text.strip_suffix('s');
        number.and_then(|n| n.parse().ok()).map(Duration::from_secs)
    };
    parsed
        .filter(|time| !time.is_zero() && *time <= Duration::from_hours(1))
        .ok_or_else(|| "not a time such as 500ms or 1s, at most 3600s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_bounds() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["", "0s", "1", "5m", "-1s", "99999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
