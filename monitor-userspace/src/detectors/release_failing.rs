//! A service is in grave trouble, and that began with a release: what an emergency roll-back is for.
//!
//! Looks only at services that have run another release before, and this one for less than `after_release`. Raised when `checks` health checks in
//! a row fail, when they take longer than `latency` on average, when its memory is over its `memory_max` for as many samples in a row, or
//! when it ends `ends` times on its own. Cleared by a check that is well and fast, by memory below the ceiling; of a service without
//! a check, by a process that has run for `settle`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::{Bytes, Span};
use crate::model::{
    Category, CheckResult, Evidence, Finding, ProcessKey, Sample, Service, ServiceSignal, Severity,
    Signal, Subject, Time, World,
};
use monitor_common::Event;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "release_failing",
    summary: "a service fails since it runs another release",
    category: Category::Service,
    symptom: true,
    needs: &[],
};

/// Most of `checks`.
const MOST: u32 = 100;

/// `[detectors.release_failing]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// For how long after a change of the release trouble counts as the release's.
    pub after_release: Span,
    /// How many checks in a row must fail, or samples of its memory be over its ceiling; at most 100.
    pub checks: u32,
    /// Mean of as many checks over which they are too slow.
    pub latency: Span,
    /// How often it may end on its own.
    pub ends: u32,
    /// How long a service without a check must run before it counts as recovered.
    pub settle: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            after_release: Span(Duration::from_hours(72)),
            checks: 5,
            latency: Span::seconds(10),
            ends: 3,
            settle: Span::seconds(10),
        }
    }
}

/// What was seen of a service since it runs its release.
#[derive(Debug, Default)]
struct Track {
    release: String,
    failed: u32,
    /// How long the last checks took; as many as count.
    took: VecDeque<Duration>,
    over: u32,
    ends: u32,
    /// When the first of what counts was seen.
    since: Option<Time>,
    raised: bool,
    /// The process that must run for a while, of a service without a check.
    started: Option<(ProcessKey, Time)>,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// Services with another release than before, so it is bounded by the configuration.
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

    fn count(&self) -> u32 {
        self.config.checks.clamp(1, MOST)
    }

    /// The track of a service whose release is new enough, or about which something was raised. A release that is another one begins anew.
    fn track(&mut self, service: &Service, at: Time) -> Option<&mut Track> {
        let known = &service.release.as_ref()?.known;
        let runs = known.runs.as_ref()?;
        let new = known
            .changed
            .is_some_and(|changed| at < changed.after(self.config.after_release.0));
        let raised = self.tracks.get(&service.name).is_some_and(|it| it.raised);
        if !new && !raised {
            self.tracks.remove(&service.name);
            return None;
        }
        let track = self.tracks.entry(service.name.clone()).or_default();
        if track.release != *runs {
            *track = Track {
                release: runs.clone(),
                raised: track.raised,
                started: track.started,
                ..Track::default()
            };
        }
        Some(track)
    }

