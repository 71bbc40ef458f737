//! `smart-monitor heartbeat`: says for a service that it is well, or that it is not.

use std::process::ExitCode;

use super::ask::{Daemon, NoAnswer};
use crate::api::{BeatStatus, BeatTaken, HEARTBEATS, NewBeat};

/// Say for a service that it is well: for scripts, at their end. The service needs a check `heartbeat`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the service.
    service: String,
    #[command(flatten)]
    daemon: Daemon,
    /// It is not well, and why.
    #[arg(long, value_name = "TEXT", conflicts_with = "text")]
    error: Option<String>,
    /// A few words that are shown with it.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Something that it measured; can be given several times.
    #[arg(long = "figure", value_name = "NAME=NUMBER", value_parser = figure)]
    figures: Vec<(String, f64)>,
}

fn figure(text: &str) -> Result<(String, f64), String> {
    let wrong = || "a figure is written queue=3".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let value: f64 = value.trim().parse().map_err(|_| wrong())?;
    let good = !name.trim().is_empty() && value.is_finite();
    good.then(|| (name.trim().to_owned(), value))
        .ok_or_else(wrong)
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        service,
        daemon,
        error,
        text,
        figures,
    } = args;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if service.is_empty() || !service.chars().all(plain) {
        let why = format!("{service:?} cannot be the name of a service");
        return NoAnswer::Missing(why).show(false);
    }
    let status = if error.is_some() {
        BeatStatus::Error
    } else {
        BeatStatus::Ok
    };
    let new = NewBeat {
        status,
        text: error.or(text),
        figures: figures.into_iter().collect(),
    };
    match daemon.post::<BeatTaken>(&format!("{HEARTBEATS}{service}"), &new) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => NoAnswer::to_change(error).show(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        assert_eq!(figure("queue=3"), Ok(("queue".to_owned(), 3.0)));
        for wrong in ["", "queue", "=3", "queue=many", "queue=inf", "queue="] {
            assert!(figure(wrong).is_err(), "{wrong}");
        }
    }
}
