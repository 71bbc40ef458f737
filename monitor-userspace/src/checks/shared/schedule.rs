//! When a check is made: every interval, another one for some time after a release.
//!
//! Checks of the same interval are spread over it (over its first 10 s where it is longer), by a number that is the same at every start of the daemon. A start that is missed is
//! not made up for, but counted.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::config::units::Span;

/// Another interval, until so long after a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Until so long after the release.
    pub until: Span,
    /// The interval meanwhile.
    pub every: Span,
}

/// Most phases.
const PHASES: usize = 16;

/// Checks that are due within this time begin together: waking for each costs more than most of them do.
const TOGETHER: Duration = Duration::from_millis(20);

/// The first check is made within this time, however long the interval is: what is wrong now must not wait for a daily check's turn.
const FIRST: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    /// Checks begin so many whole [`TOGETHER`] after this, all of them.
    origin: Instant,
    interval: Duration,
    phases: Vec<Phase>,
    /// When the release was put in place.
    released: Option<Instant>,
    next: Instant,
    /// Starts that were missed.
    missed: u64,
}

impl Schedule {
    /// `spread` is any number that is the check's own; `origin` is the same for all that are to begin together.
    pub fn new(interval: Duration, phases: &[Phase], spread: u64, origin: Instant) -> Self {
        let within = interval.min(FIRST);
        let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let place = Duration::from_nanos(spread % nanos.max(1));
        let mut schedule = Self {
            origin,
            interval,
            phases: phases.to_vec(),
            released: None,
            next: origin + place,
            missed: 0,
        };
        schedule.next = schedule.together(schedule.next, interval);
        schedule
    }

    /// The time at or before this one at which others begin too; as it is where the interval is too short for that to be the same.
    fn together(&self, at: Instant, interval: Duration) -> Instant {
        if interval < 10 * TOGETHER {
            return at;
        }
        let after = at.saturating_duration_since(self.origin);
        let beyond = after.as_nanos() % TOGETHER.as_nanos();
        at - Duration::from_nanos(u64::try_from(beyond).unwrap_or(0))
    }

    /// Whether phases make sense.
    pub fn check(phases: &[Phase]) -> Result<(), String> {
        if phases.len() > PHASES {
            return Err(format!("`after_release` can have at most {PHASES} phases"));
        }
        if phases
            .iter()
            .any(|phase| phase.every.0 < Duration::from_millis(10))
        {
            return Err("`every` in `after_release` must be at least 10ms".to_owned());
        }
        let mut ends = phases.iter().map(|phase| phase.until.0);
        let mut last = Duration::ZERO;
        if ends.any(|end| end <= std::mem::replace(&mut last, end)) {
            return Err(
                "each `until` in `after_release` must be later than the one before".to_owned(),
            );
        }
        Ok(())
    }

    /// A release was put in place.
    pub fn released(&mut self, now: Instant) {
        self.released = Some(now);
        self.next = self.next.min(now + self.interval_at(now));
    }

    /// The interval that is in force.
    pub fn interval_at(&self, now: Instant) -> Duration {
        let since = self
            .released
            .map(|released| now.saturating_duration_since(released));
        let phase = since.and_then(|since| self.phases.iter().find(|phase| since < phase.until.0));
        phase.map_or(self.interval, |phase| phase.every.0)
    }

    /// When the next check is to start.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// A check was made, begun when it was to or later: the next one is after `now`.
    pub fn made(&mut self, now: Instant) {
        let interval = self.interval_at(now);
        self.next += interval;
        if self.next < now {
            let behind = now.saturating_duration_since(self.next);
            let nanos = interval.as_nanos().max(1);
            let whole = behind.as_nanos() / nanos + 1;
            self.missed = self
                .missed
                .saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
            let skip = u32::try_from(whole).unwrap_or(u32::MAX);
            self.next += interval.saturating_mul(skip);
        }
        let together = self.together(self.next, interval);
        self.next = if together < now {
            together + TOGETHER
        } else {
            together
        };
    }

    /// The next check is now: another was made out of turn.
    pub fn restart(&mut self, now: Instant) {
        self.next = now;
    }

    /// Starts that were missed since the beginning.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn checks_keep_their_interval_and_begin_together() {
        let origin = Instant::now();
        for spread in [0, 7, 123_456_789, u64::MAX] {
            let mut schedule = Schedule::new(1000 * MS, &[], spread, origin);
            let first = schedule.next();
            assert!(first < origin + 1000 * MS);
            assert_eq!((first - origin).as_millis() % 20, 0);
            schedule.made(first + 3 * MS);
            assert_eq!(schedule.next(), first + 1000 * MS);
            assert_eq!(schedule.missed(), 0);
            schedule.made(first + 3500 * MS);
            assert_eq!(schedule.next(), first + 4000 * MS);
            assert_eq!(schedule.missed(), 2);
        }
    }

    #[test]
    fn the_first_of_a_daily_check_is_soon_and_the_next_a_day_later() {
        let origin = Instant::now();
        let day = Duration::from_hours(24);
        for spread in [0, 7, 123_456_789, u64::MAX] {
            let mut schedule = Schedule::new(day, &[], spread, origin);
            let first = schedule.next();
            assert!(first < origin + FIRST);
            schedule.made(first + 3 * MS);
            assert_eq!(schedule.next(), first + day);
        }
    }

    #[test]
    fn one_out_of_turn_finds_back_and_a_short_interval_is_kept_as_it_is() {
        let origin = Instant::now();
        let mut schedule = Schedule::new(1000 * MS, &[], 0, origin);
        schedule.restart(origin + 333 * MS);
        assert_eq!(schedule.next(), origin + 333 * MS);
        schedule.made(origin + 334 * MS);
        assert_eq!(schedule.next(), origin + 1320 * MS);
        let mut short = Schedule::new(50 * MS, &[], 0, origin);
        short.restart(origin + 33 * MS);
        short.made(origin + 34 * MS);
        assert_eq!(short.next(), origin + 83 * MS);
    }

    #[test]
    fn after_a_release_other_intervals_hold_for_some_time() {
        let phase = |until: u64, every: u64| Phase {
            until: Span::millis(until),
            every: Span::millis(every),
        };
        let phases = [phase(2_000, 100), phase(4_000, 500)];
        let origin = Instant::now();
        let mut schedule = Schedule::new(60_000 * MS, &phases, 59_000_000_000, origin);
        let at = origin + 10 * MS;
        assert_eq!(schedule.interval_at(at), 60_000 * MS);
        schedule.released(at);
        assert_eq!(schedule.next(), at + 100 * MS);
        assert_eq!(schedule.interval_at(at + 1_999 * MS), 100 * MS);
        assert_eq!(schedule.interval_at(at + 2_000 * MS), 500 * MS);
        assert_eq!(schedule.interval_at(at + 4_000 * MS), 60_000 * MS);
    }
}
