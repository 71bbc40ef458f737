//! A service of the configuration does not run: from the kernel's exit event itself, not from polling.
//!
//! Consumes `process_exit`, what supervisors say, and health checks; `process_signal`, `oom_kill` and `memory_ceiling` tell before the
//! end who brought it about. An exit that an action of ours brings about (a
//! restart) is no finding; one that a kill of ours brings about is. Cleared when the new process answers its check, or, without
//! a check, when it has run for `settle`.

mod cause;

use std::collections::BTreeMap;
use std::time::Duration;

use monitor_common::probes::process_exit::{Ending, ending};
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::{
    Category, Check, Evidence, Finding, ProcessKey, Service, ServiceSignal, Severity, Signal,
    Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "service_down",
    summary: "a service's main process ended, or could not be started",
    category: Category::Service,
    symptom: false,
    needs: &[Kind::ProcessExit],
};

/// `[detectors.service_down]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How long a service without a health check must run before it counts as recovered.
    pub settle: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            settle: Span::seconds(1),
        }
    }
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// Services that are down, with what was started since.
    down: BTreeMap<String, Option<Started>>,
    /// What the kernel told of the main processes that may be about to end; bounded by the configuration.
    told: BTreeMap<String, cause::Told>,
    /// Ends of processes that somebody else runs, until they say what to make of it: that it is a fault, or was meant.
    unconfirmed: BTreeMap<String, (ProcessKey, Evidence)>,
}

