//! A service answers its checks much slower than it usually does.
//!
//! What is usual is learned of each check that shows that a service serves, from its good answers: the median of the first
//! `FIRST` since the first good one, and a mean that follows slowly while nothing is amiss. The smaller of the two counts, so that
//! neither a slow first minute nor a creeping decline is taken for usual. Raised when the median of the last `LAST` answers is over
//! `factor` times that, and over `least`; cleared when it is at most half as far above. Answers that fail or time out are others'
//! trouble. It is learned anew when the daemon starts, and when the service is no longer configured so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::{
    Category, CheckResult, Evidence, Finding, Service, ServiceSignal, Severity, Signal, Subject,
    Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "slower_than_usual",
    summary: "a service answers its checks much slower than it usually does",
    category: Category::Service,
    symptom: true,
    needs: &[],
};

/// Answers that the first idea of what is usual is made of.
const FIRST: usize = 20;
/// Answers that are compared with it.
const LAST: usize = 10;
/// So slowly what is usual follows: after as many answers, a lasting change has come through by two thirds.
const FOLLOWS: f64 = 500.0;

/// `[detectors.slower_than_usual]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How many times as long as usual is too long.
    pub factor: f64,
    /// What takes no longer than this is never too long.
    pub least: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            factor: 3.0,
            least: Span::millis(100),
        }
    }
}

/// One check.
#[derive(Debug, Default)]
struct Track {
    /// The last answers, seconds; the first ones until there are enough of them.
    took: VecDeque<f64>,
    /// What is usual, once that is known.
    usual: Option<Usual>,
    slow: bool,
}

#[derive(Clone, Copy, Debug)]
struct Usual {
    first: f64,
    rolling: f64,
}

impl Usual {
    const fn counts(self) -> f64 {
        self.first.min(self.rolling)
    }
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// By service and check: bounded by the configuration.
    tracks: BTreeMap<String, BTreeMap<String, Track>>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tracks: BTreeMap::new(),
        }
    }

    fn check(&mut self, service: &Service, result: &CheckResult, at: Time, out: &mut Vec<Finding>) {
        let name = service.meant(&result.check);
        let checks = self.tracks.entry(service.name.clone()).or_default();
        let track = checks.entry(name.to_owned()).or_default();
        track.took.push_back(result.latency.as_secs_f64());
        let Some(usual) = &mut track.usual else {
            if track.took.len() >= FIRST {
                let first = median(&track.took);
                track.usual = Some(Usual {
                    first,
                    rolling: first,
                });
                track.took.clear();
            }
            return;
        };
        if track.took.len() > LAST {
            track.took.pop_front();
        }
        if track.took.len() < LAST {
            return;
        }
        let now = median(&track.took);
        let (counts, least) = (usual.counts(), self.config.least.0.as_secs_f64());
        let over = |factor: f64| now > least && now > factor * counts;
        let subject = || Subject::service(&service.name);
        if !track.slow && over(self.config.factor) {
            track.slow = true;
            let shown = |seconds: f64| {
                let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                format!("{time:.1?}")
            };
            let mut evidence = Evidence::at(at)
                .fact("check", name)
                .fact("it takes", shown(now))
                .fact("usually", shown(counts))
                .fact("over how many times is too long", self.config.factor);
            if let Some(process) = service.process {
                evidence = evidence.about(process, &service.name);
            }
            out.push(Finding::Raised {
                subject: subject(),
                severity: Severity::Warning,
                evidence,
            });
        } else if track.slow && !over(1.0 + (self.config.factor - 1.0) / 2.0) {
            track.slow = false;
            self.cleared(
                &service.name,
                at,
                format!("its check {name} is about as fast as usual"),
                out,
            );
        } else if !track.slow {
            usual.rolling += (result.latency.as_secs_f64() - usual.rolling) / FOLLOWS;
        }
    }

    /// One is not slow any more; it is over when none is.
    fn cleared(&self, service: &str, seen: Time, because: String, out: &mut Vec<Finding>) {
        let tracks = self.tracks.get(service);
        if tracks.is_some_and(|tracks| tracks.values().any(|track| track.slow)) {
            return;
        }
        out.push(Finding::Cleared {
            subject: Subject::service(service),
            seen,
            because,
        });
    }

    /// Forgets the last answers of a service, of one check or of all of them, and that they were slow.
    fn forget(&mut self, service: &str, (at, because): (Time, &str), out: &mut Vec<Finding>) {
        let Some(tracks) = self.tracks.get_mut(service) else {
            return;
        };
        let mut slow = false;
        for track in tracks.values_mut() {
            slow |= std::mem::take(&mut track.slow);
            // What is learned at first is learned from one process.
            track.took.clear();
        }
        if slow {
            self.cleared(service, at, because.to_owned(), out);
        }
    }
}

fn median(of: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = of.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Check { result } if result.failure.is_none() => {
                if let Some(service) = world.services.get(&result.service)
                    && service.is_serving(&result.check)
                    && (service.process.is_some() || service.is_elsewhere())
                {
                    self.check(service, result, at, out);
                }
            }
            Signal::Service { service, change } => {
                let because = match change {
                    ServiceSignal::Started { .. } => "it was started anew",
                    ServiceSignal::Stopped => "the service was stopped",
                    _ => return,
                };
                self.forget(service, (at, because), out);
            }
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, world: &World, out: &mut Vec<Finding>) {
        let configured = |service: &str, check: &str| {
            let service = world.services.get(service);
            service.is_some_and(|it| it.checks.is_empty() || it.checks.contains_key(check))
        };
        let mut gone = Vec::new();
        for (service, checks) in &mut self.tracks {
            let slow = checks.values().any(|track| track.slow);
            let before = checks.len();
            checks.retain(|check, _| configured(service, check));
            if slow && checks.len() < before && !checks.values().any(|track| track.slow) {
                gone.push(service.clone());
            }
        }
        self.tracks.retain(|_, checks| !checks.is_empty());
        for service in gone {
            let because = "the check is no longer configured".to_owned();
            self.cleared(&service, at, because, out);
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.slower_than_usual.clone();
    }
}

#[cfg(test)]
mod tests;
