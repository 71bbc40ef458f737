//! The real host, as actions see it.

use std::sync::Arc;
use std::time::Duration;

use crate::host::signals::Held;
use crate::host::{Host, HostError, Opened, Restarted, clock};
use crate::model::{ProcessKey, Time};
use crate::supervisors::command::Commands;

/// See the module.
#[derive(Debug)]
pub(super) struct LiveHost {
    pub(super) commands: Arc<Commands>,
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

    fn now(&self) -> Time {
        clock::now()
    }
}
