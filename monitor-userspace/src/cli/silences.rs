//! `smart-monitor silences`: what nothing is done to at the moment.

use std::process::ExitCode;

use super::ask::{self, Daemon, NoAnswer};
use super::render::{self, Column, Paint, Table};
use crate::api::answers::{Clock, Silences};
use crate::model::Silence;

/// List the silences in force, and the maintenance windows that are open.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { daemon, json } = args;
    let list: Silences = match daemon.ask("/api/v1/silences") {
        Ok(list) => list,
        Err(error) => return NoAnswer::from(error).show(json),
    };
    if json {
        ask::show_json(&list)?;
    } else {
        render::show(&text(&list, Paint::for_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: &[Column] = &[
    Column::right("ID"),
    Column::left("ON"),
    Column::left("DETECTOR"),
    Column::right("TIME LEFT"),
    Column::left("UNTIL"),
    Column::left("BY"),
    Column::left("REASON"),
];

fn text(list: &Silences, paint: Paint) -> String {
    let mut out = if list.silences.is_empty() {
        "no silence is in force\n".to_owned()
    } else {
        let mut table = Table::new(COLUMNS);
        for silence in &list.silences {
            table.row(vec![
                silence.id.to_string().into(),
                silence.on.as_str().into(),
                silence.detector.as_deref().unwrap_or("all").into(),
                render::duration(silence.until.since(list.clock.time())).into(),
                until(silence, &list.clock).into(),
                silence.by.as_str().into(),
                silence.reason.as_str().into(),
            ]);
        }
        table.render(paint)
    };
    for window in &list.maintenance {
        render::add(&mut out, format_args!("{}\n", maintenance(window)));
    }
    out
}

fn until(silence: &Silence, clock: &Clock) -> String {
    render::wall(clock.unix_ns_of(silence.until), "%m-%d %H:%M:%S")
}

/// A silence in a line.
pub(super) fn words(silence: &Silence, clock: &Clock) -> String {
    let on = match (silence.on.as_str(), &silence.detector) {
        ("*", None) => "everything".to_owned(),
        ("*", Some(detector)) => format!("{detector} of anything"),
        (name, None) => name.to_owned(),
        (name, Some(detector)) => format!("{detector} of {name}"),
    };
    render::clean(&format!(
        "silence {}: nothing is done about {on} for {}, until {}; asked for by {}: {}",
        silence.id,
        render::duration(silence.until.since(clock.time())),
        until(silence, clock),
        silence.by,
        silence.reason,
    ))
}

/// An open maintenance window in a line.
pub(super) fn maintenance(window: &str) -> String {
    format!("maintenance window {} is open", render::clean(window))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    fn list() -> Silences {
        let silence = |id, on: &str, detector: Option<&str>| Silence {
            id,
            on: on.to_owned(),
            detector: detector.map(str::to_owned),
            until: Time::from_nanos(7_210_000_000_000),
            by: "root (alice)".to_owned(),
            reason: "upgrade\x1b[2J".to_owned(),
        };
        Silences {
            clock: Clock {
                monotonic_ns: 10_000_000_000,
                unix_ns: 0,
            },
            silences: vec![
                silence(3, "auth", Some("service_down")),
                silence(4, "*", None),
            ],
            maintenance: vec!["nightly".to_owned()],
        }
    }

    #[test]
    fn silences_and_open_windows_are_listed() {
        let shown = text(&list(), Paint::none());
        let mut lines = shown.lines();
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("ID  ON    DETECTOR      TIME LEFT")
        );
        let first = lines.next().unwrap();
        assert!(first.contains("auth  service_down  2 h 0 min"), "{first}");
        assert!(
            first.ends_with("root (alice)  upgrade\u{fffd}[2J"),
            "{first}"
        );
        assert!(lines.next().unwrap().contains("*     all"));
        assert_eq!(lines.next(), Some("maintenance window nightly is open"));
        let none = Silences {
            silences: Vec::new(),
            maintenance: Vec::new(),
            ..list()
        };
        assert_eq!(text(&none, Paint::none()), "no silence is in force\n");
    }

    #[test]
    fn a_silence_says_what_it_is_about_and_who_asked() {
        let list = list();
        let all: Vec<_> = list
            .silences
            .iter()
            .map(|one| words(one, &list.clock))
            .collect();
        assert!(all[0].starts_with(
            "silence 3: nothing is done about service_down of auth for 2 h 0 min, until "
        ));
        assert!(all[1].contains("about everything for"), "{}", all[1]);
        let every = Silence {
            on: "*".to_owned(),
            ..list.silences[0].clone()
        };
        let every = words(&every, &list.clock);
        assert!(
            every.contains("about service_down of anything for"),
            "{every}"
        );
        assert!(all[1].ends_with("asked for by root (alice): upgrade\u{fffd}[2J"));
    }
}
