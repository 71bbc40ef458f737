//! Services that the daemon starts of its own accord: which it must not, and the journal of those that it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::inbox::{Inbox, Message};
use crate::actions::restart_service;
use crate::config::Config;
use crate::detectors::service_down;
use crate::host::clock;
use crate::host::exec::Program;
use crate::model::{Evidence, Incident, IncidentId, Severity, Subject, Time};
use crate::policy::Policy;
use crate::record::{Entry, Journal};

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
    pub(super) journal: Arc<Journal>,
    pub(super) inbox: Inbox,
}

impl Starting {
    /// Whether it may be started; when it may, that stands in the journal by now.
    pub(super) fn may_start(&self, service: &str, program: &Program) -> Result<(), String> {
        if let Some(reason) = self.held.get(service) {
            return Err(reason.clone());
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
            reason
        })
    }

    /// All of them are started: what was written is forced to the disk.
    pub(super) fn done(&self) {
        if let Err(error) = self.journal.sync() {
            self.inbox.send(Message::Halt(error.to_string()));
        }
    }
}
