//! One service that somebody else runs: what was told of it, and what a look at it adds to that.

use std::time::{Duration, Instant};

use crate::host::signals::Held;
use crate::host::{HostError, procfs};
use crate::model::{Healer, ProcessKey, ServiceSignal};
use crate::supervisors::{Notify, Phase, Seen};

use super::NOTICE;

/// First wait before they are asked again about what they have not noticed yet; doubles.
const SOON: Duration = Duration::from_millis(1);
/// Longest such wait.
const LATER: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The process that was told of last, while it is not told that it ended.
    pub(super) held: Option<Held>,
    /// Something was told of it before.
    known: bool,
    told: Option<Told>,
    healer: Option<Healer>,
    /// Since when they say something that cannot stay so, and how long was waited last.
    unsettled: Option<(Instant, Duration)>,
}

/// What was told last of one that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Stopped,
    Failed(String),
    Unknown(String),
}

/// When to look again.
pub(super) type Next = Duration;

impl Track {
    /// Its process, while it runs.
    pub(super) fn running(&self) -> Option<ProcessKey> {
        let process = self.held.as_ref().map(Held::process);
        process.filter(|process| procfs::runs(*process))
    }

    /// Whether they start it anew by themselves, as they said last.
    pub(super) fn heals(&self) -> bool {
        self.healer.is_some()
    }

    /// Whether it was told that it is to stay stopped.
    pub(super) fn stopped(&self) -> bool {
        self.told == Some(Told::Stopped)
    }

    /// A look at it has come back.
    pub(super) fn take(
        &mut self,
        kind: &str,
        service: &str,
        seen: Result<Seen, HostError>,
        notify: &dyn Notify,
    ) -> Option<Next> {
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                self.cannot_be_asked(service, &error, notify);
                return Some(NOTICE);
            }
        };
        let ended = self.held.as_ref().map(Held::process);
        let ended = ended.filter(|process| !procfs::runs(*process));
        let unsettled = match seen.phase {
            Phase::Stopping => true,
            // They have not noticed yet that it ended.
            Phase::Running | Phase::Starting => ended.is_some() && seen.process == ended,
            Phase::Stopped | Phase::Failed { .. } => false,
        };
        if unsettled && let Some(next) = self.not_settled() {
            return Some(next);
        }
        // Between two processes nothing is settled, for as long as that takes.
        if seen.phase != Phase::Starting || seen.process.is_some() {
            self.unsettled = None;
        }
        if self.healer != seen.healer {
            self.healer.clone_from(&seen.healer);
            let healer = seen.healer.clone();
            notify.service(service, ServiceSignal::Heals { healer });
        }
        let faulty = self.has_ended(service, &seen, notify);
        if let Some(process) = seen.process.filter(|process| Some(*process) != ended) {
            self.has_started(service, process, seen.cgroup_id, notify);
        }
        match seen.phase {
            Phase::Stopped if self.held.is_none() => {
                self.tell(service, Told::Stopped, ServiceSignal::Stopped, notify);
            }
            Phase::Failed { why, gave_up } if self.held.is_none() => {
                let reason = format!("{kind}: {why}");
                let failed = Told::Failed(why);
                if gave_up {
                    let gave_up = ServiceSignal::GaveUp { reason };
                    self.tell(service, failed, gave_up, notify);
                } else if faulty {
                    // The end itself was told just now.
                    self.told = Some(failed);
                } else {
                    let start_failed = ServiceSignal::StartFailed { reason };
                    self.tell(service, failed, start_failed, notify);
                }
            }
            // Between two processes: the next look is soon.
            Phase::Starting if self.held.is_none() => return self.not_settled(),
            _ => {}
        }
        None
    }

    /// What cannot stay so is looked at again soon; none when that has been so for too long.
    fn not_settled(&mut self) -> Option<Next> {
        let now = Instant::now();
        let (since, wait) = self.unsettled.unwrap_or((now, SOON));
        self.unsettled = Some((since, wait.saturating_mul(2).min(LATER)));
        (now.duration_since(since) < NOTICE).then_some(wait)
    }

    fn cannot_be_asked(&mut self, service: &str, error: &HostError, notify: &dyn Notify) {
        let reason = error.to_string();
        let told = Told::Unknown(reason.clone());
        self.tell(service, told, ServiceSignal::Unknown { reason }, notify);
    }

    /// Its process is gone: a fault, unless it was stopped. Whether that was told as a fault.
    fn has_ended(&mut self, service: &str, seen: &Seen, notify: &dyn Notify) -> bool {
        let Some(process) = self.held.as_ref().map(Held::process) else {
            return false;
        };
        if procfs::runs(process) {
            return false;
        }
        self.held = None;
        // They stop it, and have not noticed yet that it ended: that is none, either.
        if matches!(seen.phase, Phase::Stopped | Phase::Stopping) {
            return false;
        }
        let status = None;
        notify.service(service, ServiceSignal::Exited { process, status });
        true
    }

    fn has_started(
        &mut self,
        service: &str,
        process: ProcessKey,
        cgroup_id: u64,
        notify: &dyn Notify,
    ) {
        let held = self.held.as_ref().map(Held::process);
        if held == Some(process) && !matches!(self.told, Some(Told::Unknown(_))) {
            return;
        }
        let opened = match Held::open(process) {
            Ok(opened) => opened,
            // It has ended already: the next look says what that means.
            Err(error) => {
                tracing::debug!(%service, %error, "its process cannot be watched");
                return;
            }
        };
        self.held = Some(opened);
        self.told = None;
        let adopted = !std::mem::replace(&mut self.known, true) || held == Some(process);
        let started = ServiceSignal::Started {
            process,
            adopted,
            cgroup_id,
        };
        notify.service(service, started);
    }

    /// Tells it once.
    fn tell(&mut self, service: &str, told: Told, change: ServiceSignal, notify: &dyn Notify) {
        self.known = true;
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told);
            notify.service(service, change);
        }
    }
}
