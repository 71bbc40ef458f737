//! Memory is running out: a service crossed its ceiling, or the host stalls for lack of memory. See `ceiling` for what the kernel
//! itself tells, and does, at the crossing.
//!
//! Ceiling: resident memory of a service's main process over its `memory_max`. The host runs out, and who should go: see `host`. A
//! service that stalls by the alarm of its own cgroup: see `stalls`.

mod ceiling;
mod host;
mod stalls;

use std::collections::BTreeMap;

use monitor_common::probes::memory_ceiling::{KILLED, MemoryCeiling, Scope};
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec, service_of_task};
use crate::config::units::{Bytes, Level, Percent, Span};
use crate::model::{
    Category, Evidence, Finding, ProcessKey, Sample, ServiceSignal, Severity, Signal, Subject,
    Time, World,
};
use host::Host;
use stalls::Stalls;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory_pressure",
    summary: "a service is over its memory ceiling, or the host stalls for lack of memory",
    category: Category::System,
    symptom: false,
    needs: &[Kind::TaskSnapshot],
};

/// `[detectors.memory_pressure]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// Memory of the host that should be available, as a share or a size. Below it the host is in trouble when the kernel's pressure
    /// alarm fires, or when all will be used up `exhaust_within`.
    pub available_min: Level,
    /// How long a pressure trigger counts.
    pub window: Span,
    /// Memory below which the host is in trouble whatever the alarm says, as a share or a size.
    pub least: Level,
    /// ... as long as less of the swap is free than this, where there is swap.
    pub least_swap: Level,
    /// How soon all must be used up, at the speed of the last half second, for that alone to be trouble; `0s` for never.
    pub exhaust_within: Span,
    /// What a victim should bring back beyond what is wanted, as a share of that.
    pub margin: Percent,
    /// How long the memory of a victim that is gone may take to come back, before another one is named.
    pub relief_within: Span,
    /// Names (of services, of `[[process]]` entries, or of processes) that should go first, if their end suffices.
    pub prefer: Vec<String>,
    /// Names that should go only if nobody else's end suffices.
    pub avoid: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            available_min: Level::Share(Percent(10.0)),
            window: Span::seconds(3),
            least: Level::Share(Percent(3.0)),
            least_swap: Level::Share(Percent(10.0)),
            exhaust_within: Span::seconds(1),
            margin: Percent(10.0),
            relief_within: Span::millis(500),
            prefer: Vec::new(),
            avoid: Vec::new(),
        }
    }
}

