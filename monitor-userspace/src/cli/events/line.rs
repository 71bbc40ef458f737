//! An event as a line of aligned columns. With every probe asked for, what comes before WHAT is 80 columns wide.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use monitor_common::Event;

use super::resolve::Resolver;
use super::{changes, describe, text};
use crate::cli::render::{Paint, Style, add, clean};
use crate::host::clock;
use crate::model::Time;
use crate::model::network::NetworkChange;
use crate::model::who::Identity;

/// As wide as the names of processes that are text.
const COMM: usize = 15;
/// `4194304` is the largest process id.
const PID: usize = 7;
const WHERE: usize = 24;

/// How times are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TimeForm {
    /// HH:MM:SS.mmm of this machine.
    Clock,
    /// Date and time in UTC, with nanoseconds, as in JSON.
    Rfc3339,
    /// Seconds since this command began to watch.
    Relative,
    /// Seconds of `CLOCK_MONOTONIC`, the kernel's own clock.
    Monotonic,
}

/// From the kernel's clock to the wall's.
#[derive(Debug)]
pub(super) struct Clock {
    form: TimeForm,
    zone: TimeZone,
    began: Time,
    /// What is added to the kernel's clock.
    offset: i64,
}

impl Clock {
    /// Of which the offset is measured now: a clock that is set later, or a machine that is suspended, is not noticed.
    pub(super) fn measure(form: TimeForm) -> Self {
        // The narrowest of some readings is the one that was not interrupted.
        let readings = (0..8).map(|_| {
            let (before, wall, after) = (clock::now(), clock::unix_nanos(), clock::now());
            let span = after.since(before);
            let middle = before.after(span / 2);
            (span, wall.saturating_sub(middle.nanos()))
        });
        Self {
            form,
            zone: TimeZone::system(),
            began: clock::now(),
            offset: readings.min().map_or(0, |(_, offset)| offset),
        }
    }

    /// When the kernel saw it.
    pub(super) fn show(&self, event: &Event) -> String {
        self.show_at(Time::from_kernel(event.time_ns()))
    }

    fn show_at(&self, at: Time) -> String {
        match self.form {
            TimeForm::Clock => {
                let zoned = self.stamp(at).to_zoned(self.zone.clone());
                zoned.strftime("%H:%M:%S%.3f").to_string()
            }
            TimeForm::Rfc3339 => self.rfc3339_at(at),
            TimeForm::Relative => seconds(at.since(self.began)),
            TimeForm::Monotonic => seconds(at.since(Time::from_nanos(0))),
        }
    }

    /// Date and time in UTC, with nanoseconds.
    pub(super) fn rfc3339(&self, event: &Event) -> String {
        self.rfc3339_at(Time::from_kernel(event.time_ns()))
    }

    /// The same, of this moment.
    pub(super) fn rfc3339_at(&self, at: Time) -> String {
        format!("{:.9}", self.stamp(at))
    }

    fn stamp(&self, at: Time) -> Timestamp {
        let wall = at.nanos().saturating_add(self.offset);
        Timestamp::from_nanosecond(i128::from(wall)).unwrap_or_default()
    }

