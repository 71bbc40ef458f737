//! What signals say about the services of the configuration, and about the host.

use std::collections::{BTreeMap, BTreeSet};

use monitor_common::Event;

use super::{Engine, Order, Settings};
use crate::detectors::memory_pressure;
use crate::model::incident::StepKind;
use crate::model::way::Way;
use crate::model::{
    Check, CheckResult, Network, Plan, ProcessKey, Relief, Sample, Service, ServiceSignal,
    ServiceState, Signal, Subject, Time,
};

/// Who else kills for lack of memory, as their processes are called.
const HEALERS: [&str; 3] = ["systemd-oomd", "earlyoom", "nohang"];

/// Whom a `[[remedy]]` for lack of memory names.
pub(super) fn expendable(settings: &Settings) -> BTreeSet<String> {
    let remedies = settings.remedies.iter();
    let mut names = BTreeSet::new();
    for on in remedies
        .filter(|remedy| remedy.detector == memory_pressure::SPEC.name)
        .flat_map(|remedy| &remedy.on)
    {
        if on == "*" {
            let services = settings.services.iter().filter(|it| !it.observe_only);
            names.extend(services.map(|service| service.name.clone()));
            names.extend(settings.groups.values().cloned());
        } else {
            names.insert(on.clone());
        }
    }
    names
}

