//! Services that the daemon starts of its own accord: which it must not, and the journal of those that it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::half_done::HalfDone;
use super::inbox::{Inbox, Message};
use crate::actions::restart_service;
use crate::config::Config;
use crate::detectors::service_down;
use crate::host::clock;
use crate::host::exec::Program;
use crate::model::{Evidence, Incident, IncidentId, Severity, Subject, Time};
use crate::policy::Policy;
use crate::record::{Entry, Journal};
use crate::supervisors::command::NotNow;

/// Services that are not started with the daemon, and why. A restart of the daemon ends no silence; and after a crash of it, nothing that
/// was given up gets another try: when a person ends and starts it, that is a person's try.
pub(super) fn held(
    policy: &Policy,
    config: &Config,
    crashed: bool,
    now: Time,
) -> BTreeMap<String, String> {
    let names = config.programs.keys();
    let held = names.filter_map(|name| {
        let down = Incident::new(
            IncidentId(0),
            service_down::SPEC.name,
            Subject::service(name),
            Severity::Critical,
            Evidence::at(now),
            now,
        );
        let reason = policy.held(restart_service::SPEC.name, &down, crashed, now)?;
        Some((name.clone(), format!("not with the daemon: {reason}")))
    });
    held.collect()
}

/// What is asked before each such start.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) held: BTreeMap<String, String>,
    /// Those that are changed back first, by what does that.
    pub(super) half_done: BTreeMap<String, HalfDone>,
    pub(super) journal: Arc<Journal>,
    pub(super) inbox: Inbox,
}

impl Starting {
    /// Whether it may be started; when it may, that stands in the journal by now.
    pub(super) fn may_start(&self, service: &str, program: &Program) -> Result<(), NotNow> {
        if let Some(half_done) = self.half_done.get(service) {
            return Err(NotNow::Waits(half_done.to_string()));
        }
        self.may_start_now(service, program)
    }

    /// The same for one for which nothing more is waited.
    pub(super) fn may_start_now(&self, service: &str, program: &Program) -> Result<(), NotNow> {
        if let Some(reason) = self.held.get(service) {
            return Err(NotNow::Refused(reason.clone()));
        }
        let entry = Entry::ServiceStarted {
            service: service.to_owned(),
            command: program.command.clone(),
        };
        let written = self
            .journal
            .announce(clock::now(), clock::unix_nanos(), entry);
        written.map_err(|error| {
            let reason = error.to_string();
            self.inbox.send(Message::Halt(reason.clone()));
            NotNow::Refused(reason)
        })
    }

    /// All of them are started: what was written is forced to the disk.
    pub(super) fn done(&self) {
        if let Err(error) = self.journal.sync() {
            self.inbox.send(Message::Halt(error.to_string()));
        }
    }
}
