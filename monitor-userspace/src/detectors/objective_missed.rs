//! A service does not keep what it is meant to: too many slow answers, or too many failures, over a while and of late.
//!
//! Looks at `objectives` of the configuration, as they were counted ([`crate::model::objective`]). Raised when more are bad than allowed
//! in the whole window and in its last twelfth, and at least three are; cleared when in that last twelfth at most half as many as
//! allowed are bad. What is missed is in the evidence.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::model::objective::percent;
use crate::model::{
    Category, Evidence, Finding, Objective, Sample, Service, Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "objective_missed",
    summary: "a service answers too slowly or fails too often for its objectives",
    category: Category::Service,
    symptom: true,
    needs: &[],
};

/// `[detectors.objective_missed]`
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

/// The detector.
#[derive(Debug)]
pub struct Detect {
    /// Services that miss an objective: bounded by the configuration.
    missing: BTreeSet<String>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub const fn new(_: Config) -> Self {
        Self {
            missing: BTreeSet::new(),
        }
    }

    fn look(&mut self, service: &Service, at: Time, out: &mut Vec<Finding>) {
        let missed = |one: &&Objective| one.kept.is_some_and(|kept| kept.missed);
        let missed = service.objectives.iter().find(missed);
        let subject = || Subject::service(&service.name);
        match missed {
            Some(objective) if !self.missing.contains(&service.name) && !service.in_action => {
                self.missing.insert(service.name.clone());
                out.push(Finding::Raised {
                    subject: subject(),
                    severity: Severity::Warning,
                    evidence: evidence(service, objective, at),
                });
            }
            None if self.missing.remove(&service.name) => {
                if service.objectives.iter().all(|one| one.kept.is_none()) {
                    let because = "nothing is asked of it any more".to_owned();
                    out.push(Finding::Cleared {
                        subject: subject(),
                        seen: at,
                        because,
                    });
                    return;
                }
                let kept = service.objectives.iter().map(|one| one.promise.to_string());
                let kept = kept.collect::<Vec<_>>().join(", ");
                out.push(Finding::Cleared {
                    subject: subject(),
                    seen: at,
                    because: format!("of late it keeps its objectives: {kept}"),
                });
            }
            _ => {}
        }
    }
}

fn evidence(service: &Service, objective: &Objective, at: Time) -> Evidence {
    let kept = objective.kept.unwrap_or_default();
    let what = if kept.by_checks {
        "health checks"
    } else {
        "requests"
    };
    let evidence = Evidence::at(at)
        .fact("objective", objective.promise.to_string())
        .fact("over", format!("{:?}", objective.over))
        .fact("counted", format!("{} {what}", kept.counted))
        .fact("of them bad", percent(kept.bad))
        .fact("allowed", percent(objective.promise.allowed()));
    match service.process {
        Some(process) => evidence.about(process, &service.name),
        None => evidence,
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        let service = match signal {
            Signal::Check { result } => world.services.get(&result.service),
            Signal::Service { service, .. } => world.services.get(service),
            Signal::Sample {
                sample: Sample::ServiceLatency { cgroup_id, .. },
            } => world.service_of_cgroup(*cgroup_id),
            _ => None,
        };
        let service = service.filter(|service| {
            !service.objectives.is_empty() || self.missing.contains(&service.name)
        });
        if let Some(service) = service {
            self.look(service, at, out);
        }
    }

    fn reconfigure(&mut self, _: &super::Config) {}
}