impl Engine {
    /// Why an incident whose subject the configuration named is nobody's by now. What it never named stays observed.
    pub(super) fn no_longer_configured(&self, subject: &Subject) -> Option<&'static str> {
        match subject {
            Subject::Service { name } if !self.world.services.contains_key(name) => {
                Some("the service is no longer configured")
            }
            Subject::Process {
                comm,
                group: Some(group),
                ..
            } if self.world.groups.get(comm) != Some(group) => {
                Some("the process is no longer configured")
            }
            Subject::Network { name } if !self.world.networks.contains_key(name) => {
                Some("the network is no longer configured")
            }
            Subject::Folder { name } if !self.world.folders.contains_key(name) => {
                Some("the folder is no longer configured")
            }
            _ => None,
        }
    }

    /// How a service is, in the words that users see.
    pub(super) fn state_of(&self, service: &Service) -> ServiceState {
        let subject = Subject::service(&service.name);
        let troubled = self.book.open_on(&subject).next().is_some();
        let never_ran = service.starts == 0 && service.last_process.is_none();
        if service.unknown.is_some() {
            return ServiceState::Unknown;
        }
        if service.is_elsewhere() {
            return elsewhere(service, troubled);
        }
        match (service.process, service.answers) {
            (None, _) if service.stopped => ServiceState::Stopped,
            (None, _) if never_ran && !troubled => ServiceState::Starting,
            (None, _) => ServiceState::Down,
            (Some(_), Some(false)) => ServiceState::Degraded,
            (Some(_), _) if troubled => ServiceState::Degraded,
            (Some(_), None) if service.checked => ServiceState::Starting,
            (Some(_), _) => ServiceState::Healthy,
        }
    }

    /// Runs after the detectors have seen the signal.
    pub(super) fn update_world(&mut self, signal: &Signal, at: Time) {
        match signal {
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let process = ProcessKey::from_task(&exit.task);
                self.process_ended(process, at);
                self.target_ended(process, at);
            }
            Signal::Kernel { event } => {
                self.learn(event, at);
                self.notice_relief(event, at);
            }
            Signal::Sample {
                sample: Sample::ServiceLatency { cgroup_id, answers },
            } => {
                let service = self.world.service_of_cgroup(*cgroup_id);
                if let Some(name) = service.map(|service| service.name.clone()) {
                    self.change_service(&name, |service| service.latency = Some(*answers));
                }
            }
            Signal::Sample {
                sample: Sample::Load { load },
            } => self.world.load = Some(*load),
            Signal::Sample {
                sample: Sample::NetworkDiagnosis { diagnosis },
            } => {
                if let Some(network) = self.world.networks.get_mut(&diagnosis.network) {
                    network.diagnosis = Some(diagnosis.clone());
                }
            }
            Signal::Sample {
                sample: Sample::DiskSpace { folders, .. },
            } => {
                let known = folders.iter();
                let known = known.filter(|seen| self.world.folders.contains_key(&seen.name));
                self.world.folder_ids = known.map(|seen| (seen.name.clone(), seen.id)).collect();
            }
            Signal::Sample {
                sample: Sample::Clock { unix_ns },
            } => self.world.wall_ahead = Some(unix_ns.saturating_sub(at.nanos())),
            Signal::Sample {
                sample: Sample::Processes { processes },
            } => {
                if let Some(top) = self.top.take(processes, at) {
                    self.world.top = top;
                }
            }
            Signal::Service { service, change } => self.supervisor_says(service, change, at),
            Signal::Check { result } => {
                let Some(service) = self.world.services.get(&result.service) else {
                    return;
                };
                // A check that was sent to the process before this one says nothing about this one.
                let sent = at.before(result.latency);
                if result.failure.is_none() && service.is_serving(&result.check) {
                    match self.answered.get_mut(&result.service) {
                        Some(last) => *last = sent,
                        None => {
                            self.answered.insert(result.service.clone(), sent);
                        }
                    }
                }
                if service.is_elsewhere() || service.started.is_some_and(|started| sent >= started)
                {
                    self.checked(result);
                }
            }
            _ => {}
        }
    }

    /// A service runs again that was stopped: nothing is left to be changed back, whoever has started it.
    pub(super) fn started_again(&mut self, signal: &Signal, now: Time, orders: &mut Vec<Order>) {
        let Signal::Service {
            service,
            change: ServiceSignal::Started { .. },
        } = signal
        else {
            return;
        };
        let starts =
            |plan: &Plan| matches!(plan, Plan::StartService { service: own, .. } if own == service);
        let held = self.book.held().filter(|incident| {
            let undo = incident.held.as_ref().map(|held| &held.undo);
            undo.is_some_and(starts) && !self.acts.contains_key(&incident.id)
        });
        for id in held.map(|incident| incident.id).collect::<Vec<_>>() {
            self.book.change(id, |incident| {
                incident.held = None;
                let line = format!("{service} was started otherwise: nothing is left to undo");
                incident.step(now, StepKind::Undone, line);
            });
            self.record(id, orders);
        }
    }

    /// That those who run a service try no more stands in the story of what was left to them.
    pub(super) fn others_said(
        &mut self,
        service: &str,
        change: &ServiceSignal,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let ServiceSignal::GaveUp { reason } = change else {
            return;
        };
        let kind = self.world.services.get(service);
        let kind = kind.map_or_else(String::new, |service| service.kind.clone());
        let subject = Subject::service(service);
        let open = self.book.open_on(&subject);
        let left_to_them = open.filter(|incident| incident.opened < now);
        for id in left_to_them.map(|it| it.id).collect::<Vec<_>>() {
            self.book.change(id, |incident| {
                let line = format!("{kind} gave up: {reason}");
                incident.step(now, StepKind::Told, line);
            });
            self.record(id, orders);
        }
    }

    /// Somebody else has killed for lack of memory.
    fn notice_relief(&mut self, event: &Event, at: Time) {
        let (by, task) = match event {
            Event::OomKill(oom) => ("the kernel", &oom.task),
            Event::ProcessSignal(signal) if signal.result == 0 => {
                let sender = signal.sender_comm.split(|byte| *byte == 0).next();
                let known = HEALERS
                    .iter()
                    .find(|healer| sender == Some(healer.as_bytes()));
                match known {
                    Some(healer) => (*healer, &signal.task),
                    None => return,
                }
            }
            _ => return,
        };
        self.world.relieved = Some(Relief {
            at,
            by: by.to_owned(),
            victim: format!("{} [{}]", task.comm(), task.pid),
        });
    }

    /// A check of the process that runs now has come back.
    fn checked(&mut self, result: &CheckResult) {
        let Some(service) = self.world.services.get(&result.service) else {
            return;
        };
        let name = service.meant(&result.check).to_owned();
        let known = service.checks.get(&name);
        // Not answering yet is not the same as answering no more.
        let not_yet = |well: Option<bool>| well.is_none() && !service.is_elsewhere();
        let well = |before| match &result.failure {
            None => Some(true),
            Some(_) if not_yet(before) => None,
            Some(_) => Some(false),
        };
        let said = result.why().or_else(|| result.said.clone());
        let (was, answers) = (known.and_then(|check| check.well), service.answers);
        let same = known.is_some_and(|check| check.well == well(was) && check.said == said);
        if same {
            return;
        }
        let (now, answers) = (well(was), well(answers));
        self.change_service(&result.service, |service| {
            let Some(check) = service.checks.get_mut(&name) else {
                service.answers = answers;
                return;
            };
            check.well = now;
            check.said = said;
            if check.serving {
                service.answers = service.answering();
            }
        });
    }

    fn process_ended(&mut self, process: ProcessKey, at: Time) {
        let service = self.world.service_of(process);
        if let Some(name) = service.map(|service| service.name.clone()) {
            self.change_service(&name, |service| not_running(service, at));
        }
    }

    fn supervisor_says(&mut self, name: &str, change: &ServiceSignal, at: Time) {
        match change {
            ServiceSignal::Exited { process, .. } => {
                self.process_ended(*process, at);
                self.change_service(name, |service| service.unknown = None);
            }
            ServiceSignal::Started {
                process,
                cgroup_id,
                adopted,
            } => {
                // One that was taken over runs for longer than we do. Its clock also counts sleep of the machine: never the future.
                let began = Time::from_kernel(process.start_time_ns());
                let started = if *adopted { began.min(at) } else { at };
                self.change_service(name, |service| {
                    service.process = Some(*process);
                    service.last_process = Some(*process);
                    service.cgroup_id = *cgroup_id;
                    service.started = Some(started);
                    service.ended = None;
                    service.answers = None;
                    service.latency = None;
                    service.starts += u64::from(!*adopted);
                    // From here on, its end is news again.
                    service.in_action = false;
                    service.stopped = false;
                    service.gave_up = None;
                    service.unknown = None;
                    asked_anew(service);
                });
            }
            ServiceSignal::StartFailed { .. } | ServiceSignal::Stopped => {
                self.change_service(name, |service| {
                    not_running(service, at);
                    service.cgroup_id = 0;
                    service.stopped = *change == ServiceSignal::Stopped;
                    service.unknown = None;
                });
            }
            ServiceSignal::Heals { healer } => {
                self.change_service(name, |service| service.healer.clone_from(healer));
            }
            ServiceSignal::GaveUp { reason } => {
                self.change_service(name, |service| {
                    not_running(service, at);
                    service.gave_up = Some(reason.clone());
                    service.unknown = None;
                });
                // What was left to them is decided about now.
                let subject = Subject::service(name);
                let open = self.book.open_on(&subject).map(|incident| incident.id);
                for id in open.collect::<Vec<_>>() {
                    self.retries.entry(id).and_modify(|until| *until = at);
                }
            }
            ServiceSignal::Unknown { reason } => {
                self.change_service(name, |service| service.unknown = Some(reason.clone()));
            }
        }
        self.changed = true;
    }
}

