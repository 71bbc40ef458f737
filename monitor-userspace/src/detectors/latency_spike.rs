//! A service answers too slowly or not at all, or its threads wait too long for a CPU.
//!
//! Critical: one health check took `checks` times in a row longer than `threshold` or timed out, and the service has answered
//! since it started (or `grace` is over). Warning: `outliers` waits in the run queue over the probe's threshold within `window`, with
//! who held the CPU during the longest of them.
//! Cleared by a check that is fast again, or by a window without outliers. A refused connection is `connect_failure`'s.

mod waits;

use std::collections::BTreeMap;

use monitor_common::probes::run_queue_latency::RunQueueLatency;
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec, service_of_task};
use crate::config::units::Span;
use crate::model::{
    Category, CheckFailure, CheckResult, Evidence, Finding, ProcessKey, Severity, Signal, Subject,
    Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "latency_spike",
    summary: "a service answers too slowly or not at all, or waits too long for a CPU",
    category: Category::Service,
    symptom: true,
    needs: &[Kind::RunQueueLatency],
};

/// `[detectors.latency_spike]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// Response time over which a health check counts as slow.
    pub threshold: Span,
    /// How many checks in a row must be slow.
    pub checks: u32,
    /// How long a service that has just started may take to answer for the first time.
    pub grace: Span,
    /// How many run-queue outliers within `window` make a spike.
    pub outliers: u32,
    /// See `outliers`.
    pub window: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold: Span::seconds(5),
            checks: 3,
            grace: Span::seconds(60),
            outliers: 20,
            window: Span::seconds(10),
        }
    }
}

#[derive(Debug, Default)]
struct Track {
    /// By check.
    checks: BTreeMap<String, Slow>,
    /// Outliers in the window that began then, and the longest wait among them.
    outliers: u32,
    window_start: Option<Time>,
    longest: Option<Box<RunQueueLatency>>,
    starved_raised: bool,
}

/// One check of a service.
#[derive(Debug, Default)]
struct Slow {
    /// Slow ones in a row, and when the first of them was.
    count: u32,
    since: Option<Time>,
    raised: bool,
}

impl Track {
    fn is_slow(&self) -> bool {
        self.checks.values().any(|check| check.raised)
    }
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// Services only, so it is bounded by the configuration.
    tracks: BTreeMap<String, Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tracks: BTreeMap::new(),
        }
    }

    fn check(&mut self, result: &CheckResult, at: Time, world: &World, out: &mut Vec<Finding>) {
        let service = world.services.get(&result.service);
        let Some(service) = service.filter(|service| service.is_serving(&result.check)) else {
            return;
        };
        let name = service.meant(&result.check);
        let track = self.tracks.entry(result.service.clone()).or_default();
        let waits = track.starved_raised;
        // Of those that are configured no more, nothing will be heard.
        let configured = |check: &str| check == name || service.checks.contains_key(check);
        track.checks.retain(|check, _| configured(check));
        let check = track.checks.entry(name.to_owned()).or_default();
        let (Some(process), Some(started)) = (service.process, service.started) else {
            // It does not run: that is service_down's.
            check.count = 0;
            return;
        };
        let timed_out = result
            .failure
            .as_ref()
            .is_some_and(CheckFailure::is_timeout);
        if !timed_out && result.latency <= self.config.threshold.0 {
            check.count = 0;
            let was = result.failure.is_none() && std::mem::take(&mut check.raised);
            if was && !track.is_slow() && !waits {
                let subject = Subject::service(&result.service);
                let because = format!("its check answers in {:.1?}", result.latency);
                out.push(Finding::Cleared {
                    subject,
                    // What was asked for before an act proves nothing of it.
                    seen: at.before(result.latency),
                    because,
                });
            }
            return;
        }
        let warming_up = service.answers.is_none() && at.since(started) < self.config.grace.0;
        if service.in_action || warming_up {
            return;
        }
        // The first slow check began to be slow when it was sent.
        if check.count == 0 {
            check.since = Some(at.before(result.latency));
        }
        check.count += 1;
        if check.count >= self.config.checks {
            check.raised = true;
            check.count = 0;
            let answer = result.why();
            let answer = answer.unwrap_or_else(|| format!("answered after {:.1?}", result.latency));
            let evidence = Evidence::at(at)
                .since(check.since.unwrap_or(at))
                .about(process, &service.name)
                .fact("last check", answer)
                .fact("slow checks in a row", self.config.checks)
                .fact("threshold", self.config.threshold);
            let subject = Subject::service(&result.service);
            out.push(Finding::Raised {
                subject,
                severity: Severity::Critical,
                evidence,
            });
        }
    }
}

impl Detect {
    fn waited(&mut self, outlier: &RunQueueLatency, world: &World, out: &mut Vec<Finding>) {
        let Some(service) = service_of_task(world, &outlier.task) else {
            return;
        };
        let seen = Time::from_kernel(outlier.header.time_ns);
        let track = self.tracks.entry(service.name.clone()).or_default();
        let start = *track.window_start.get_or_insert(seen);
        if seen.since(start) > self.config.window.0 {
            track.window_start = Some(seen);
            track.outliers = 0;
            track.longest = None;
        }
        track.outliers = track.outliers.saturating_add(1);
        let longest = track.longest.as_ref().map(|longest| longest.wait_ns);
        if longest.is_none_or(|longest| outlier.wait_ns > longest) {
            match &mut track.longest {
                Some(longest) => **longest = *outlier,
                longest => *longest = Some(Box::new(*outlier)),
            }
        }
        if track.outliers == self.config.outliers {
            track.starved_raised = true;
            let evidence = Evidence::at(seen)
                .from_probe(Kind::RunQueueLatency)
                .since(track.window_start.unwrap_or(seen))
                .about(ProcessKey::from_task(&outlier.task), outlier.task.comm())
                .fact("waits for a CPU over the threshold", track.outliers);
            out.push(Finding::Raised {
                subject: Subject::service(&service.name),
                severity: Severity::Warning,
                evidence: waits::facts(evidence, track.longest.as_deref().unwrap_or(outlier)),
            });
        }
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Check { result } => self.check(result, at, world, out),
            Signal::Kernel {
                event: Event::RunQueueLatency(outlier),
            } => self.waited(outlier, world, out),
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let window = self.config.window.0;
        for (name, track) in &mut self.tracks {
            let quiet = track
                .window_start
                .is_some_and(|start| at >= start.after(window));
            if !quiet {
                continue;
            }
            let still = track.outliers >= self.config.outliers;
            track.window_start = None;
            track.outliers = 0;
            track.longest = None;
            if still && track.starved_raised {
                // One more window must pass without a spike before it is over.
                track.window_start = Some(at);
            } else if std::mem::take(&mut track.starved_raised) && !track.is_slow() {
                let subject = Subject::service(name);
                let because = format!(
                    "few long waits for a CPU in the last {}",
                    self.config.window
                );
                out.push(Finding::Cleared {
                    subject,
                    seen: at,
                    because,
                });
            }
        }
    }

    fn wake(&self) -> Option<Time> {
        let starts = self.tracks.values().filter_map(|track| track.window_start);
        starts.map(|start| start.after(self.config.window.0)).min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.latency_spike.clone();
    }
}
