//! What a service knows of itself: recent requests, totals, its own CPU and memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::load::kib_of;

/// "Recent" is this long, ...
const WINDOW: Duration = Duration::from_secs(10);
/// ... and at most so many requests.
const WINDOW_REQUESTS: usize = 1024;

/// Upper bounds of the histogram of request durations, seconds.
pub(super) const BOUNDS: [f64; 9] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

#[derive(Debug)]
pub(super) struct Stats {
    recent: VecDeque<Recent>,
    /// Requests served, by status code.
    pub(super) served: BTreeMap<u16, u64>,
    /// How many took at most [`BOUNDS`] of the same index, not counting those of earlier ones.
    pub(super) buckets: [u64; BOUNDS.len()],
    /// Sum of their durations, seconds.
    pub(super) seconds: f64,
    /// The last sign of life.
    pub(super) heartbeat: SystemTime,
    /// CPU used between the last two signs of life, per cent of one core.
    cpu_percent: f64,
    cpu_read: (Instant, Duration),
}

#[derive(Debug)]
struct Recent {
    at: Instant,
    /// None for a call to a peer: its duration is not ours.
    latency: Option<Duration>,
    failed: bool,
}

/// The recent past in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    pub(super) mean_seconds: f64,
    pub(super) p99_seconds: f64,
    /// Share of requests and calls that failed, 0 to 1.
    pub(super) error_ratio: f64,
    pub(super) cpu_percent: f64,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            recent: VecDeque::new(),
            served: BTreeMap::new(),
            buckets: [0; BOUNDS.len()],
            seconds: 0.0,
            heartbeat: SystemTime::now(),
            cpu_percent: 0.0,
            cpu_read: (Instant::now(), cpu_time()),
        }
    }

    /// A request was answered.
    pub(super) fn request(&mut self, code: u16, latency: Duration) {
        *self.served.entry(code).or_default() += 1;
        let seconds = latency.as_secs_f64();
        self.seconds += seconds;
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = bucket.and_then(|at| self.buckets.get_mut(at)) {
            *count += 1;
        }
        self.remember(Some(latency), code >= 500);
    }

    /// A call to a peer came back, or did not.
    pub(super) fn call(&mut self, failed: bool) {
        self.remember(None, failed);
    }

    /// A sign of life.
    pub(super) fn beat(&mut self) {
        self.heartbeat = SystemTime::now();
        let (then, before) = self.cpu_read;
        let (now, used) = (Instant::now(), cpu_time());
        let elapsed = now.duration_since(then).as_secs_f64();
        if elapsed > 0.0 {
            self.cpu_percent = used.saturating_sub(before).as_secs_f64() / elapsed * 100.0;
            self.cpu_read = (now, used);
        }
    }

    /// The recent past in numbers.
    pub(super) fn summary(&mut self) -> Summary {
        self.forget(Instant::now());
        let mut latencies: Vec<Duration> = self.recent.iter().filter_map(|r| r.latency).collect();
        latencies.sort_unstable();
        let failed = self.recent.iter().filter(|r| r.failed).count();
        Summary {
            mean_seconds: ratio(
                latencies.iter().sum::<Duration>().as_secs_f64(),
                latencies.len(),
            ),
            p99_seconds: latencies
                .get((latencies.len() * 99).div_ceil(100).saturating_sub(1))
                .map_or(0.0, Duration::as_secs_f64),
            error_ratio: ratio(
                f64::from(u32::try_from(failed).unwrap_or(u32::MAX)),
                self.recent.len(),
            ),
            cpu_percent: self.cpu_percent,
        }
    }

    fn remember(&mut self, latency: Option<Duration>, failed: bool) {
        let at = Instant::now();
        self.forget(at);
        if self.recent.len() >= WINDOW_REQUESTS {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            at,
            latency,
            failed,
        });
    }

    fn forget(&mut self, now: Instant) {
        while self
            .recent
            .front()
            .is_some_and(|old| now.duration_since(old.at) > WINDOW)
        {
            self.recent.pop_front();
        }
    }
}

fn ratio(sum: f64, count: usize) -> f64 {
    match u32::try_from(count) {
        Ok(0) | Err(_) => 0.0,
        Ok(count) => sum / f64::from(count),
    }
}

/// CPU time of this process, all threads.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Resident memory of this process, bytes; zero where it cannot be read.
pub(super) fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| kib_of(&text, "VmRSS:"))
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_requests_and_calls() {
        let mut stats = Stats::new();
        for _ in 0..98 {
            stats.request(200, Duration::from_millis(1));
        }
        stats.request(500, Duration::from_millis(100));
        stats.call(true);
        let summary = stats.summary();
        assert!((summary.error_ratio - 0.02).abs() < 1e-9);
        assert!((summary.p99_seconds - 0.1).abs() < 1e-9, "{summary:?}");
        assert_eq!(stats.served.get(&500), Some(&1));
        assert_eq!(stats.buckets.iter().sum::<u64>(), 99);
    }

    #[test]
    fn the_window_is_bounded() {
        let mut stats = Stats::new();
        for _ in 0..5_000 {
            stats.call(false);
        }
        assert_eq!(stats.recent.len(), WINDOW_REQUESTS);
    }

    #[test]
    fn it_reads_its_own_memory() {
        assert!(resident_bytes() > 100 * 1024);
    }
}
