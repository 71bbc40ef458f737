//! The host that is made up: services and processes that begin and end, and what becomes of acts.

use monitor_common::event::COMM_LEN;
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::{Event, Header, Task};

use super::super::step::{Becomes, On};
use super::{PIDS, Scene};
use crate::actions::rollback_release;
use crate::model::{
    Effect, EffectResult, Lift, Plan, ProcessKey, Sample, ServiceSignal, Signal, Subject,
};

/// A tick of [`ProcessKey`], nanoseconds.
const TICK: u64 = 10_000_000;
/// A wait status.
const SIGKILL: u32 = 9;
/// Another.
const SIGTERM: u32 = 15;

impl Scene {
    /// The act that is due next comes to its end.
    pub(super) fn end_act(&mut self) {
        let Some(due) = self.due.pop_front() else {
            return;
        };
        let reason = "the test says so".to_owned();
        let (result, undo) = match due.becomes {
            Becomes::Failed | Becomes::Nothing => (EffectResult::Failed { reason }, None),
            Becomes::Refused => (EffectResult::Refused { reason }, None),
            Becomes::Done => {
                let detail = format!("{}, as the test says", due.action);
                (EffectResult::Done { detail }, self.carry_out(&due.plan))
            }
        };
        let acted = (due.becomes == Becomes::Done).then_some(self.now);
        let effect = Effect {
            incident: due.incident,
            action: due.action.to_owned(),
            acted,
            finished: self.now,
            result,
            verified: None,
            undo,
        };
        self.signal(&Signal::Effect { effect });
    }

    /// What a plan does to the made-up host, and what would change that back.
    pub(super) fn carry_out(&mut self, plan: &Plan) -> Option<Plan> {
        match plan {
            Plan::KillProcess { process, comm, .. } => self.end(*process, comm, SIGKILL),
            Plan::RestartService { service, .. } => {
                let running = self.view.services.get(service);
                if let Some(process) = running.and_then(|view| view.service.process) {
                    self.end(process, service, SIGKILL);
                }
                self.start(service);
            }
            Plan::StopService {
                service,
                process,
                command,
                ..
            } => {
                self.service(service, ServiceSignal::Stopped);
                if let Some(process) = process {
                    self.end(*process, service, SIGTERM);
                }
                return Some(Plan::StartService {
                    service: service.clone(),
                    command: command.clone(),
                });
            }
            Plan::StartService { service, .. } => self.start(service),
            Plan::LowerPriority { process, comm, .. } => {
                return Some(Plan::RestorePriority {
                    process: *process,
                    comm: comm.clone(),
                    nice: vec![(process.pid, 0)],
                });
            }
            Plan::SwitchRelease { service, .. } => {
                return self.switch_release(service, plan);
            }
            Plan::KillCgroup { whole, .. } => self.end(whole.process, &whole.comm, SIGKILL),
            Plan::Restrain { whole, .. } => {
                return Some(Plan::Release {
                    process: whole.process,
                    comm: whole.comm.clone(),
                    lift: Box::new(Lift::Continue),
                });
            }
            Plan::LowerIoPriority {
                process,
                comm,
                ioprio,
            } => {
                return Some(Plan::RestoreIoPriority {
                    process: *process,
                    comm: comm.clone(),
                    set: *ioprio,
                    ioprio: vec![(process.pid, 0)],
                });
            }
            Plan::SetOomScore {
                process,
                comm,
                score,
            } => {
                return Some(Plan::RestoreOomScore {
                    process: *process,
                    comm: comm.clone(),
                    had: 0,
                    set: *score,
                });
            }
            // Nothing that a made-up host shows.
            _ => {}
        }
        None
    }

    /// The service is started anew with another release.
    fn switch_release(&mut self, service: &str, plan: &Plan) -> Option<Plan> {
        let Plan::SwitchRelease { to, .. } = plan else {
            return None;
        };
        let running = self.view.services.get(service);
        if let Some(process) = running.and_then(|view| view.service.process) {
            self.end(process, service, SIGKILL);
        }
        self.start(service);
        let process = self.view.services.get(service)?.service.process?;
        let sample = Sample::Release {
            service: service.to_owned(),
            process,
            release: Some(to.clone()),
            why: None,
        };
        self.signal(&Signal::Sample { sample });
        rollback_release::forward(plan)
    }

    pub(super) fn new_process(&mut self) -> ProcessKey {
        let pid = self.next_pid;
        self.next_pid = self.next_pid.wrapping_add(1).max(PIDS);
        let start_ticks = u64::try_from(self.now.nanos()).unwrap_or(0) / TICK;
        ProcessKey { pid, start_ticks }
    }

    pub(super) fn start(&mut self, service: &str) {
        let process = self.new_process();
        let change = ServiceSignal::Started {
            process,
            adopted: false,
            cgroup_id: u64::from(process.pid),
        };
        self.service(service, change);
    }

    pub(super) fn service(&mut self, service: &str, change: ServiceSignal) {
        let service = service.to_owned();
        self.signal(&Signal::Service { service, change });
    }

    /// A process ends: the kernel says so, and then the supervisor of the service that it was.
    pub(super) fn end(&mut self, process: ProcessKey, comm: &str, status: u32) {
        self.processes.retain(|_, other| *other != process);
        let services = self.view.services.values();
        let mut services = services.filter(|view| view.service.process == Some(process));
        let service = services.next().map(|view| view.service.clone());
        let started = service.as_ref().and_then(|service| service.started);
        let lifetime = self.now.since(started.unwrap_or(self.now));
        let mut name = [0; COMM_LEN];
        for (to, from) in name.iter_mut().zip(comm.bytes().take(COMM_LEN - 1)) {
            *to = from;
        }
        let time_ns = u64::try_from(self.now.nanos()).unwrap_or(0);
        let event = Event::ProcessExit(ProcessExit {
            header: Header::of::<ProcessExit>(0, time_ns),
            task: Task {
                pid: process.pid,
                tid: process.pid,
                start_time_ns: process.start_ticks.saturating_mul(TICK),
                cgroup_id: service.as_ref().map_or(0, |service| service.cgroup_id),
                comm: name,
            },
            parent_pid: 1,
            status,
            lifetime_ns: u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX),
        });
        self.signal(&Signal::Kernel { event });
        if let Some(service) = service {
            let status = Some(status);
            self.service(&service.name, ServiceSignal::Exited { process, status });
        }
    }

    /// The subject that a step means; a process of an entry is made up where there is none.
    pub(super) fn subject(&mut self, on: &On) -> Subject {
        match on {
            On::Service(name) => Subject::service(name),
            On::Entry(entry, comm) => {
                let known = self.processes.get(entry).copied();
                let process = known.unwrap_or_else(|| self.new_process());
                self.processes.insert(entry.clone(), process);
                Subject::Process {
                    process,
                    comm: comm.clone(),
                    group: Some(entry.clone()),
                }
            }
            On::Other(subject) => subject.clone(),
        }
    }

    pub(super) fn process_of(&self, subject: &Subject) -> Option<(ProcessKey, String)> {
        match subject {
            Subject::Process { process, comm, .. } => Some((*process, comm.clone())),
            Subject::Service { name } => {
                let process = self.view.services.get(name)?.service.process?;
                Some((process, name.clone()))
            }
            _ => None,
        }
    }
}