    fn check(&mut self, result: &CheckResult, at: Time, world: &World, out: &mut Vec<Finding>) {
        let service = world.services.get(&result.service);
        let Some(service) = service.filter(|service| service.is_serving(&result.check)) else {
            return;
        };
        // Not answering yet is not failing, and one that was asked of the process before says nothing.
        let asked = at.before(result.latency);
        let Some(started) = service.started.filter(|started| asked >= *started) else {
            return;
        };
        let (most, slow) = (self.count(), self.config.latency.0);
        let Some(track) = self.track(service, at) else {
            return;
        };
        if track.took.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            track.took.pop_front();
        }
        track.took.push_back(result.latency);
        if result.failure.is_none() && result.latency <= slow {
            track.failed = 0;
            if track.over == 0 && std::mem::take(&mut track.raised) {
                track.since = None;
                track.took.clear();
                out.push(Finding::Cleared {
                    subject: Subject::service(&service.name),
                    seen: at,
                    because: format!("its check answers in {:.1?}", result.latency),
                });
                return;
            }
        } else {
            track.since.get_or_insert(asked.max(started));
        }
        if result.failure.is_some() {
            track.failed = track.failed.saturating_add(1);
        }
        let mean =
            track.took.iter().sum::<Duration>() / u32::try_from(track.took.len()).unwrap_or(1);
        let full = track.took.len() == usize::try_from(most).unwrap_or(usize::MAX);
        let evidence = if track.failed >= most {
            let answer = result.failure.as_ref().map(ToString::to_string);
            Evidence::at(at)
                .fact("checks that failed in a row", track.failed)
                .fact("last check", answer.unwrap_or_default())
        } else if full && mean > slow {
            Evidence::at(at).fact("mean time of a check", format!("{mean:.1?}"))
        } else {
            return;
        };
        track.failed = 0;
        track.took.clear();
        self.raise(service, evidence, out);
    }

    fn memory(
        &mut self,
        name: &str,
        resident: u64,
        at: Time,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let Some(service) = world.services.get(name) else {
            return;
        };
        let Some(most) = service.memory_max else {
            return;
        };
        let count = self.count();
        let Some(track) = self.track(service, at) else {
            return;
        };
        if resident <= most {
            let was = std::mem::take(&mut track.over) > 0;
            if was && !service.checked && std::mem::take(&mut track.raised) {
                out.push(Finding::Cleared {
                    subject: Subject::service(name),
                    seen: at,
                    because: format!("its memory is {}", Bytes(resident)),
                });
            }
            return;
        }
        track.since.get_or_insert(at);
        track.over = track.over.saturating_add(1);
        if track.over % count == 0 {
            let evidence = Evidence::at(at)
                .fact("resident memory", Bytes(resident))
                .fact("memory_max", Bytes(most));
            self.raise(service, evidence, out);
        }
    }

    /// It ended, and no action of ours did that.
    fn ended(&mut self, service: &Service, at: Time, out: &mut Vec<Finding>) {
        let most = self.config.ends.max(1);
        let Some(track) = self.track(service, at) else {
            return;
        };
        track.started = None;
        track.since.get_or_insert(at);
        track.ends = track.ends.saturating_add(1);
        track.over = 0;
        if track.ends >= most {
            let evidence = Evidence::at(at).fact("times it ended", track.ends);
            self.raise(service, evidence, out);
        }
    }

    fn raise(&mut self, service: &Service, evidence: Evidence, out: &mut Vec<Finding>) {
        let Some(track) = self.tracks.get_mut(&service.name) else {
            return;
        };
        track.raised = true;
        let evidence = evidence.since(track.since.unwrap_or_default());
        let mut evidence = evidence.fact("release", track.release.as_str());
        if let Some(process) = service.last_process {
            evidence = evidence.about(process, &service.name);
        }
        out.push(Finding::Raised {
            subject: Subject::service(&service.name),
            severity: Severity::Critical,
            evidence,
        });
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Check { result } => self.check(result, at, world, out),
            Signal::Sample {
                sample:
                    Sample::ServiceMemory {
                        service, resident, ..
                    },
            } => self.memory(service, *resident, at, world, out),
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let process = ProcessKey::from_task(&exit.task);
                let fault = |it: &&Service| !it.in_action && !it.is_others();
                if let Some(service) = world.service_of(process).filter(fault) {
                    let service = service.clone();
                    self.ended(&service, at, out);
                }
            }
            Signal::Service { service, change } => {
                let Some(known) = world.services.get(service) else {
                    return;
                };
                match change {
                    ServiceSignal::Exited { process, .. }
                        if (known.process == Some(*process) || known.is_others())
                            && !known.in_action =>
                    {
                        self.ended(known, at, out);
                    }
                    ServiceSignal::Started { process, .. } => {
                        if let Some(track) = self.tracks.get_mut(service) {
                            track.started = (!known.checked).then_some((*process, at));
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, world: &World, out: &mut Vec<Finding>) {
        let settle = self.config.settle.0;
        for (name, track) in &mut self.tracks {
            let Some((process, started)) = track.started else {
                continue;
            };
            if at < started.after(settle) {
                continue;
            }
            track.started = None;
            let runs = world.services.get(name).and_then(|service| service.process);
            if runs == Some(process) && track.over == 0 && std::mem::take(&mut track.raised) {
                out.push(Finding::Cleared {
                    subject: Subject::service(name),
                    seen: at,
                    because: format!("it has run for {}", self.config.settle),
                });
            }
        }
    }

    fn wake(&self) -> Option<Time> {
        let started = self.tracks.values().filter_map(|track| track.started);
        started
            .map(|(_, started)| started.after(self.config.settle.0))
            .min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.release_failing.clone();
    }
}

#[cfg(test)]
mod tests;
