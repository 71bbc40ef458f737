//! The core alone, with as many rules as it is given: no kernel, no daemon, no clock but the bench's own stopwatch.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::{Event, Header, Kind, Task};
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::model::incident::State;
use smart_monitor::model::{
    Effect, EffectResult, Evidence, Finding, IncidentId, Outcome, ProcessKey, ServiceSignal,
    Severity, Signal, Subject, Time,
};
use smart_monitor::policy::Permit;

/// Time that passes from one incident to the next: so slow that no limit of the configuration is reached.
const APART: Duration = Duration::from_millis(4);
/// Every so many incidents the core is told that time has passed; the daemon does so once for all that has come since it last looked.
const TICK: usize = 64;

/// The configuration of so many services, each with a rule of its own for its memory, every fifth of them a ladder and every tenth
/// with a condition; behind them rules for all. `head` is what stands in `[policy]`, `each` in every rule.
pub(super) fn config(services: usize, rules: bool, head: &str, each: &str) -> String {
    let mut text = format!("[policy]\n{head}\n");
    for at in 0..services {
        let (name, port) = (name(at), 20_000 + at);
        let _infallible = write!(
            text,
            "[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"{name}\"]\n\
             listen = [\"127.0.0.1:{port}\"]\nmemory_max = \"100MiB\"\n"
        );
    }
    for at in (0..services).filter(|_| rules) {
        let name = name(at);
        let _infallible = write!(
            text,
            "[[remedy]]\nname = \"memory-of-{name}\"\ndetector = \"memory_pressure\"\non = [\"{name}\"]\n{each}\n"
        );
        if at % 10 == 3 {
            text += "when = 'incident.tries < 3'\n";
        }
        text += if at % 5 == 0 {
            "[[remedy.step]]\naction = \"kill_process\"\nattempts = 2\n[[remedy.step]]\naction = \"restart_service\"\n"
        } else {
            "action = \"kill_process\"\n"
        };
    }
    for detector in ["service_down", "memory_pressure", "connect_failure"] {
        if rules {
            let _infallible = write!(
                text,
                "[[remedy]]\ndetector = \"{detector}\"\non = [\"*\"]\naction = \"restart_service\"\n"
            );
        }
    }
    text
}

pub(super) fn name(at: usize) -> String {
    format!("service-{at:04}")
}

fn process(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: u64::from(pid),
    }
}

/// What came of an incident at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    Permitted,
    Refused,
    Suppressed,
}

/// A core and its time.
#[derive(Debug)]
pub(super) struct Core {
    engine: Engine,
    names: Vec<String>,
    now: Time,
    orders: Vec<Order>,
    /// The first of the services whose incidents [`Core::incident`] is about.
    first: usize,
    /// Incidents so far.
    pub(super) incidents: usize,
}

impl Core {
    /// Every service of this configuration runs.
    pub(super) fn new(text: &str) -> Result<Self> {
        let config = Config::parse(text, Path::new("bench.toml"))
            .map_err(|error| anyhow::anyhow!(error.render()))?;
        let names: Vec<String> = config.programs.keys().cloned().collect();
        let settings = Settings {
            detectors: config.detectors,
            policy: config.policy,
            remedies: config.remedies,
            conditions: config.conditions,
            services: config.services,
            named: config.named,
            groups: config.groups,
            protected_pids: vec![1],
            probes_off: Vec::new(),
            networks: Vec::new(),
        };
        let mut core = Self {
            engine: Engine::new(settings, IncidentId(1)),
            names,
            now: Time::from_nanos(1_000_000_000_000),
            orders: Vec::new(),
            first: 0,
            incidents: 0,
        };
        for (pid, service) in (1000..).zip(core.names.clone()) {
            core.observe(&Signal::Service {
                service,
                change: ServiceSignal::Started {
                    process: process(pid),
                    adopted: false,
                    cgroup_id: u64::from(pid),
                },
            });
        }
        // Past what a service that has just started is granted.
        core.now = core.now.after(Duration::from_secs(100));
        core.engine.tick(core.now, &mut core.orders);
        core.orders.clear();
        Ok(core)
    }

    fn observe(&mut self, signal: &Signal) {
        self.engine
            .observe(signal, self.now, self.now, &mut self.orders);
    }

