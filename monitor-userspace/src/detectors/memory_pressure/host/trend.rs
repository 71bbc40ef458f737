//! How fast the host's memory goes, and when it will be used up.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::float;
use crate::model::Time;

/// How far back it looks.
const WINDOW: Duration = Duration::from_millis(500);
/// Less than this tells nothing.
const LEAST: Duration = Duration::from_millis(20);
/// Most readings that are kept.
const READINGS: usize = 64;
/// Readings closer together than this are one.
const APART: Duration = Duration::from_millis(5);

/// Readings of late: available memory and free swap, bytes.
#[derive(Debug, Default)]
pub(super) struct Trend {
    readings: VecDeque<(Time, u64)>,
    now: Option<(Time, u64)>,
}

/// When it is used up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exhausted {
    /// The first reading that counts.
    pub(super) since: Time,
    /// Bytes a second.
    pub(super) speed: f64,
    pub(super) left: Duration,
}

impl Trend {
    pub(super) fn push(&mut self, at: Time, left: u64) {
        let backwards = self.now.is_some_and(|(now, _)| at < now);
        if backwards {
            self.readings.clear();
        }
        self.now = Some((at, left));
        let apart = self.readings.back();
        if apart.is_none_or(|(last, _)| at.since(*last) >= APART) {
            self.readings.push_back((at, left));
        }
        // One that is older than the window is kept as its edge only while there are no others.
        while self.readings.len() > 2
            && (self.readings.len() > READINGS
                || self
                    .readings
                    .front()
                    .is_some_and(|(first, _)| at.since(*first) > WINDOW))
        {
            self.readings.pop_front();
        }
    }

    /// Whether all is used up within this time, at the speed of late.
    pub(super) fn exhausted_in(&self, within: Duration) -> Option<Exhausted> {
        let (at, left) = self.now?;
        let (since, had) = *self.readings.front()?;
        let elapsed = at.since(since);
        if elapsed < LEAST || elapsed > WINDOW * 4 || left >= had {
            return None;
        }
        let speed = float(had - left) / elapsed.as_secs_f64();
        let until = float(left) / speed;
        (until < within.as_secs_f64()).then(|| Exhausted {
            since,
            speed,
            left: Duration::from_secs_f64(until),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn a_steady_loss_has_an_end_and_a_steady_level_has_none() {
        let mut trend = Trend::default();
        for step in 0..10 {
            trend.push(at(step * 10), 1000 << 20);
        }
        assert_eq!(trend.exhausted_in(Duration::from_hours(1)), None);
        for step in 1..=50 {
            trend.push(at(90 + step * 10), (1000 - step * 10) << 20);
        }
        // 1000 MiB/s, 500 MiB left.
        assert_eq!(trend.exhausted_in(Duration::from_millis(400)), None);
        let end = trend.exhausted_in(Duration::from_millis(600));
        let left = end.map(|end| end.left.as_millis());
        assert!(
            left.is_some_and(|left| (480..=520).contains(&left)),
            "{end:?}"
        );
    }

    #[test]
    fn one_step_between_two_readings_far_apart_is_no_trend_and_what_is_kept_is_bounded() {
        let mut trend = Trend::default();
        trend.push(at(0), 1000 << 20);
        trend.push(at(5_000), 10 << 20);
        assert_eq!(trend.exhausted_in(Duration::from_secs(10)), None);
        for step in 0..10_000 {
            trend.push(at(6_000 + step), 1 << 30);
        }
        assert!(trend.readings.len() <= READINGS);
        trend.push(at(1_000), 1);
        assert!(trend.readings.len() == 1, "a clock that goes back");
    }
}