    const fn width(&self) -> usize {
        match self.form {
            TimeForm::Clock => 12,
            TimeForm::Rfc3339 => 30,
            TimeForm::Relative => 11,
            TimeForm::Monotonic => 15,
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

/// The columns.
#[derive(Debug)]
pub(super) struct Columns {
    probe: usize,
    /// Whether a long place is cut: for a screen, not for a file.
    cut: bool,
    paint: Paint,
}

impl Columns {
    /// For events of these names.
    pub(super) fn new(names: &[&str], cut: bool, paint: Paint) -> Self {
        let names = names.iter().map(|name| name.len());
        let probe = names.max().unwrap_or(0).max("PROBE".len());
        Self { probe, cut, paint }
    }

    /// The headings.
    pub(super) fn heading(&self, clock: &Clock) -> String {
        let (time, probe) = (clock.width(), self.probe);
        let text = format!(
            "{:time$} {:probe$} {:>PID$} {:COMM$} {:WHERE$} WHAT",
            "TIME", "PROBE", "PID", "COMM", "WHERE"
        );
        self.paint.apply(Style::Heading, &text) + "\n"
    }

    /// Appends the line of an event. `holders` processes have its socket, where that is how its process was found.
    pub(super) fn line(
        &self,
        out: &mut String,
        event: &Event,
        holders: Option<usize>,
        clock: &Clock,
        resolver: &mut Resolver,
    ) {
        let time = format!("{:>width$}", clock.show(event), width = clock.width());
        let name = format!("{:width$}", event.kind().name(), width = self.probe);
        let name = match describe::style(event) {
            Some(style) => self.paint.apply(style, &name),
            None => name,
        };
        let task = event.task();
        let comm = text::printable(text::name_of(&task.comm));
        let place = place(resolver.place(event).as_ref(), task.cgroup_id);
        let place = self.fit(&place);
        let mut what = describe::what(event, resolver);
        if let Some(holders @ 2..) = holders {
            add(
                &mut what,
                format_args!("; {holders} processes have the socket"),
            );
        }
        add(
            out,
            format_args!(
                "{} {name} {:>PID$} {comm:COMM$} {place:WHERE$} {what}\n",
                self.paint.apply(Style::Dim, &time),
                task.pid,
            ),
        );
    }

    /// Appends the line of a change of the network, which is no process's.
    pub(super) fn change(&self, out: &mut String, change: &NetworkChange, at: Time, clock: &Clock) {
        let time = format!("{:>width$}", clock.show_at(at), width = clock.width());
        let name = format!("{:width$}", changes::NAME, width = self.probe);
        let name = match changes::style(change) {
            Some(style) => self.paint.apply(style, &name),
            None => name,
        };
        let time = self.paint.apply(Style::Dim, &time);
        let what = clean(&changes::what(change));
        add(
            out,
            format_args!(
                "{time} {name} {:>PID$} {:COMM$} {:WHERE$} {what}\n",
                "-", "-", "-"
            ),
        );
    }

    fn fit(&self, place: &str) -> String {
        let place = clean(place);
        if !self.cut || place.chars().count() <= WHERE {
            return place;
        }
        let mut short: String = place.chars().take(WHERE - 1).collect();
        short.push('…');
        short
    }
}

/// Where: container, unit, or else the cgroup.
pub(super) fn place(identity: Option<&Identity>, cgroup_id: u64) -> String {
    let known = identity.and_then(|identity| {
        let place = identity.place.describe();
        place.or_else(|| identity.cgroup.clone())
    });
    known.unwrap_or_else(|| match cgroup_id {
        0 => "-".to_owned(),
        id => format!("cgroup {id}"),
    })
}

#[cfg(test)]
mod tests {
    use monitor_common::Kind;

    use super::super::samples;
    use super::*;

    fn clock(form: TimeForm) -> Clock {
        Clock {
            form,
            zone: TimeZone::UTC,
            began: Time::from_nanos(4_000_000_000),
            offset: 1_795_322_510_000_000_007,
        }
    }

    #[test]
    fn times_are_shown_in_every_form() {
        let event = samples::exit(0);
        for (form, shown) in [
            (TimeForm::Clock, "04:41:55.000"),
            (TimeForm::Rfc3339, "2026-11-22T04:41:55.000000007Z"),
            (TimeForm::Relative, "1.000000"),
            (TimeForm::Monotonic, "5.000000"),
        ] {
            assert_eq!(clock(form).show(&event), shown);
        }
        let garbage = samples::filled(Kind::ProcessExit, || 0xff);
        assert!(clock(TimeForm::Rfc3339).show(&garbage).ends_with('Z'));
    }

    #[test]
    fn columns_are_aligned_under_their_headings() {
        let names = ["run_queue_latency", "process_exit"];
        let columns = Columns::new(&names, true, Paint::none());
        let clock = clock(TimeForm::Clock);
        let heading = columns.heading(&clock);
        let mut line = String::new();
        let mut resolver = Resolver::none();
        columns.line(&mut line, &samples::exit(0), None, &clock, &mut resolver);
        assert_eq!(
            line,
            "04:41:55.000 process_exit         4242 web             cgroup 77                exit code 0 after 12.3 ms\n"
        );
        assert_eq!(
            (heading.find("WHAT"), line.find("exit code")),
            (Some(80), Some(80))
        );
        assert_eq!(columns.fit(&"x".repeat(25)).chars().count(), WHERE);
    }
}
