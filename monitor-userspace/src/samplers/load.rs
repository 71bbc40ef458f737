//! How busy the host is, and what its wall clock shows.
//!
//! Reads `/proc/loadavg` and `/proc/pressure/*` through files that stay open. The wall clock is told at the first reading, at once
//! when somebody sets it (the kernel says so), and when it has moved away from the monotonic one bit by bit.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::clock::{self, SetAlarm};
use crate::host::procfs;
use crate::model::{self, HostLoad, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "load",
    summary: "load average, pressure on CPU, memory and storage, and the wall clock",
};

/// `[samplers.load]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings.
    pub interval: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::seconds(1),
        }
    }
}

impl Config {
    /// Whether it can be run without eating the host.
    pub fn resolve(&self) -> Result<(), String> {
        super::not_too_often("interval", self.interval, Span::millis(100))
    }
}

/// A wall clock that has moved less than this against the monotonic one is told nothing of.
const MOVED: Duration = Duration::from_millis(100);

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    interval: Span,
    load: Option<File>,
    cpus: Option<File>,
    /// CPU, memory, storage.
    pressure: [Option<File>; 3],
    alarm: Option<SetAlarm>,
    /// How far the wall clock was ahead when it was told last.
    ahead: Option<i64>,
    limitation: Option<String>,
}

impl Sample {
    /// Opens its files.
    pub fn new(config: &Config, _: &mut Sources) -> Self {
        let open = |path: &str| File::open(path).ok();
        let pressure = ["cpu", "memory", "io"]
            .map(|what| open(&format!("/proc/pressure/{what}")))
            .map(|file| file.filter(|file| share(Some(file), "some ").is_some()));
        let alarm = SetAlarm::new();
        let mut missing = Vec::new();
        if pressure.iter().any(Option::is_none) {
            missing.push("the host's pressure is not known: the kernel needs CONFIG_PSI, and psi=1 on its command line where it is off by default".to_owned());
        }
        if let Err(error) = &alarm {
            missing.push(format!(
                "a wall clock that is set is noticed at the next reading only: {error}"
            ));
        }
        Self {
            interval: config.interval,
            load: open("/proc/loadavg"),
            cpus: open("/sys/devices/system/cpu/online"),
            pressure,
            alarm: alarm.ok(),
            ahead: None,
            limitation: (!missing.is_empty()).then(|| missing.join("; ")),
        }
    }

    fn load(&self) -> HostLoad {
        let [cpu, memory, io] = &self.pressure;
        let share = |file: &Option<File>, kind| share(file.as_ref(), kind).unwrap_or(0);
        let number = |file: &Option<File>, read: fn(&str) -> Option<u32>| {
            text(file.as_ref(), read).unwrap_or(0)
        };
        HostLoad {
            cpus: number(&self.cpus, procfs::count_cpus),
            load1: number(&self.load, procfs::load1),
            cpu_some: share(cpu, "some "),
            memory_some: share(memory, "some "),
            memory_full: share(memory, "full "),
            io_some: share(io, "some "),
            io_full: share(io, "full "),
        }
    }
}

/// A share of a pressure file; none when it cannot be read.
fn share(file: Option<&File>, kind: &str) -> Option<u32> {
    text(file, |text| procfs::avg10(text, kind))
}

/// What a small file of the kernel says from its beginning.
fn text<T>(file: Option<&File>, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut buffer = [0_u8; 512];
    let length = file?.read_at(&mut buffer, 0).ok()?;
    read(std::str::from_utf8(buffer.get(..length)?).ok()?)
}

/// Whether the wall clock is to be told: never was, was set, or is elsewhere by now. Both are nanoseconds ahead of the monotonic one.
fn is_news(told: Option<i64>, ahead: i64, set: bool) -> bool {
    let moved = told.map(|told| Duration::from_nanos(ahead.abs_diff(told)));
    set || moved.is_none_or(|moved| moved > MOVED)
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        let set = self.alarm.as_ref().is_some_and(SetAlarm::take);
        let (at, unix_ns) = (clock::now(), clock::unix_nanos());
        let ahead = unix_ns.saturating_sub(at.nanos());
        if is_news(self.ahead, ahead, set) {
            self.ahead = Some(ahead);
            out.push((at, model::Sample::Clock { unix_ns }));
        }
        let load = self.load();
        out.push((now, model::Sample::Load { load }));
        now.after(self.interval.0)
    }

    fn nudge(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(SetAlarm::fd)
    }

    fn limitation(&self) -> Option<String> {
        self.limitation.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_was_set_or_has_moved_is_told() {
        let second = 1_000_000_000;
        let cases = [
            (None, 5, false, true),
            (Some(5), 5, false, false),
            (Some(0), second / 10, false, false),
            (Some(0), second / 10 + 1, false, true),
            (Some(0), -second, false, true),
            (Some(i64::MAX), i64::MIN, false, true),
            (Some(5), 5, true, true),
        ];
        for (told, ahead, set, news) in cases {
            assert_eq!(is_news(told, ahead, set), news, "{told:?} {ahead} {set}");
        }
    }
}
