//! What a service says of itself: JSON at `/health`, Prometheus text at `/metrics`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::stats::{BOUNDS, Stats, Summary, cpu_time, resident_bytes};

/// Error ratio from which a service calls itself degraded.
const DEGRADED: f64 = 0.05;

/// Body of `/health`.
#[derive(Debug, Serialize)]
pub(super) struct Health<'a> {
    name: &'a str,
    status: &'static str,
    cpu_percent: f64,
    resident_bytes: u64,
    latency_seconds: Latency,
    error_rate: f64,
    /// Unix time, seconds.
    heartbeat: f64,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p99: f64,
}

/// The state of now. A degraded service still answers with status 200: it serves, and what a caller makes of its word is
/// the caller's business.
pub(super) fn health<'a>(name: &'a str, stats: &mut Stats) -> Health<'a> {
    let Summary {
        mean_seconds,
        p99_seconds,
        error_ratio,
        cpu_percent,
    } = stats.summary();
    Health {
        name,
        status: if error_ratio >= DEGRADED {
            "DEGRADED"
        } else {
            "HEALTHY"
        },
        cpu_percent,
        resident_bytes: resident_bytes(),
        latency_seconds: Latency {
            mean: mean_seconds,
            p99: p99_seconds,
        },
        error_rate: error_ratio,
        heartbeat: unix_seconds(stats.heartbeat),
    }
}

/// Prometheus text exposition format, version 0.0.4.
pub(super) fn metrics(stats: &mut Stats) -> String {
    let summary = stats.summary();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &str| {
        let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
    };
    let single = |name: &str, value: &dyn std::fmt::Display| format!("{name} {value}\n");

    let name = "process_cpu_seconds_total";
    let cpu = cpu_time().as_secs_f64();
    family(
        name,
        "counter",
        "CPU time used, user and system.",
        &single(name, &cpu),
    );

    let name = "process_resident_memory_bytes";
    let help = "Resident memory.";
    family(name, "gauge", help, &single(name, &resident_bytes()));

    let name = "service_requests_total";
    let mut lines = String::new();
    for (code, count) in &stats.served {
        let _infallible = writeln!(lines, "{name}{{code=\"{code}\"}} {count}");
    }
    family(
        name,
        "counter",
        "Requests answered, by HTTP status code.",
        &lines,
    );

    let name = "service_request_duration_seconds";
    let total: u64 = stats.served.values().sum();
    let mut below = 0;
    let mut lines = String::new();
    for (bound, count) in BOUNDS.iter().zip(stats.buckets) {
        below += count;
        let _infallible = writeln!(lines, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let _infallible = write!(
        lines,
        "{name}_bucket{{le=\"+Inf\"}} {total}\n{name}_sum {}\n{name}_count {total}\n",
        stats.seconds
    );
    family(name, "histogram", "Time to answer a request.", &lines);

    let name = "service_error_ratio";
    let help = "Share of the requests and calls of the last 10 s that failed.";
    family(name, "gauge", help, &single(name, &summary.error_ratio));

    let name = "service_heartbeat_timestamp_seconds";
    let help = "Unix time of the last sign of life.";
    family(
        name,
        "gauge",
        help,
        &single(name, &unix_seconds(stats.heartbeat)),
    );
    text
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn health_turns_degraded_and_says_why() {
        let mut stats = Stats::new();
        stats.request(200, Duration::from_millis(1));
        assert_eq!(health("auth", &mut stats).status, "HEALTHY");
        stats.call(true);
        let health = health("auth", &mut stats);
        assert_eq!(health.status, "DEGRADED");
        assert!((health.error_rate - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_histogram_is_cumulative_and_complete() {
        let mut stats = Stats::new();
        stats.request(200, Duration::from_micros(50));
        stats.request(200, Duration::from_millis(3));
        stats.request(500, Duration::from_secs(3));
        let text = metrics(&mut stats);
        for line in [
            "service_requests_total{code=\"200\"} 2",
            "service_requests_total{code=\"500\"} 1",
            "service_request_duration_seconds_bucket{le=\"0.0001\"} 1",
            "service_request_duration_seconds_bucket{le=\"1\"} 2",
            "service_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "service_request_duration_seconds_count 3",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} not in\n{text}"
            );
        }
    }
}
