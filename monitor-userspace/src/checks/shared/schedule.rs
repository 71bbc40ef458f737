//! When a check is made: every interval, another one for some time after a release.
//!
//! Checks of the same interval are spread over it, by a number that is the same at every start of the daemon. A start that is missed is
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

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    phases: Vec<Phase>,
    /// When the release was put in place.
    released: Option<Instant>,
    next: Instant,
    /// Starts that were missed.
    missed: u64,
}

impl Schedule {
    /// `spread` is any number that is the check's own.
    pub fn new(interval: Duration, phases: &[Phase], spread: u64, now: Instant) -> Self {
        let nanos = u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        Self {
            interval,
            phases: phases.to_vec(),
            released: None,
            next: now + Duration::from_nanos(spread % nanos),
            missed: 0,
        }
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
