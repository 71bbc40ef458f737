//! Plays a sequence against the core.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::{Event, Header, Kind, Task};
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::model::view::View;
use smart_monitor::model::{
    CheckFailure, CheckResult, Effect, IncidentId, ProcessKey, Proposed, Request, Sample,
    ServiceSignal, Signal, Time,
};

use super::keeper::{Keeper, Now, must};
use super::setup::{Case, Setup, Step, service_name};
use super::standing::Standing;

pub(super) const PROTECTED_PID: u32 = 500;

pub(crate) struct Play<'a> {
    case: &'a Case,
    /// The core; and where there are twins, one that is fed the same, and one that only says what it would do.
    engines: Vec<Engine>,
    settings: [Vec<Settings>; 2],
    in_force: usize,
    pub(super) now: Time,
    pub(super) keeper: Keeper,
    standing: Standing,
    view: View,
    pids: u32,
    pub(super) cpu: BTreeMap<u32, u64>,
    pub(super) told: Option<Effect>,
    pub(super) silences: u64,
}

pub(super) fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: u64::from(pid),
    }
}

pub(super) fn task(process: ProcessKey) -> Task {
    Task {
        pid: process.pid,
        tid: process.pid,
        start_time_ns: process.start_time_ns(),
        cgroup_id: 1,
        comm: *b"x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    }
}

fn settings(setup: &Setup, case: &Case, dry_run: bool) -> Result<Settings, String> {
    let text = setup.text(&case.limits, dry_run);
    let config = Config::parse(&text, Path::new("random.toml"))
        .map_err(|error| format!("{}\n{text}", error.render()))?;
    Ok(Settings {
        detectors: config.detectors,
        policy: config.policy,
        remedies: config.remedies,
        conditions: config.conditions,
        services: config.services,
        named: config.named,
        groups: config.groups,
        folders: config.folders,
        protected_pids: vec![1, PROTECTED_PID],
        probes_off: Vec::new(),
        networks: config.networks,
    })
}

/// Plays it to its end, or to the first thing that must not be.
pub(crate) fn play(case: &Case) -> Result<(), String> {
    let kinds: &[bool] = if case.twins {
        &[false, false, true]
    } else {
        &[false]
    };
    let of = |setup| {
        kinds
            .iter()
            .map(|dry| settings(setup, case, *dry))
            .collect::<Result<Vec<_>, _>>()
    };
    let settings = [of(&case.setups[0])?, of(&case.setups[1])?];
    let mut play = Play {
        case,
        engines: settings[0]
            .iter()
            .map(|one| Engine::new(one.clone(), IncidentId(1)))
            .collect(),
        settings,
        in_force: 0,
        now: Time::from_nanos(1_000_000_000_000),
        keeper: Keeper::default(),
        standing: Standing::default(),
        view: View::default(),
        pids: 1_000,
        cpu: BTreeMap::new(),
        told: None,
        silences: 0,
    };
    play.begin()?;
    for (at, step) in case.steps.iter().enumerate() {
        play.step(*step)
            .map_err(|what| format!("step {at}, {step:?}: {what}"))?;
    }
    Ok(())
}

impl Play<'_> {
    pub(super) fn setup(&self) -> &Setup {
        &self.case.setups[self.in_force]
    }

    /// All services run, and answer.
    fn begin(&mut self) -> Result<(), String> {
        for service in 0..self.setup().services.len() {
            self.start(&service_name(service), 255)?;
            self.pass(Duration::from_millis(1))?;
            self.step(Step::Check(service, 0))?;
        }
        Ok(())
    }

    pub(super) fn feed(&mut self, signal: &Signal) -> Result<(), String> {
        let approves = match signal {
            Signal::Person {
                request: Request::Approve { incident },
                ..
            } => Some(*incident),
            _ => None,
        };
        if let Signal::Effect { effect } = signal {
            self.keeper.tell(effect);
        }
        let now = self.now;
        self.ask(approves, |engine, orders| {
            engine.observe(signal, now, now, orders);
        })
    }

    /// Has the core do something, and looks at what it orders.
    pub(super) fn ask(
        &mut self,
        approves: Option<IncidentId>,
        what: impl Fn(&mut Engine, &mut Vec<Order>),
    ) -> Result<(), String> {
        let waiting = self.view.incidents.values();
        let proposed: BTreeMap<IncidentId, Proposed> = waiting
            .filter_map(|incident| Some((incident.id, incident.proposed.as_deref()?.clone())))
            .collect();
        let mut all = Vec::new();
        for engine in &mut self.engines {
            let mut orders = Vec::new();
            what(engine, &mut orders);
            all.push(orders);
        }
        if let [first, same, dry] = &all[..] {
            must!(
                format!("{first:?}") == format!("{same:?}"),
                "the same signals, other orders"
            );
            let acts = dry
                .iter()
                .any(|order| matches!(order, Order::Execute { .. }));
            must!(!acts, "an act in a dry run: {dry:#?}");
        }
        self.engines[0].show(&mut self.view);
        let now = Now {
            at: self.now,
            limits: &self.case.limits,
            setup: &self.case.setups[self.in_force],
            proposed: &proposed,
            approves,
        };
        for order in all.swap_remove(0) {
            if let Order::Execute { permit, incident } = order {
                self.keeper
                    .permit(&permit, &incident, &now)
                    .map_err(|why| format!("{why}: {permit:?}\nfor {incident:#?}"))?;
            }
        }
        let wake = self.engines[0].wake();
        self.standing
            .check(&self.view.incidents, &mut self.keeper, self.now, wake)
    }

    pub(super) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now.after(time);
        let (mut before, mut same) = (None, 0);
        while let Some(wake) = self.engines[0].wake().filter(|wake| *wake <= end) {
            same = if before == Some(wake) { same + 1 } else { 0 };
            must!(
                same < 5,
                "woken without end for {wake:?}: {:#?}",
                self.view.incidents
            );
            before = Some(wake);
            self.now = self.now.max(wake);
            let now = self.now;
            self.ask(None, |engine, orders| engine.tick(now, orders))?;
        }
        self.now = end;
        self.ask(None, |engine, orders| engine.tick(end, orders))?;
        let keeps = self
            .case
            .setups
            .iter()
            .any(|setup| setup.condition.is_some_and(|(_, _, keep)| keep > 0));
        if keeps {
            return Ok(());
        }
        let settle = Duration::from_secs(self.case.limits.settle);
        Standing::roots(&self.view.incidents, self.now, settle)
    }

    pub(super) fn name(&self, service: usize) -> String {
        service_name(service % self.setup().services.len())
    }

    fn says(&mut self, service: &str, change: ServiceSignal) -> Result<(), String> {
        let service = service.to_owned();
        self.feed(&Signal::Service { service, change })
    }

    pub(super) fn start(&mut self, name: &str, pid: u8) -> Result<(), String> {
        let special = [1, 2, PROTECTED_PID].get(usize::from(pid)).copied();
        let free = special.filter(|pid| self.keeper.runs.values().all(|runs| runs.pid != *pid));
        self.pids += 1;
        let process = key(free.unwrap_or(self.pids));
        if self.setup().service(name).is_some() {
            self.keeper.runs.insert(name.to_owned(), process);
            self.keeper.last.insert(name.to_owned(), process);
        }
        self.says(
            name,
            ServiceSignal::Started {
                process,
                adopted: false,
                cgroup_id: 0,
            },
        )
    }

    pub(super) fn kernel(&mut self, event: impl FnOnce(Header) -> Event) -> Result<(), String> {
        let time_ns = u64::try_from(self.now.nanos()).unwrap_or_default();
        let header = Header {
            kind: 0,
            cpu: 0,
            size: 0,
            time_ns,
        };
        self.feed(&Signal::Kernel {
            event: event(header),
        })
    }

    pub(super) fn exit(&mut self, name: &str) -> Result<(), String> {
        let process = self.keeper.runs.remove(name).unwrap_or(key(77));
        self.kernel(|header| {
            Event::ProcessExit(ProcessExit {
                header,
                task: task(process),
                parent_pid: PROTECTED_PID,
                status: 9,
                lifetime_ns: 5,
            })
        })
    }

    pub(super) fn person(&mut self, request: Request) -> Result<(), String> {
        let by = "ann".to_owned();
        self.feed(&Signal::Person { by, request })
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)),
            Step::Start(service, pid) => self.start(&self.name(service), pid),
            Step::Exit(service) => self.exit(&self.name(service)),
            Step::Reaped(service) => {
                let name = self.name(service);
                let process = self.keeper.runs.remove(&name).unwrap_or(key(77));
                self.says(
                    &name,
                    ServiceSignal::Exited {
                        process,
                        status: Some(9),
                    },
                )
            }
            Step::StartFailed(service) => {
                let name = self.name(service);
                self.keeper.runs.remove(&name);
                self.says(
                    &name,
                    ServiceSignal::StartFailed {
                        reason: "no program".to_owned(),
                    },
                )
            }
            Step::Stopped(service) => {
                let name = self.name(service);
                self.keeper.runs.remove(&name);
                self.says(&name, ServiceSignal::Stopped)
            }
            Step::Check(service, how) => {
                let failure = match how {
                    0 => None,
                    1 => Some(CheckFailure::Timeout),
                    _ => Some(CheckFailure::Connect("refused".to_owned())),
                };
                let (service, latency) = (self.name(service), Duration::ZERO);
                self.feed(&Signal::Check {
                    result: CheckResult::new(&service, latency, failure),
                })
            }
            Step::Swells(service, over) => {
                let service = self.name(service);
                let process = self.keeper.runs.get(&service).copied().unwrap_or(key(77));
                let resident = if over { 200 << 20 } else { 1 << 20 };
                let sample = Sample::ServiceMemory {
                    service,
                    process,
                    resident,
                };
                self.feed(&Signal::Sample { sample })
            }
            Step::Connects(from, to, well) => self.connects(from, to, well),
            Step::RunsAway(pid, comm, seconds) => self.runs_away(pid, comm, seconds),
            Step::Found(detector, who, what) => self.found(detector, who, what),
            Step::Loss(connect) => {
                let probe = if connect {
                    Kind::TcpConnect
                } else {
                    Kind::ProcessExit
                };
                self.feed(&Signal::Loss { probe, lost: 1 })
            }
            Step::Effect(which, how, lie) => self.effect(which, how, lie),
            Step::Approve(id) => self.approve(id),
            Step::Reject(id) => self.person(Request::Reject {
                incident: IncidentId(id),
            }),
            Step::Acknowledge(id) => self.person(Request::Acknowledge {
                incident: IncidentId(id),
            }),
            Step::Silence(on, time) => self.silence(on, time),
            Step::Unsilence(id) => {
                self.keeper.silences.remove(&id);
                self.person(Request::Unsilence { id })
            }
            Step::Clock(unix_ns) => self.feed(&Signal::Sample {
                sample: Sample::Clock { unix_ns },
            }),
            Step::Reload => self.reload(),
            Step::Halt(halted) => {
                self.keeper.halted = halted;
                let why = halted.then(|| "no space left on device".to_owned());
                self.ask(None, |engine, _| engine.halt(why.clone()))
            }
        }
    }

    /// Mostly what waits for it, and sometimes whatever has this number.
    fn approve(&mut self, number: u64) -> Result<(), String> {
        let mut waiting = self
            .view
            .incidents
            .values()
            .filter(|it| it.proposed.is_some());
        let waits = waiting.next().filter(|_| number > 1).map(|it| it.id);
        let incident = waits.unwrap_or(IncidentId(number));
        self.person(Request::Approve { incident })
    }

    fn reload(&mut self) -> Result<(), String> {
        self.in_force = 1 - self.in_force;
        let setup = &self.case.setups[self.in_force];
        self.keeper
            .runs
            .retain(|name, _| setup.service(name).is_some());
        self.keeper
            .last
            .retain(|name, _| setup.service(name).is_some());
        for (engine, settings) in self.engines.iter_mut().zip(&self.settings[self.in_force]) {
            engine.reconfigure(settings.clone());
        }
        self.ask(None, |_, _| {})
    }
}