    /// A finding as `memory_pressure` makes one, or another detector.
    pub(super) fn raise(&mut self, detector: &str, at: usize) -> Result<()> {
        let name = self.names.get(at).context("no such service")?;
        let pid = u32::try_from(at)?.saturating_add(1000);
        let evidence = Evidence::at(self.now)
            .from_probe(Kind::MemoryCeiling)
            .about(process(pid), name)
            .fact("resident memory", "101 MiB")
            .fact("ceiling", "100 MiB");
        let finding = Finding::Raised {
            subject: Subject::service(name),
            severity: Severity::Critical,
            evidence,
        };
        self.incidents += 1;
        let found = self
            .engine
            .find(detector, finding, self.now, &mut self.orders);
        found.map_err(anyhow::Error::msg)
    }

    pub(super) fn clear(&mut self, detector: &str, at: usize) -> Result<()> {
        let name = self.names.get(at).context("no such service")?;
        let finding = Finding::Cleared {
            subject: Subject::service(name),
            seen: self.now,
            because: "its resident memory is 12 MiB".to_owned(),
        };
        let found = self
            .engine
            .find(detector, finding, self.now, &mut self.orders);
        found.map_err(anyhow::Error::msg)
    }

    /// The first service by name has failed, and stays so.
    pub(super) fn fail_first(&mut self) -> Result<()> {
        self.raise("service_down", 0)?;
        self.orders.clear();
        self.first = 1;
        Ok(())
    }

    /// Incidents that are not over.
    pub(super) fn open(&self) -> usize {
        self.engine.open_incidents().count()
    }

    /// Takes what was ordered as the pipeline does; the permits.
    pub(super) fn permits(&mut self) -> Vec<Permit> {
        let orders = self.orders.drain(..);
        orders
            .filter_map(|order| match order {
                Order::Execute { permit, .. } => Some(permit),
                Order::Record(_) | Order::Releases { .. } => None,
            })
            .collect()
    }

    /// The act of this permit is done.
    pub(super) fn done(&mut self, permit: &Permit) {
        let effect = Effect {
            incident: permit.incident(),
            action: permit.action().to_owned(),
            acted: Some(self.now),
            finished: self.now,
            result: EffectResult::Done {
                detail: "ended by SIGKILL".to_owned(),
            },
            verified: None,
            undo: None,
        };
        self.observe(&Signal::Effect { effect });
    }

    /// Time passes; the core is told.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.engine.tick(self.now, &mut self.orders);
    }

    /// One incident from its finding to its end: decided, done where that was permitted, gone.
    pub(super) fn incident(&mut self, expected: Decided) -> Result<()> {
        const DETECTOR: &str = "memory_pressure";
        let at = self.first + self.incidents % (self.names.len() - self.first);
        self.raise(DETECTOR, at)?;
        let permits = self.permits();
        ensure!(
            (permits.len() == 1) == (expected == Decided::Permitted),
            "{expected:?} was expected of {:?}: {:#?}",
            self.names.get(at),
            self.engine.open_incidents().last()
        );
        for permit in &permits {
            self.done(permit);
        }
        self.now = self.now.after(APART);
        self.clear(DETECTOR, at)?;
        self.orders.clear();
        if self.incidents.is_multiple_of(TICK) {
            self.engine.tick(self.now, &mut self.orders);
            self.orders.clear();
        }
        Ok(())
    }

    /// That the last of those incidents came to the end that was expected, and that no more are kept than may be.
    pub(super) fn check(&self, expected: Decided) -> Result<()> {
        let last = IncidentId(u64::try_from(self.incidents)?);
        let incident = self.engine.incident(last).context("it is not kept")?;
        let fixed = incident.outcome == Some(Outcome::Fixed);
        let as_expected = match expected {
            Decided::Permitted => fixed && incident.actions == 1,
            Decided::Refused => incident.actions == 0 && incident.suppressed_by.is_none(),
            Decided::Suppressed => incident.suppressed_by.is_some(),
        };
        ensure!(
            incident.state == State::Resolved && as_expected,
            "{incident:#?}"
        );
        let early = self.engine.incident(IncidentId(10));
        ensure!(
            self.incidents < 2000 || early.is_none(),
            "the book does not turn over"
        );
        Ok(())
    }

    /// The exit of a process that is nobody's: what most events are.
    pub(super) fn stranger(&mut self, pid: u32) {
        let time_ns = u64::try_from(self.now.nanos()).unwrap_or_default();
        let event = Event::ProcessExit(ProcessExit {
            header: Header {
                kind: 0,
                cpu: 0,
                size: 0,
                time_ns,
            },
            task: Task {
                pid,
                tid: pid,
                start_time_ns: 77,
                cgroup_id: 5,
                comm: *b"stranger\0\0\0\0\0\0\0\0",
            },
            parent_pid: 1,
            status: 0,
            lifetime_ns: 5,
        });
        self.observe(&Signal::Kernel { event });
    }
}