/// A service over its ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Over {
    process: ProcessKey,
    /// It is being killed: only its end is the end of it.
    killed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Time,
    resident: u64,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// Last reading of each service with a ceiling.
    ceilings: BTreeMap<String, (ProcessKey, Reading)>,
    /// Services over their ceiling, with the process it was.
    over: BTreeMap<String, Over>,
    /// Services that stall.
    stalls: Stalls,
    /// What else the kernel has told of.
    crossings: ceiling::Crossings,
    host: Host,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ceilings: BTreeMap::new(),
            over: BTreeMap::new(),
            stalls: Stalls::default(),
            crossings: ceiling::Crossings::default(),
            host: Host::default(),
        }
    }

    fn service_memory(
        &mut self,
        name: &str,
        process: ProcessKey,
        now: Reading,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let before = self.ceilings.insert(name.to_owned(), (process, now));
        let Some(ceiling) = world
            .services
            .get(name)
            .and_then(|service| service.memory_max)
        else {
            return;
        };
        let dying = self.over.get(name).copied();
        if dying.is_some_and(|over| over.killed && over.process == process) {
            return;
        }
        let subject = Subject::service(name);
        if now.resident <= ceiling {
            // One incident for all: it is over when none holds.
            if self.over.remove(name).is_some() && !self.holds(&subject) {
                let because = format!("its resident memory is {}", mib(now.resident));
                out.push(Finding::Cleared {
                    subject,
                    seen: now.at,
                    because,
                });
            }
            return;
        }
        let over = Over {
            process,
            killed: false,
        };
        if self.over.insert(name.to_owned(), over) == Some(over) {
            return;
        }
        let earlier = before
            .filter(|(same, _)| *same == process)
            .map(|(_, reading)| reading);
        let mut evidence = Evidence::at(now.at)
            .about(process, name)
            .fact("resident memory", mib(now.resident))
            .fact("ceiling", Bytes(ceiling));
        if let Some(earlier) = earlier {
            let rate = rate(earlier, now);
            evidence = evidence
                .since(earlier.at)
                .fact("growth", format!("{:.0} MiB/s", rate / MIB));
        }
        out.push(Finding::Raised {
            subject,
            severity: Severity::Critical,
            evidence,
        });
    }

    /// The kernel saw a ceiling crossed.
    fn crossed(&mut self, event: &MemoryCeiling, world: &World, out: &mut Vec<Finding>) {
        let process = ProcessKey::from_task(&event.task);
        let own = world.service_of(process);
        let Some(service) = own.filter(|_| event.scope() == Scope::Process) else {
            let cgroup = event.scope() == Scope::Cgroup;
            let service = service_of_task(world, &event.task).filter(|_| cgroup);
            let name = service.map(|service| service.name.as_str());
            return self.crossings.take(event, name, world, out);
        };
        let killed = event.verdict == KILLED;
        let over = Over { process, killed };
        let known = self.over.insert(service.name.clone(), over);
        // That it is killed is news, also of a crossing that is known.
        if known.is_some_and(|known| known == over || (known.process == process && !killed)) {
            return;
        }
        out.push(Finding::Raised {
            subject: Subject::service(&service.name),
            severity: Severity::Critical,
            evidence: ceiling::evidence(event),
        });
    }

    /// Whether anything is wrong with the memory of this service. One incident for all that can be.
    fn holds(&self, subject: &Subject) -> bool {
        let Subject::Service { name } = subject else {
            return false;
        };
        self.over.contains_key(name) || self.stalls.has(name) || self.crossings.has(name)
    }

    /// Crossings that are over.
    fn below(&self, over: Vec<(Subject, String)>, seen: Time, out: &mut Vec<Finding>) {
        for (subject, because) in over {
            if !self.holds(&subject) {
                out.push(Finding::Cleared {
                    subject,
                    seen,
                    because,
                });
            }
        }
    }

    /// What held for the process before holds no longer.
    fn changed(&mut self, service: &str, change: &ServiceSignal, at: Time, out: &mut Vec<Finding>) {
        // They say nothing of its process.
        if matches!(
            change,
            ServiceSignal::Heals { .. } | ServiceSignal::Unknown { .. }
        ) {
            return;
        }
        let stalled = self.stalls.forget(service);
        let crossed = self.crossings.forget(service);
        // Reaped: unlike at the kernel's exit event, its memory is free by now.
        let over = matches!(change, ServiceSignal::Exited { process, .. }
            if self.over.get(service).is_some_and(|over| over.process == *process));
        if over {
            self.over.remove(service);
            self.ceilings.remove(service);
        }
        if over || ((stalled || crossed) && !self.over.contains_key(service)) {
            let because = match change {
                ServiceSignal::Started { .. } => "it was started anew",
                _ => "its process is gone and its memory is back",
            };
            out.push(Finding::Cleared {
                subject: Subject::service(service),
                seen: at,
                because: because.to_owned(),
            });
        }
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Sample { sample } => match sample {
                Sample::ServiceMemory {
                    service,
                    process,
                    resident,
                } => {
                    let now = Reading {
                        at,
                        resident: *resident,
                    };
                    self.service_memory(service, *process, now, world, out);
                }
                Sample::ServicePressure {
                    service,
                    some_avg10,
                    full_avg10,
                    alarm,
                } => {
                    self.host.service_stalls(service, *some_avg10, world);
                    let now = stalls::Reading {
                        at,
                        some_avg10: *some_avg10,
                        full_avg10: *full_avg10,
                        alarm: *alarm,
                    };
                    let found = self.stalls.read(service, now, self.config.window, world);
                    let held = self.over.contains_key(service) || self.crossings.has(service);
                    out.extend(found.filter(|_| !held));
                }
                Sample::Processes { processes } => {
                    self.host.processes(processes, at);
                    let below = self.crossings.table(processes);
                    self.below(below, at, out);
                }
                Sample::MemoryPressure {
                    some_avg10,
                    full_avg10,
                } => {
                    self.host.triggered(at, *some_avg10, *full_avg10);
                }
                Sample::MemoryClaims { claims } => self.host.claims(claims, at),
                Sample::MemoryShares { shares } => self.host.shares(shares),
                Sample::Memory {
                    total,
                    available,
                    swap_total,
                    swap_free,
                } => {
                    let memory = host::Memory {
                        total: *total,
                        available: *available,
                        swap_total: *swap_total,
                        swap_free: *swap_free,
                    };
                    self.host.memory(memory, at, &self.config, world, out);
                }
                Sample::ServiceLatency { .. }
                | Sample::ListenQueues { .. }
                | Sample::Load { .. }
                | Sample::Clock { .. }
                | Sample::Release { .. }
                | Sample::Network { .. }
                | Sample::NetworkDiagnosis { .. }
                | Sample::DiskSpace { .. } => {}
            },
            Signal::Service { service, change } => {
                if let ServiceSignal::Exited { process, .. } = change {
                    self.host.ended(*process, at);
                }
                self.changed(service, change, at, out);
            }
            Signal::Kernel {
                event: Event::MemoryCeiling(event),
            } => self.crossed(event, world, out),
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let seen = Time::from_kernel(exit.header.time_ns);
                let process = ProcessKey::from_task(&exit.task);
                self.host.ended(process, seen);
                let ended = self.crossings.ended(process);
                self.below(ended, seen, out);
            }
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let quiet = self.crossings.quiet(at);
        self.below(quiet, at, out);
    }

    fn wake(&self) -> Option<Time> {
        self.crossings.wake()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.memory_pressure.clone();
    }
}

pub(super) const MIB: f64 = 1_048_576.0;

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", float(bytes) / MIB)
}

/// Bytes a second between two readings; negative when it shrank.
fn rate(earlier: Reading, later: Reading) -> f64 {
    let seconds = later.at.since(earlier.at).as_secs_f64();
    if seconds > 0.0 {
        (float(later.resident) - float(earlier.resident)) / seconds
    } else {
        0.0
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory sizes need no more than 52 bits"
)]
pub(super) fn float(bytes: u64) -> f64 {
    bytes as f64
}
