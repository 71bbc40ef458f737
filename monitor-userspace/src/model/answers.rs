//! How long a service took to answer over an interval.

use std::time::Duration;

use monitor_common::probes::service_latency::LatencyTotals;
use serde::{Deserialize, Serialize};

/// Exchanges of an interval: from a request's first data to the first of its response, without the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Length of the interval, nanoseconds.
    pub interval_ns: u64,
    /// How many ended in it.
    pub requests: u64,
    /// Half of them took no longer, nanoseconds; 0 where there were none.
    pub p50_ns: u64,
    /// 90 of 100 took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// In how many of them more data arrived before the response.
    pub overlapping: u64,
    /// Why the quantiles may be wrong; none where they can be relied upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<Uncertain>,
}

/// Why the quantiles may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncertain {
    /// More than one exchange of 20 overlaps with another on its connection (pipelining, multiplexing), or its request comes in parts.
    Overlapping,
}

/// One overlapping exchange in so many is too many.
const OVERLAPPING: u64 = 20;

impl Answers {
    /// What was counted in an interval.
    pub fn of(counted: &LatencyTotals, interval: Duration) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 69 s, and never below 0"
        )]
        let quantile = |share| counted.quantile_ns(share).map_or(0, |nanos| nanos as u64);
        let uncertain = counted.overlapping * OVERLAPPING > counted.requests;
        Self {
            interval_ns: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            requests: counted.requests,
            p50_ns: quantile(0.5),
            p90_ns: quantile(0.9),
            p99_ns: quantile(0.99),
            overlapping: counted.overlapping,
            uncertain: uncertain.then_some(Uncertain::Overlapping),
        }
    }

    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let (requests, interval) = (self.requests as f64, self.interval_ns as f64 / 1e9);
        if interval > 0.0 {
            requests / interval
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use monitor_common::probes::service_latency::bucket;

    use super::*;

    fn counted(ms: &[u64], overlapping: u64) -> LatencyTotals {
        let mut totals = LatencyTotals::NONE;
        for ms in ms {
            totals.buckets[bucket(ms * 1_000_000)] += 1;
            totals.requests += 1;
        }
        totals.overlapping = overlapping;
        totals
    }

    #[test]
    fn quantiles_and_rate_are_those_of_what_was_counted() {
        let ms: Vec<u64> = (1..=1_000).collect();
        let answers = Answers::of(&counted(&ms, 50), Duration::from_secs(4));
        assert!((answers.rate() - 250.0).abs() < 1e-9);
        for (value, expected) in [
            (answers.p50_ns, 500.0),
            (answers.p90_ns, 900.0),
            (answers.p99_ns, 990.0),
        ] {
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let ms = value as f64 / 1e6;
            assert!((ms / expected - 1.0).abs() < 0.02, "{ms} of {expected}");
        }
        assert_eq!(answers.uncertain, None, "one in 20");
        let answers = Answers::of(&counted(&ms, 51), Duration::from_secs(4));
        assert_eq!(answers.uncertain, Some(Uncertain::Overlapping));
    }

    #[test]
    fn without_requests_there_is_nothing_to_say() {
        let answers = Answers::of(&LatencyTotals::NONE, Duration::ZERO);
        assert_eq!((answers.p50_ns, answers.uncertain), (0, None));
        assert!(answers.rate().abs() < f64::EPSILON);
    }
}
