//! `smart-monitor silence`: has nothing done to a subject for some time.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::{render, silences};
use crate::api::answers::{NewSilence, OneSilence};
use crate::config::units::Span;

/// Have nothing done to a service, to a `[[process]]` entry or to anything, for some time.
///
/// Everything is still observed and told. The silence outlives the daemon; `smart-monitor unsilence` ends it before its time.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a service or of a `[[process]]` entry; '*' for everything.
    name: String,
    #[command(flatten)]
    daemon: Daemon,
    /// How long: 30m, 2h, 1d; at most 30 days.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Span,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only for incidents of this detector.
    #[arg(long, value_name = "NAME")]
    detector: Option<String>,
}

fn time(text: &str) -> Result<Span, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let days = days.map(|days: u32| Span::seconds(u64::from(days) * 24 * 3600));
    let span = days.or_else(|| Span::parse(text));
    let span = span.filter(|span| span.0.as_secs() > 0);
    span.ok_or_else(|| "a time is written 30m, 2h, 1h30m or 7d, and is at least 1s".to_owned())
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        name,
        daemon,
        time,
        reason,
        detector,
    } = args;
    let new = NewSilence {
        on: name,
        detector,
        for_seconds: time.0.as_secs(),
        reason,
        on_behalf: ask::on_behalf(),
    };
    match daemon.post::<OneSilence>("/api/v1/silences", &new) {
        Ok(OneSilence { clock, silence }) => {
            let id = silence.id;
            let words = silences::words(&silence, &clock);
            render::show(&format!(
                "{words}\nto end it before: `sudo smart-monitor unsilence {id}`\n"
            ))?;
        }
        Err(error) => return NoAnswer::to_change(error).show(false),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        for (text, seconds) in [("2h", 7200), ("1h30m", 5400), ("7d", 604_800), ("90s", 90)] {
            assert_eq!(
                time(text).map(|span| span.0.as_secs()),
                Ok(seconds),
                "{text}"
            );
        }
        for text in ["", "2", "soon", "-2h", "500ms", "0d", "-1d", "d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
