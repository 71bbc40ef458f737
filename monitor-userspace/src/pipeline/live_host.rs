//! The real host, as actions see it.

use std::sync::Arc;
use std::time::Duration;

use crate::host::signals::Held;
use crate::host::{Host, HostError, Opened, Restarted, clock};
use crate::model::{IncidentId, Plan, ProcessKey, Time};
use crate::record::{Entry, Journal};
use crate::supervisors::command::Commands;

/// See the module.
#[derive(Debug)]
pub(super) struct LiveHost {
    pub(super) commands: Arc<Commands>,
    pub(super) journal: Arc<Journal>,
}

impl Host for LiveHost {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Ok(Box::new(Held::open(process)?))
    }

    fn restart_service(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
        command: &[String],
    ) -> Result<Restarted, HostError> {
        self.commands.restart(service, process, term_grace, command)
    }

    fn running(&self, service: &str) -> Result<Option<ProcessKey>, HostError> {
        self.commands.running(service)
    }

    fn will_change(
        &self,
        incident: IncidentId,
        action: &str,
        undo: &Plan,
    ) -> Result<(), HostError> {
        let entry = Entry::WillChange {
            incident,
            action: action.to_owned(),
            undo: undo.clone(),
        };
        let written = self
            .journal
            .append(clock::now(), clock::unix_nanos(), vec![entry])
            // What is changed may outlive a power cut: so must this.
            .and_then(|()| self.journal.sync());
        written.map_err(|error| HostError::Journal(error.to_string()))
    }

    fn now(&self) -> Time {
        clock::now()
    }
}
