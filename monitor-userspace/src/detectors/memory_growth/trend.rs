//! Whether a series of readings rises, how fast, and how steadily. Pure arithmetic on at most some 60 points.
//!
//! The slope is Theil's and Sen's: the median of the slopes between all pairs of points, which a third of outliers does not move.
//! That of the last third alone is taken too: what levels off is projected with its pace of now, not with that of its beginning.

use std::time::Duration;

use crate::model::Time;

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detectors) struct Point {
    pub(in crate::detectors) at: Time,
    pub(in crate::detectors) bytes: u64,
}

/// A year: what takes longer takes for ever.
const FOR_EVER: f64 = 31_536_000.0;
/// Falls may be at most this share of all rises ...
const FALLS: f64 = 0.1;
/// ... and one step in so many must rise: one leap is no trend.
const RISING: usize = 2;

/// What the points say together.
#[derive(Clone, Copy, Debug)]
pub(in crate::detectors) struct Trend {
    /// The slope to count on, bytes a second; negative when it shrinks.
    pub(in crate::detectors) per_second: f64,
    rises: f64,
    falls: f64,
    rising: usize,
    steps: usize,
}

impl Trend {
    pub(in crate::detectors) fn of(points: &[Point]) -> Self {
        let recent = points.len() - points.len() / 3;
        // Two points make a slope, but no trend.
        let recent = recent.min(points.len().saturating_sub(4));
        let last_third = points.get(recent..).unwrap_or_default();
        let mut trend = Self {
            per_second: slope(points).min(slope(last_third)),
            rises: 0.0,
            falls: 0.0,
            rising: 0,
            steps: points.len().saturating_sub(1),
        };
        for (earlier, later) in points.iter().zip(points.iter().skip(1)) {
            let change = difference(earlier.bytes, later.bytes);
            if change > 0.0 {
                trend.rises += change;
                trend.rising += 1;
            } else {
                trend.falls -= change;
            }
        }
        trend
    }

    /// Whether it rises most of the time and hardly ever falls: no saw of a garbage collector, no single leap.
    pub(in crate::detectors) fn is_steady(&self) -> bool {
        self.falls <= self.rises * FALLS && self.rising * RISING >= self.steps
    }

    /// When so many more bytes will have been taken; none when it does not rise, or not within a year.
    pub(in crate::detectors) fn reaches(&self, left: f64) -> Option<Duration> {
        let seconds = left / self.per_second;
        (self.per_second > 0.0 && (0.0..FOR_EVER).contains(&seconds))
            .then(|| Duration::from_secs_f64(seconds))
    }
}

/// The median slope between all pairs, bytes a second; 0 when there is none.
fn slope(points: &[Point]) -> f64 {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (n, earlier) in points.iter().enumerate() {
        for later in points.iter().skip(n + 1) {
            let seconds = later.at.since(earlier.at).as_secs_f64();
            if seconds > 0.0 {
                slopes.push(difference(earlier.bytes, later.bytes) / seconds);
            }
        }
    }
    if slopes.is_empty() {
        return 0.0;
    }
    let middle = slopes.len() / 2;
    let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    *median
}

fn difference(earlier: u64, later: u64) -> f64 {
    super::float(later) - super::float(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn points(of: impl Fn(u64) -> u64) -> Vec<Point> {
        let point = |n: u64| Point {
            at: Time::from_nanos(i64::try_from(n).expect("small") * 10_000_000_000),
            bytes: of(n),
        };
        (0..60).map(point).collect()
    }

    fn mib_a_minute(trend: Trend) -> f64 {
        trend.per_second * 60.0 / super::super::MIB
    }

    #[test]
    fn a_steady_rise_is_found_through_noise_and_outliers() {
        let noisy = |n: u64| {
            let noise = if n.is_multiple_of(3) { 300 << 10 } else { 0 };
            let outlier = if n % 10 == 7 { 3 * MIB } else { 0 };
            100 * MIB + n * 2 * MIB + noise + outlier
        };
        let trend = Trend::of(&points(noisy));
        assert!((mib_a_minute(trend) - 12.0).abs() < 0.5, "{trend:?}");
        let trend = Trend::of(&points(|n| 100 * MIB + n * 2 * MIB));
        assert!(trend.is_steady());
        let left = trend.reaches(120.0 * super::super::MIB).expect("it rises");
        assert_eq!(left.as_secs(), 600);
    }

    #[test]
    fn a_saw_a_leap_and_what_levels_off_are_no_trend() {
        let saw = Trend::of(&points(|n| 100 * MIB + (n % 12) * 8 * MIB));
        assert!(!saw.is_steady(), "{saw:?}");
        let leap = Trend::of(&points(|n| if n < 50 { 100 * MIB } else { 900 * MIB }));
        assert!(!leap.is_steady(), "{leap:?}");
        let cache = Trend::of(&points(|n| n.min(30) * 10 * MIB));
        assert_eq!(cache.reaches(1e9), None, "{cache:?}");
        let slower = Trend::of(&points(|n| n.isqrt() * 100 * MIB));
        assert!(mib_a_minute(slower) < 60.0, "{slower:?}");
    }

    #[test]
    fn nothing_is_too_strange() {
        for series in [vec![], points(|_| u64::MAX), points(|n| u64::MAX / (n + 1))] {
            let trend = Trend::of(&series);
            assert_eq!(trend.reaches(1.0), None);
        }
        let same_time = [0, 1, 2, 3, 4, 5].map(|bytes| Point {
            at: Time::default(),
            bytes,
        });
        assert_eq!(Trend::of(&same_time).reaches(1.0), None);
        let mut backwards = points(|n| n);
        backwards.reverse();
        assert_eq!(Trend::of(&backwards).reaches(1.0), None);
    }
}
