//! `disk = { path = "/var", free = "10%" }`: there is room on a file system, it can be written to, and it will not be full soon.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::alone::Alone;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::{Level, Percent, Span};
use crate::host::mounts;
use crate::model::{CheckFailure, Room};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "disk",
    summary: "a file system has room, can be written to, and will not be full soon",
    serving: false,
    short: "path",
    example: "disk = { path = \"/var\", free = \"10%\", inodes = \"5%\", forecast = \"24h\" }",
    read: read::<Disk>,
};

/// `disk = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    /// A path on it.
    path: PathBuf,
    /// Room that is left at least: a share of all, or a size.
    #[serde(default = "tenth")]
    free: Level,
    /// Inodes that are left at least, where the file system counts them.
    #[serde(default = "twentieth")]
    inodes: Percent,
    /// It is mounted to be written to.
    #[serde(default = "yes")]
    writable: bool,
    /// It is not full sooner than this, if it goes on as since the check began.
    forecast: Option<Span>,
    #[serde(skip)]
    trend: Alone<Trend>,
}

const fn tenth() -> Level {
    Level::Share(Percent(10.0))
}

const fn twentieth() -> Percent {
    Percent(5.0)
}

const fn yes() -> bool {
    true
}

impl Settings for Disk {
    fn sensible(self) -> Result<Self, String> {
        if !self.path.is_absolute() {
            return Err(format!("`{}` is no absolute path", self.path.display()));
        }
        let share = match self.free {
            Level::Share(share) => share.0,
            Level::Size(_) => 0.0,
        };
        if share >= 100.0 || self.inodes.0 >= 100.0 {
            return Err("`free` and `inodes` are less than 100%".to_owned());
        }
        if self
            .forecast
            .is_some_and(|span| span.0 < Duration::from_mins(1))
        {
            return Err("`forecast` is at least 1m".to_owned());
        }
        Ok(self)
    }
}

impl Check for Disk {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        let path = self.path.clone();
        let look = move |trend: &mut Trend| {
            let failed = |error: std::io::Error| {
                CheckFailure::Answer(format!("{} cannot be looked at: {error}", path.display()))
            };
            // Where its last link leads to, which may be another file system.
            let real = path.canonicalize().map_err(failed)?;
            let (device, room) = mounts::room_at(&real).map_err(failed)?;
            let all = mounts::all().map_err(failed)?;
            let mount = mounts::of(&all, &real);
            let full_in = trend.full_in(Instant::now(), device, room.available);
            Ok(Seen {
                place: mount.map_or_else(|| path.clone(), |mount| mount.place.clone()),
                writable: mount.is_none_or(|mount| mount.writable),
                room,
                full_in,
            })
        };
        Box::pin(async move {
            let seen = self.trend.block(look).await?;
            self.judge(&seen)
        })
    }
}

/// What was found.
struct Seen {
    place: PathBuf,
    writable: bool,
    room: Room,
    /// When it is full, if it goes on so; and over which time that was seen.
    full_in: Option<(Duration, Duration)>,
}

/// A forecast is worth something after this share of its time, within these bounds.
const OBSERVED: u32 = 96;
const OBSERVED_WITHIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(1));

impl Disk {
    #[expect(clippy::cast_precision_loss, reason = "figures need no exact bytes")]
    fn judge(&self, seen: &Seen) -> Result<Answer, CheckFailure> {
        let room = &seen.room;
        let mut troubles = Vec::new();
        if self.writable && !seen.writable {
            troubles.push(
                "it is mounted read-only: the kernel does that after errors of the disk".to_owned(),
            );
        }
        let whole = room.used.saturating_add(room.available);
        if whole == 0 {
            troubles.push("it is a file system that stores nothing".to_owned());
        }
        let share = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        let free = share(room.available, whole);
        if room.available < self.free.of(whole) {
            troubles.push(format!(
                "{free:.1}% free ({}MiB), expected at least {}",
                room.available >> 20,
                self.free
            ));
        }
        let inodes = room.inodes_used.saturating_add(room.inodes_left);
        let inodes_free = share(room.inodes_left, inodes);
        if inodes > 0 && inodes_free < self.inodes.0 {
            troubles.push(format!(
                "{inodes_free:.1}% of the inodes free, expected at least {}",
                self.inodes
            ));
        }
        if let Some(forecast) = self.forecast
            && let Some((full, over)) = seen.full_in
        {
            let enough = (forecast.0 / OBSERVED).clamp(OBSERVED_WITHIN.0, OBSERVED_WITHIN.1);
            if full < forecast.0 && over >= enough {
                let (full, over) = (Span::seconds(full.as_secs()), Span::seconds(over.as_secs()));
                troubles.push(format!("full in {full}, if it goes on as in the last {over}; expected not within {forecast}"));
            }
        }
        if !troubles.is_empty() {
            let why = format!("{}: {}", seen.place.display(), troubles.join("; "));
            return Err(CheckFailure::Answer(why));
        }
        let mut answer = Answer::well()
            .with("free_bytes", room.available as f64)
            .with("free_percent", free)
            .saying(format!("{}: {free:.1}% free", seen.place.display()));
        if inodes > 0 {
            answer = answer.with("inodes_free_percent", inodes_free);
        }
        if let Some((full, _)) = seen.full_in {
            answer = answer.took("full_in", full);
        }
        Ok(answer)
    }
}