/// A process that is to bring a service back.
#[derive(Clone, Copy, Debug)]
struct Started {
    process: ProcessKey,
    at: Time,
    /// A check will tell; time alone proves nothing.
    checked: bool,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            down: BTreeMap::new(),
            told: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
        }
    }

    fn raise(&mut self, service: &str, evidence: Evidence, out: &mut Vec<Finding>) {
        self.down.insert(service.to_owned(), None);
        out.push(Finding::Raised {
            subject: Subject::service(service),
            severity: Severity::Critical,
            evidence,
        });
    }

    fn clear(&mut self, service: &str, seen: Time, because: String, out: &mut Vec<Finding>) {
        self.down.remove(service);
        out.push(Finding::Cleared {
            subject: Subject::service(service),
            seen,
            because,
        });
    }

    /// Something that may end a service's process was done to it.
    fn tells(&mut self, event: &Event, world: &World) {
        let Some(process) = cause::Told::of(event) else {
            return;
        };
        let Some(service) = world.service_of(process) else {
            return;
        };
        let told = self
            .told
            .entry(service.name.clone())
            .or_insert_with(|| cause::Told::nothing(process));
        if !told.is_of(process) {
            *told = cause::Told::nothing(process);
        }
        told.take(event);
    }

    /// Evidence of an end, with who brought it about.
    fn because(
        &mut self,
        service: &str,
        process: ProcessKey,
        status: Option<u32>,
        evidence: Evidence,
    ) -> Evidence {
        let at = evidence.seen;
        match self.told.remove(service) {
            Some(told) if told.is_of(process) => told.facts(evidence, status, at),
            _ => evidence,
        }
    }

    fn supervisor_says(
        &mut self,
        name: &str,
        change: &ServiceSignal,
        at: Time,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let known = world.services.get(name);
        match change {
            ServiceSignal::Started { process, .. } => {
                self.unconfirmed.remove(name);
                if let Some(down) = self.down.get_mut(name) {
                    let checked = known.is_some_and(|service| service.checked);
                    *down = Some(Started {
                        process: *process,
                        at,
                        checked,
                    });
                }
            }
            // Normally the kernel's event came first, and the world no longer has this process.
            ServiceSignal::Exited { process, .. }
                if self
                    .unconfirmed
                    .get(name)
                    .is_some_and(|(ended, _)| ended == process) =>
            {
                let in_action = known.is_some_and(|service| service.in_action);
                let ended = self.unconfirmed.remove(name);
                if let Some((_, evidence)) = ended.filter(|_| !in_action) {
                    let by = known.map_or("", |service| service.kind.as_str());
                    self.raise(name, evidence.fact("confirmed by", by), out);
                }
            }
            ServiceSignal::Exited { process, status } => {
                let current = known
                    .is_some_and(|service| service.process == Some(*process) && !service.in_action);
                if current {
                    let how = status.map_or_else(|| "ended".to_owned(), describe);
                    let evidence = Evidence::at(at).about(*process, name).fact("ending", how);
                    let evidence = self.because(name, *process, *status, evidence).fact(
                        "source",
                        "supervisor (no exit event of the kernel was matched to it)",
                    );
                    self.raise(name, evidence, out);
                }
            }
            ServiceSignal::StartFailed { reason } => {
                self.raise(name, Evidence::at(at).fact("start failed", reason), out);
            }
            ServiceSignal::GaveUp { reason } => {
                let by = known.map_or("", |service| service.kind.as_str());
                let words = format!("{by} does not start it any more: {reason}");
                self.raise(name, Evidence::at(at).fact("given up", words), out);
            }
            ServiceSignal::Heals { .. } | ServiceSignal::Unknown { .. } => {}
            ServiceSignal::Stopped => {
                self.unconfirmed.remove(name);
                if self.down.contains_key(name) {
                    self.clear(name, at, "the service is no longer wanted".to_owned(), out);
                }
            }
        }
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let process = ProcessKey::from_task(&exit.task);
                // What was started to bring it back has ended itself.
                for started in self.down.values_mut() {
                    if started.is_some_and(|started| started.process == process) {
                        *started = None;
                    }
                }
                let Some(service) = world.service_of(process) else {
                    return;
                };
                if service.in_action {
                    return;
                }
                let (name, is_others) = (service.name.clone(), service.is_others());
                let evidence = Evidence::at(Time::from_kernel(exit.header.time_ns))
                    .from_probe(Kind::ProcessExit)
                    .about(process, exit.task.comm())
                    .fact("ending", describe(exit.status));
                let evidence = self
                    .because(&name, process, Some(exit.status), evidence)
                    .fact(
                        "ran for",
                        format!("{:.1?}", Duration::from_nanos(exit.lifetime_ns)),
                    );
                if is_others {
                    self.unconfirmed.insert(name, (process, evidence));
                    return;
                }
                self.raise(&name, evidence, out);
            }
            Signal::Kernel { event } => self.tells(event, world),
            Signal::Service { service, change } => {
                self.supervisor_says(service, change, at, world, out);
            }
            Signal::Check { result } if result.failure.is_none() => {
                // An answer counts only while what was started lives, and only to a question asked since: something else may listen there.
                let started = self.down.get(&result.service).copied().flatten();
                let current = world
                    .services
                    .get(&result.service)
                    .and_then(|service| service.process);
                let asked = at.before(result.latency);
                let proven = started
                    .is_some_and(|started| current == Some(started.process) && asked >= started.at);
                let service = world.services.get(&result.service);
                if proven && service.is_some_and(|service| all_answer(service, &result.check)) {
                    let because = format!("its check answers in {:.1?}", result.latency);
                    self.clear(&result.service, at, because, out);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, world: &World, out: &mut Vec<Finding>) {
        let settle = self.config.settle.0;
        let settled: Vec<String> = self
            .down
            .iter()
            .filter_map(|(name, started)| {
                let started = (*started)?;
                let service = world.services.get(name)?;
                let runs = service.process == Some(started.process) && !service.checked;
                (runs && at >= started.at.after(settle)).then(|| name.clone())
            })
            .collect();
        // What has settled as something else than it began (not a service any more, checked by now, ended unheard) is not waited for.
        for (name, down) in &mut self.down {
            let due = |started: &Started| !started.checked && at >= started.at.after(settle);
            if !settled.contains(name)
                && let Some(started) = down.as_mut().filter(|started| due(started))
            {
                started.checked = true;
            }
        }
        for name in settled {
            let because = format!("it has run for {}", self.config.settle);
            self.clear(&name, at, because, out);
        }
    }

    fn wake(&self) -> Option<Time> {
        let started = self.down.values().filter_map(|started| *started);
        let settling = started.filter(|started| !started.checked);
        settling
            .map(|started| started.at.after(self.config.settle.0))
            .min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.service_down.clone();
    }
}

/// Whether all checks that show that it serves have been well since it started, given that this one is.
fn all_answer(service: &Service, check: &str) -> bool {
    let check = service.meant(check);
    let well = |(name, other): (&String, &Check)| name == check || other.well == Some(true);
    let mut serving = service.checks.iter().filter(|(_, check)| check.serving);
    service.is_serving(check) && serving.all(well)
}

/// A wait status in words.
fn describe(status: u32) -> String {
    match ending(status) {
        Ending::Code(code) => format!("exit code {code}"),
        Ending::Signal(number) => format!("killed by {}", signal_name(number)),
    }
}

/// Names of signals 1 to 31, without `SIG`, as on every architecture that we build for (signal(7)).
pub const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

fn signal_name(number: u8) -> String {
    let name = usize::from(number)
        .checked_sub(1)
        .and_then(|at| SIGNALS.get(at));
    name.map_or_else(
        || format!("signal {number}"),
        |name| format!("SIG{name} ({number})"),
    )
}
