//! Whether services keep what they are meant to: counted over a window, from what the kernel saw of requests and what health checks say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Engine;
use crate::model::objective::{WHOLE, Window};
use crate::model::{
    Answers, CheckResult, Objective, Promise, Sample, Service, ServiceSignal, Services, Signal,
    Time,
};

/// What counts for one objective: what users asked, and what checks asked.
#[derive(Debug)]
pub(super) struct Windows {
    promise: Promise,
    over: Duration,
    requests: Window,
    checks: Window,
}

impl Windows {
    fn new(objective: &Objective) -> Self {
        Self {
            promise: objective.promise,
            over: objective.over,
            requests: Window::new(objective.over),
            checks: Window::new(objective.over),
        }
    }
}

/// The objectives as configured now; how those that stay the same were kept still counts.
pub(super) fn apply(known: &mut Vec<Objective>, wanted: &[Objective]) {
    let before = std::mem::take(known);
    known.extend(wanted.iter().map(|one| {
        let same = |old: &&Objective| old.promise == one.promise && old.over == one.over;
        before.iter().find(same).unwrap_or(one).clone()
    }));
}

/// Windows for what is configured now; what was counted for an objective that stays the same still counts.
pub(super) fn windows(windows: &mut BTreeMap<String, Vec<Windows>>, services: &Services) {
    let mut before = std::mem::take(windows);
    for service in services.values().filter(|it| !it.objectives.is_empty()) {
        let mut kept = before.remove(&service.name).unwrap_or_default();
        let fresh = service.objectives.iter().map(|objective| {
            let same = |it: &Windows| it.promise == objective.promise && it.over == objective.over;
            let known = kept.iter().position(same).map(|at| kept.swap_remove(at));
            known.unwrap_or_else(|| Windows::new(objective))
        });
        windows.insert(service.name.clone(), fresh.collect());
    }
}

impl Engine {
    /// Runs before the detectors see the signal, so that they see what it changes.
    pub(super) fn count_for_objectives(&mut self, signal: &Signal, at: Time) {
        if self.windows.is_empty() {
            return;
        }
        match signal {
            Signal::Sample {
                sample: Sample::ServiceLatency { cgroup_id, answers },
            } => {
                let service = self.world.service_of_cgroup(*cgroup_id);
                if let Some(name) = service.map(|service| service.name.clone()) {
                    self.count_answers(&name, answers, at);
                }
            }
            Signal::Check { result } => self.count_check(result, at),
            Signal::Service {
                service,
                change: ServiceSignal::Started { .. },
            } => {
                for windows in self.windows.get_mut(service).into_iter().flatten() {
                    // The kernel says nothing of the new one before somebody asks it.
                    windows.requests.clear();
                    windows.requests.begin_anew(at);
                    windows.checks.begin_anew(at);
                }
            }
            Signal::Service {
                service,
                change: ServiceSignal::Stopped,
            } => {
                for windows in self.windows.get_mut(service).into_iter().flatten() {
                    windows.requests.clear();
                    windows.checks.clear();
                }
                if self.windows.contains_key(service) {
                    let service = service.clone();
                    self.judge_objectives(&service, at);
                }
            }
            _ => {}
        }
    }

    fn count_answers(&mut self, name: &str, answers: &Answers, at: Time) {
        let (Some(windows), Some(service)) =
            (self.windows.get_mut(name), self.world.services.get(name))
        else {
            return;
        };
        if answers.uncertain.is_some() {
            return;
        }
        for (windows, objective) in windows.iter_mut().zip(&service.objectives) {
            if let Promise::Latency { most, .. } = objective.promise {
                let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
                windows
                    .requests
                    .add(at, answers.requests, slow(answers, most));
            }
        }
        self.judge_objectives(name, at);
    }

    fn count_check(&mut self, result: &CheckResult, at: Time) {
        let (Some(windows), Some(service)) = (
            self.windows.get_mut(&result.service),
            self.world.services.get(&result.service),
        ) else {
            return;
        };
        if !service.is_serving(&result.check) || !counts(service, result, at) {
            return;
        }
        let timed_out = matches!(&result.failure, Some(failure) if failure.is_timeout());
        for (windows, objective) in windows.iter_mut().zip(&service.objectives) {
            let bad = match objective.promise {
                Promise::Errors { .. } => result.failure.is_some(),
                Promise::Latency { most, .. } if result.failure.is_none() || timed_out => {
                    timed_out || result.latency > most
                }
                Promise::Latency { .. } => continue,
            };
            windows.checks.add(at, 1, if bad { WHOLE } else { 0 });
        }
        let name = service.name.clone();
        self.judge_objectives(&name, at);
    }

    fn judge_objectives(&mut self, name: &str, at: Time) {
        let (Some(windows), Some(service)) =
            (self.windows.get_mut(name), self.world.services.get(name))
        else {
            return;
        };
        let judged = windows.iter_mut().zip(&service.objectives);
        let judged = judged.map(|(windows, objective)| {
            windows.requests.pass(at);
            windows.checks.pass(at);
            let missed = objective.kept.is_some_and(|kept| kept.missed);
            let by_checks = windows.requests.counted() == 0;
            let window = if by_checks {
                &windows.checks
            } else {
                &windows.requests
            };
            let kept = window.judge(&objective.promise, missed, at)?;
            Some(crate::model::Kept { by_checks, ..kept })
        });
        let judged: Vec<_> = judged.collect();
        self.change_service(name, |service| {
            for (objective, kept) in service.objectives.iter_mut().zip(judged) {
                objective.kept = kept;
            }
        });
    }
}

/// Whether a check says anything about how the service serves: not while it is stopped, has never run, or is given time to start.
fn counts(service: &Service, result: &CheckResult, at: Time) -> bool {
    if service.is_elsewhere() {
        return true;
    }
    let sent = at.before(result.latency);
    match service.started {
        None => !service.stopped && service.last_process.is_some() && result.failure.is_some(),
        Some(started) if sent < started => false,
        Some(started) => {
            result.failure.is_none()
                || service.answers.is_some()
                || at.since(started) > service.start_within
        }
    }
}

/// How many answers took longer than that, parts per million: as many at least, as far as quantiles tell.
const fn slow(answers: &Answers, most_ns: u64) -> u64 {
    if answers.p50_ns > most_ns {
        WHOLE / 2
    } else if answers.p90_ns > most_ns {
        WHOLE / 10
    } else if answers.p99_ns > most_ns {
        WHOLE / 100
    } else {
        0
    }
}