/// Most samples that are kept; then every other one goes.
const SAMPLES: usize = 128;
/// Fewest samples that make a trend.
const FEWEST: usize = 5;

/// Room over time, since the check began.
#[derive(Debug, Default)]
struct Trend {
    device: u64,
    samples: Vec<(Instant, u64)>,
    /// Time between two that are kept.
    apart: Duration,
}

impl Trend {
    /// Takes a sample. When it is full, by a straight line through all of them, and the time they span.
    fn full_in(
        &mut self,
        now: Instant,
        device: u64,
        available: u64,
    ) -> Option<(Duration, Duration)> {
        if self.device != device {
            *self = Self {
                device,
                ..Self::default()
            };
        }
        let last = self.samples.last().map(|(at, _)| now.duration_since(*at));
        if last.is_none_or(|since| since >= self.apart) {
            self.samples.push((now, available));
        }
        if self.samples.len() >= SAMPLES {
            let mut odd = false;
            self.samples.retain(|_| {
                odd = !odd;
                odd
            });
            let (first, last) = (self.samples.first()?.0, self.samples.last()?.0);
            let between =
                u32::try_from(self.samples.len().saturating_sub(1).max(1)).unwrap_or(u32::MAX);
            self.apart = last.duration_since(first) / between;
        }
        let over = now.duration_since(self.samples.first()?.0);
        let slope = self.slope().filter(|_| self.samples.len() >= FEWEST)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a forecast needs no exact bytes"
        )]
        let seconds = available as f64 / -slope;
        let full = (slope < 0.0).then(|| Duration::try_from_secs_f64(seconds).ok())?;
        Some((full?, over))
    }

    /// Bytes a second, by least squares.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a forecast needs no exact bytes"
    )]
    fn slope(&self) -> Option<f64> {
        let (begin, first) = *self.samples.first()?;
        let count = self.samples.len() as f64;
        let points = || {
            self.samples.iter().map(|(at, bytes)| {
                (
                    at.duration_since(begin).as_secs_f64(),
                    *bytes as f64 - first as f64,
                )
            })
        };
        let mean_x = points().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points().map(|(_, y)| y).sum::<f64>() / count;
        let over = points()
            .map(|(x, y)| (x - mean_x) * (y - mean_y))
            .sum::<f64>();
        let under = points().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        (under > 0.0).then(|| over / under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Disk, String> {
        toml::from_str::<Disk>(text)
            .map_err(|error| error.to_string())?
            .sensible()
    }

    fn seen(available: u64) -> Seen {
        Seen {
            place: "/var".into(),
            writable: true,
            room: Room {
                used: 100 - available,
                available,
                inodes_used: 50,
                inodes_left: 50,
            },
            full_in: None,
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "path = \"var\"",
            "path = \"/\"\nfree = \"100%\"",
            "path = \"/\"\nforecast = \"1s\"",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_short_is_said() {
        let disk = settings("path = \"/var\"\nforecast = \"24h\"").expect("it makes sense");
        assert!(disk.judge(&seen(10)).is_ok());
        let mut bad = seen(9);
        bad.writable = false;
        bad.room.inodes_left = 1;
        bad.full_in = Some((Duration::from_hours(2), Duration::from_hours(1)));
        let why = disk.judge(&bad).expect_err("all is wrong").to_string();
        for part in ["read-only", "9.0% free", "2.0% of the inodes", "full in 2h"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        let mut early = seen(50);
        early.full_in = Some((Duration::from_hours(2), Duration::from_mins(1)));
        assert!(disk.judge(&early).is_ok(), "a minute says little of a day");
    }

    #[test]
    fn a_trend_is_a_line_through_bounded_samples() {
        let (mut trend, start) = (Trend::default(), Instant::now());
        let mut last = None;
        for second in 0..10_000 {
            let now = start + Duration::from_secs(second);
            last = trend.full_in(now, 1, 1_000_000 - 10 * second);
            assert!(trend.samples.len() < SAMPLES);
        }
        let (full, over) = last.expect("it gets less");
        assert_eq!(over.as_secs(), 9999);
        assert!((89_000..91_500).contains(&full.as_secs()), "{full:?}");
        assert_eq!(
            trend.full_in(start + Duration::from_secs(20_000), 2, 7),
            None,
            "another file system"
        );
        let mut steady = Trend::default();
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert_eq!(steady.full_in(now, 1, 500 + second), None);
        }
    }
}