/// The networks as configured now; what was seen of one that stays the same still counts.
pub(super) fn networks(
    ways: &[Way],
    before: &mut BTreeMap<String, Network>,
) -> BTreeMap<String, Network> {
    let fresh = ways.iter().map(|way| {
        let known = before.remove(&way.name).filter(|known| known.way == *way);
        let fresh = || Network {
            way: way.clone(),
            diagnosis: None,
        };
        (way.name.clone(), known.unwrap_or_else(fresh))
    });
    fresh.collect()
}

/// The checks as configured now; what each said last still counts.
pub(super) fn checks(known: &mut BTreeMap<String, Check>, wanted: &BTreeMap<String, Check>) {
    let fresh = wanted.iter().map(|(name, check)| {
        let before = known
            .remove(name)
            .filter(|before| before.kind == check.kind);
        let (well, said) = before.map_or((None, None), |before| (before.well, before.said));
        let check = Check {
            well,
            said,
            ..check.clone()
        };
        (name.clone(), check)
    });
    *known = fresh.collect();
}

fn not_running(service: &mut Service, at: Time) {
    if service.process.take().is_some() {
        service.ended = Some(at);
    }
    service.started = None;
    service.answers = None;
    service.latency = None;
    asked_anew(service);
}

/// What its checks said was of another process.
fn asked_anew(service: &mut Service) {
    for check in service.checks.values_mut().filter(|check| check.serving) {
        check.well = None;
        check.said = None;
    }
}

/// What its checks alone say of a service.
fn elsewhere(service: &Service, troubled: bool) -> ServiceState {
    let mut serving = service.checks.values().filter(|check| check.serving);
    match service.answering() {
        None => ServiceState::Unknown,
        Some(true) if troubled => ServiceState::Degraded,
        Some(true) => ServiceState::Healthy,
        Some(false) if serving.all(|check| check.well == Some(false)) => ServiceState::Down,
        Some(false) => ServiceState::Degraded,
    }
}
