//! How often the host's memory is looked at. Pure.

use std::time::Duration;

use crate::model::Time;

/// Bytes a second that a host can touch at most (earlyoom assumes the same, 6 GiB/s); where twice what was seen is more, that counts.
const FILL: f64 = 6.0 * 1_073_741_824.0;
/// What was seen counts half after so many seconds.
const HALF_LIFE: f64 = 0.25;
/// Slower than so many bytes a second, nothing moves.
const MOVES: f64 = 16.0 * 1_048_576.0;
/// After so long without anything moving, looks are at least [`CALM`] apart.
const CALM_AFTER: Duration = Duration::from_secs(5);
const CALM: Duration = Duration::from_millis(20);
/// In an emergency that lasts, what comes back is looked at so often.
const RELIEF: Duration = Duration::from_millis(2);
/// Who has the memory is read once it will be low within this.
const AHEAD: Duration = Duration::from_millis(500);
/// ... at least so far apart, but at a crossing when the last reading is older than [`STALE`].
const CLAIMS: Duration = Duration::from_millis(20);
const STALE: Duration = Duration::from_millis(50);
const CLAIMS_AT_LEAST: Duration = Duration::from_secs(1);

/// What to do at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The reading is news.
    pub(super) tell: bool,
    /// Read who has the memory, first.
    pub(super) claims: bool,
    /// Until the next look.
    pub(super) wait: Duration,
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    fastest: Duration,
    last: Option<(Time, u64)>,
    /// How fast it went lately, bytes a second.
    seen: f64,
    moved: Option<Time>,
    told: Option<Time>,
    claimed: Option<Time>,
    /// How many of the two levels the last look was below.
    depth: u8,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory sizes need no more than 52 bits"
)]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// How long until so many bytes are used up at this rate; an hour at most.
fn until(bytes: u64, rate: f64) -> Duration {
    let seconds = float(bytes) / rate.max(1.0);
    Duration::from_secs_f64(seconds.min(3600.0))
}

impl Pace {
    pub(super) fn new(interval: Duration, fastest: Duration) -> Self {
        Self {
            interval,
            fastest: fastest.max(Duration::from_millis(1)),
            last: None,
            seen: 0.0,
            moved: None,
            told: None,
            claimed: None,
            depth: 0,
        }
    }

    pub(super) const fn interval(&self) -> Duration {
        self.interval
    }

    /// A reading, and below how much it is low and an emergency.
    pub(super) fn look(&mut self, now: Time, available: u64, (low, least): (u64, u64)) -> Look {
        self.measure(now, available);
        let depth = u8::from(available < low) + u8::from(available < least);
        let next = match depth {
            0 => low,
            1 => least,
            _ => 0,
        };
        let room = available - next;
        let age = |since: Option<Time>| since.map_or(Duration::MAX, |since| now.since(since));
        let crossed = depth > self.depth;
        let near = depth > 0 || (low > 0 && until(room, self.seen) < AHEAD);
        let often = (until(room, self.seen) / 4).clamp(CLAIMS, CLAIMS_AT_LEAST);
        let claims = near && (age(self.claimed) >= often || (crossed && age(self.claimed) > STALE));
        if claims {
            self.claimed = Some(now);
        }
        let tell = depth > 0 || self.depth > 0 || age(self.told) >= self.interval;
        if tell {
            self.told = Some(now);
        }
        self.depth = depth;
        let calm = age(self.moved) > CALM_AFTER;
        let fastest = if calm {
            self.fastest.max(CALM)
        } else {
            self.fastest
        };
        if low == 0 {
            // Nobody asks.
            let wait = self.interval;
            return Look { tell, claims, wait };
        }
        let mut wait = until(room, FILL.max(self.seen * 2.0));
        if depth == 2 && !calm {
            wait = wait.min(RELIEF);
        }
        Look {
            tell,
            claims,
            wait: wait.clamp(fastest.min(self.interval), self.interval),
        }
    }

    fn measure(&mut self, now: Time, available: u64) {
        let Some((then, before)) = self.last.replace((now, available)) else {
            self.moved = Some(now);
            return;
        };
        let seconds = now.since(then).as_secs_f64();
        if seconds < 0.0005 {
            self.last = Some((then, before));
            return;
        }
        let moved = (float(before) - float(available)) / seconds;
        if moved.abs() > MOVES {
            self.moved = Some(now);
        }
        let faded = self.seen * 0.5_f64.powf(seconds / HALF_LIFE);
        self.seen = moved.max(faded).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn at(millis: u64) -> Time {
        Time::default().after(Duration::from_millis(millis))
    }

    fn pace() -> Pace {
        Pace::new(Duration::from_secs(1), Duration::from_millis(1))
    }

    #[test]
    fn with_plenty_it_looks_once_an_interval_and_tells() {
        let mut pace = pace();
        for second in 0..10 {
            let look = pace.look(at(second * 1000), 20 * GIB, (2 * GIB, GIB));
            assert_eq!(look.wait, Duration::from_secs(1));
            assert!(look.tell && !look.claims, "{look:?}");
        }
    }

    #[test]
    fn it_is_never_later_than_what_could_use_up_the_room() {
        // From 8 GiB at 4 GiB/s: each look comes before the level could have been passed at the fastest that is possible.
        let (mut pace, mut millis) = (pace(), 0_u64);
        let mut looks = 0;
        loop {
            let available = (8 * GIB).saturating_sub(millis * GIB / 250);
            let look = pace.look(at(millis), available, (2 * GIB, GIB));
            if available < 2 * GIB {
                assert!(look.tell && (2 * GIB - available) < GIB / 50, "{look:?}");
                break;
            }
            looks += 1;
            millis += u64::try_from(look.wait.as_millis()).expect("short").max(1);
        }
        assert!(looks < 60, "{looks} looks");
    }

    #[test]
    fn who_has_the_memory_is_known_before_it_is_low() {
        let mut pace = pace();
        pace.look(at(0), 5 * GIB, (2 * GIB, GIB));
        let look = pace.look(at(200), 4 * GIB, (2 * GIB, GIB));
        assert!(look.claims, "5 GiB/s: low in 400 ms");
        let look = pace.look(at(210), 4 * GIB - GIB / 20, (2 * GIB, GIB));
        assert!(!look.claims, "just read");
        let look = pace.look(at(400), 2 * GIB - 1, (2 * GIB, GIB));
        assert!(look.claims && look.tell, "at the crossing: {look:?}");
    }

    #[test]
    fn a_host_that_is_low_for_long_is_looked_at_calmly_until_something_moves() {
        let mut pace = pace();
        let mut now = 0;
        let mut looks = 0;
        while now < 20_000 {
            let look = pace.look(at(now), 2 * GIB + 1, (2 * GIB, GIB));
            now += u64::try_from(look.wait.as_millis()).expect("short");
            looks += u64::from(now > 10_000);
        }
        assert!(looks < 600, "{looks} in 10 s");
        let look = pace.look(at(now), 2 * GIB - GIB / 100, (2 * GIB, 2 * GIB - GIB / 90));
        assert!(look.wait < CALM, "{look:?}");
    }

    #[test]
    fn where_nobody_asks_nothing_is_low() {
        let mut pace = pace();
        let look = pace.look(at(0), 100, (0, 0));
        assert!(!look.claims && look.wait == Duration::from_secs(1));
    }
}
