//! Memory is running out: a service crossed its ceiling, or the host stalls for lack of memory.
//!
//! Ceiling: resident memory of a service's main process over its `memory_max`. Host: the kernel's pressure trigger fired within
//! `window`, less than `available_min` is left, and what is left is shrinking or the pressure persists (level and trend together: a trigger alone
//! also fires for I/O, a level alone for a cache that could be dropped). The host's victim is the fastest grower that the
//! configuration names and whose end would cover the deficit; if none would, the largest grower of all is named, which
//! policy will only propose. A service that stalls by the alarm of its own cgroup: see [`stalls`].

mod stalls;

use std::collections::{BTreeMap, HashMap};

use monitor_common::Kind;
use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::{Bytes, Percent, Span};
use crate::model::{
    Evidence, Finding, ProcessKey, ProcessUsage, Sample, ServiceSignal, Severity, Signal, Subject,
    Time, World,
};
use stalls::Stalls;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory_pressure",
    summary: "a service is over its memory ceiling, or the host stalls for lack of memory",
    needs: &[Kind::TaskSnapshot],
};

/// `[detectors.memory_pressure]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// Share of the host's memory that must be available; below it, and under pressure, the host is in trouble.
    pub available_min: Percent,
    /// How long a pressure trigger counts.
    pub window: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            available_min: Percent(10.0),
            window: Span::seconds(3),
        }
    }
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
    over: BTreeMap<String, ProcessKey>,
    /// Services that stall.
    stalls: Stalls,
    /// The two last tables, to see who grows.
    table: Vec<ProcessUsage>,
    growth: HashMap<ProcessKey, f64>,
    table_at: Option<Time>,
    memory: Option<Reading>,
    shrinking: bool,
    triggered: Option<(Time, u32)>,
    /// The subject raised for the host's memory, and the victim's process.
    host: Option<(Subject, Option<ProcessKey>)>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ceilings: BTreeMap::new(),
            over: BTreeMap::new(),
            stalls: Stalls::default(),
            table: Vec::new(),
            growth: HashMap::new(),
            table_at: None,
            memory: None,
            shrinking: false,
            triggered: None,
            host: None,
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
        let subject = Subject::service(name);
        if now.resident <= ceiling {
            // One incident for both: it is over when neither holds.
            if self.over.remove(name).is_some() && !self.stalls.has(name) {
                let because = format!("its resident memory is {}", mib(now.resident));
                out.push(Finding::Cleared {
                    subject,
                    seen: now.at,
                    because,
                });
            }
            return;
        }
        if self.over.insert(name.to_owned(), process) == Some(process) {
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

    fn processes(&mut self, table: &[ProcessUsage], at: Time) {
        let elapsed = self
            .table_at
            .map_or(0.0, |last| at.since(last).as_secs_f64());
        let before: HashMap<ProcessKey, u64> = self
            .table
            .iter()
            .map(|usage| (usage.process, usage.resident))
            .collect();
        self.growth = table
            .iter()
            .filter_map(|usage| {
                let grown = usage.resident.saturating_sub(*before.get(&usage.process)?);
                (elapsed > 0.0).then(|| (usage.process, float(grown) / elapsed))
            })
            .collect();
        self.table = table.to_vec();
        self.table_at = Some(at);
    }

    fn memory(
        &mut self,
        total: u64,
        available: u64,
        at: Time,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let now = Reading {
            at,
            resident: available,
        };
        self.shrinking = self
            .memory
            .is_none_or(|before| available <= before.resident);
        self.memory = Some(now);
        let minimum = float(total) * self.config.available_min.share();
        let enough = float(available) >= minimum;
        if enough {
            if let Some((subject, _)) = self.host.take() {
                let because = format!("{} of memory are available", mib(available));
                out.push(Finding::Cleared {
                    subject,
                    seen: at,
                    because,
                });
            }
            return;
        }
        // One victim at a time: the next only when the last is gone and it was not enough.
        let gone = |process: &ProcessKey| !self.table.iter().any(|usage| usage.process == *process);
        let last_is_gone = matches!(&self.host, Some((_, Some(process))) if gone(process));
        if last_is_gone && let Some((subject, _)) = self.host.take() {
            let because = "that process is gone; the host is still short of memory".to_owned();
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
        let Some((triggered, some_avg10)) = self.triggered else {
            return;
        };
        if at.since(triggered) > self.config.window.0 || !self.shrinking || self.host.is_some() {
            return;
        }
        let evidence = Evidence::at(at)
            .since(triggered)
            .fact("available memory", mib(available))
            .fact("least wanted", format!("{:.0} MiB", minimum / MIB))
            .fact(
                "stalled for memory (avg10)",
                format!("{:.2}%", f64::from(some_avg10) / 100.0),
            );
        let (subject, evidence) = match self.victim(minimum - float(available), world) {
            Some((subject, usage)) => {
                let growth = self.growth.get(&usage.process).copied().unwrap_or(0.0);
                let evidence = evidence
                    .about(usage.process, &usage.comm)
                    .fact("victim", format!("{} [{}]", usage.comm, usage.process.pid))
                    .fact("its resident memory", mib(usage.resident))
                    .fact("its growth", format!("{:.0} MiB/s", growth / MIB));
                (subject, evidence)
            }
            None => (Subject::Host, evidence.fact("victim", "none known")),
        };
        self.host = Some((subject.clone(), evidence.process));
        out.push(Finding::Raised {
            subject,
            severity: Severity::Critical,
            evidence,
        });
    }

    /// What held for the process before holds no longer.
    fn changed(&mut self, service: &str, change: &ServiceSignal, at: Time, out: &mut Vec<Finding>) {
        let stalled = self.stalls.forget(service);
        // Reaped: unlike at the kernel's exit event, its memory is free by now.
        let over = matches!(change, ServiceSignal::Exited { process, .. } if self.over.get(service) == Some(process));
        if over {
            self.over.remove(service);
            self.ceilings.remove(service);
        }
        if over || (stalled && !self.over.contains_key(service)) {
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

    /// Who should go to free this many bytes: what ten seconds of growth will have made the largest.
    fn victim(&self, deficit: f64, world: &World) -> Option<(Subject, &ProcessUsage)> {
        let score = |usage: &ProcessUsage| {
            let growth = self.growth.get(&usage.process).copied().unwrap_or(0.0);
            growth.mul_add(10.0, float(usage.resident))
        };
        let largest = |named: bool| {
            let candidates = self.table.iter().filter(|usage| {
                let group = world.groups.contains_key(&usage.comm);
                let is_named = group || world.service_of(usage.process).is_some();
                !named || (is_named && float(usage.resident) >= deficit)
            });
            candidates.max_by(|a, b| score(a).total_cmp(&score(b)))
        };
        let usage = largest(true).or_else(|| largest(false))?;
        let subject = match world.service_of(usage.process) {
            Some(service) => Subject::service(&service.name),
            None => Subject::Process {
                process: usage.process,
                comm: usage.comm.clone(),
                group: world.groups.get(&usage.comm).cloned(),
            },
        };
        Some((subject, usage))
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
                    let now = stalls::Reading {
                        at,
                        some_avg10: *some_avg10,
                        full_avg10: *full_avg10,
                        alarm: *alarm,
                    };
                    let found = self.stalls.read(service, now, self.config.window, world);
                    let over = self.over.contains_key(service);
                    out.extend(found.filter(|_| !over));
                }
                Sample::Processes { processes } => self.processes(processes, at),
                Sample::MemoryPressure { some_avg10, .. } => {
                    self.triggered = Some((at, *some_avg10));
                }
                Sample::Memory { total, available } => {
                    self.memory(*total, *available, at, world, out);
                }
            },
            Signal::Service { service, change } => self.changed(service, change, at, out),
            _ => {}
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.memory_pressure.clone();
    }
}

const MIB: f64 = 1_048_576.0;

fn mib(bytes: u64) -> String {
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
fn float(bytes: u64) -> f64 {
    bytes as f64
}
