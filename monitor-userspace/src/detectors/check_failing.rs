//! Health checks of a service fail, so many in a row as each says.
//!
//! One incident a service, whichever of its checks fail; as bad as the worst of them. Cleared when each of those that failed has been
//! well so often in a row as it says. Checks that show that a service serves are not counted while it does not run (that is
//! `service_down`), while it has not answered since it started and `start_within` is not over, and when the answer takes too long
//! (that is `latency_spike`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::model::{
    Category, Check, CheckFailure, CheckResult, Evidence, Finding, Service, ServiceSignal,
    Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "check_failing",
    summary: "health checks of a service fail",
    category: Category::Service,
    symptom: true,
    needs: &[],
};

/// `[detectors.check_failing]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// One check.
#[derive(Debug, Default)]
struct Track {
    failures: u32,
    successes: u32,
    /// When the first of the failures in a row was.
    since: Option<Time>,
    failing: bool,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    /// By service and check: bounded by the configuration.
    tracks: BTreeMap<String, BTreeMap<String, Track>>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(_: Config) -> Self {
        Self {
            tracks: BTreeMap::new(),
        }
    }

    fn check(&mut self, result: &CheckResult, at: Time, world: &World, out: &mut Vec<Finding>) {
        let Some(service) = world.services.get(&result.service) else {
            return;
        };
        let name = service.meant(&result.check);
        let Some(check) = service.checks.get(name) else {
            return;
        };
        // Nearly every result is well, and was: that allocates nothing.
        let known = self.tracks.get_mut(&result.service);
        let known = known.and_then(|checks| checks.get_mut(name));
        match (&result.failure, known) {
            (None, Some(track)) => {
                track.failures = 0;
                track.since = None;
                track.successes = track.successes.saturating_add(1);
                if track.failing && track.successes >= check.successes {
                    track.failing = false;
                    let because = format!("its check {name} is well again");
                    // What was asked for before an act proves nothing of it.
                    let asked = at.before(result.latency);
                    self.cleared(&result.service, asked, because, out);
                }
            }
            (Some(failure), _) if counts(service, check, failure, at.before(result.latency)) => {
                let says = result.why().unwrap_or_else(|| failure.to_string());
                self.failed(service, (name, check), &says, at, out);
            }
            (Some(_), Some(track)) => track.failures = 0,
            (_, None) => {}
        }
    }

    fn failed(
        &mut self,
        service: &Service,
        (name, check): (&str, &Check),
        says: &str,
        at: Time,
        out: &mut Vec<Finding>,
    ) {
        let tracks = self.tracks.entry(service.name.clone()).or_default();
        let track = tracks.entry(name.to_owned()).or_default();
        track.successes = 0;
        track.since.get_or_insert(at);
        track.failures = track.failures.saturating_add(1);
        // It is said again as often: what was done meanwhile has not helped.
        if !track.failures.is_multiple_of(check.failures.max(1)) {
            return;
        }
        track.failing = true;
        let (since, failures) = (track.since.unwrap_or(at), track.failures);
        let failing = tracks.iter().filter(|(_, track)| track.failing);
        let failing: Vec<&str> = failing.map(|(name, _)| name.as_str()).collect();
        let severities = failing.iter().filter_map(|name| service.checks.get(*name));
        let severity = severities.map(|check| check.severity).max();
        let mut evidence = Evidence::at(at)
            .since(since)
            .fact("check", name)
            .fact("it says", says)
            .fact("failures in a row", failures);
        if failing.len() > 1 {
            evidence = evidence.fact("checks that fail", failing.join(", "));
        }
        if let Some(process) = service.process {
            evidence = evidence.about(process, &service.name);
        }
        out.push(Finding::Raised {
            subject: Subject::service(&service.name),
            severity: severity.unwrap_or(Severity::Warning),
            evidence,
        });
    }

    /// A check of a service fails no more; it is over when none does.
    fn cleared(&mut self, service: &str, seen: Time, because: String, out: &mut Vec<Finding>) {
        let tracks = self.tracks.get(service);
        if tracks.is_some_and(|tracks| tracks.values().any(|track| track.failing)) {
            return;
        }
        self.tracks.remove(service);
        out.push(Finding::Cleared {
            subject: Subject::service(service),
            seen,
            because,
        });
    }

    /// Forgets the checks of a service for which this does not hold.
    fn keep(
        &mut self,
        service: &str,
        keep: impl Fn(&str) -> bool,
        (at, because): (Time, &str),
        out: &mut Vec<Finding>,
    ) {
        let Some(tracks) = self.tracks.get_mut(service) else {
            return;
        };
        let before = tracks.values().any(|track| track.failing);
        tracks.retain(|name, _| keep(name));
        if before {
            self.cleared(service, at, because.to_owned(), out);
        }
    }
}

/// Whether a failure is one of those that this detector is about.
fn counts(service: &Service, check: &Check, failure: &CheckFailure, asked: Time) -> bool {
    if !check.serving || service.is_elsewhere() {
        return true;
    }
    let Some(started) = service.started.filter(|_| service.process.is_some()) else {
        return false;
    };
    let warming_up = check.well.is_none() && asked.since(started) < service.start_within;
    !service.in_action && !warming_up && !failure.is_timeout() && asked >= started
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Check { result } => self.check(result, at, world, out),
            Signal::Service {
                service,
                change: ServiceSignal::Stopped,
            } => {
                let known = world.services.get(service);
                let serving = |name: &str| known.is_none_or(|known| known.is_serving(name));
                let because = "the service was stopped";
                self.keep(service, |name| !serving(name), (at, because), out);
            }
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, world: &World, out: &mut Vec<Finding>) {
        let configured = |service: &str, check: &str| {
            let service = world.services.get(service);
            service.is_some_and(|service| service.checks.contains_key(check))
        };
        let gone = self.tracks.iter().filter(|(service, checks)| {
            let mut names = checks.keys();
            names.any(|check| !configured(service, check))
        });
        let gone: Vec<String> = gone.map(|(service, _)| service.clone()).collect();
        for service in gone {
            let because = "the check is no longer configured";
            let keep = |check: &str| configured(&service, check);
            self.keep(&service, keep, (at, because), out);
        }
    }

    fn reconfigure(&mut self, _: &super::Config) {}
}

#[cfg(test)]
mod tests;
