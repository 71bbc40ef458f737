//! Services at the daemon's start: those that are not looked for yet, and those that something else is to start.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Commands, lock};
use crate::host::HostError;
use crate::host::exec::Program;

/// How long what is done to a service waits until the daemon has looked for it.
const LOOKS: Duration = Duration::from_secs(30);

/// Why a service is not started with the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// It must not be: told as a start that failed.
    Refused(String),
    /// Something else is done first, which starts it.
    Waits(String),
}

/// See the module. Never more than services of the configuration.
#[derive(Debug, Default)]
pub(super) struct Later {
    expected: Mutex<BTreeSet<String>>,
    there: Condvar,
    waiting: Mutex<BTreeSet<String>>,
}

impl Later {
    /// It is among the services: what asks for it may go on.
    pub(super) fn is_there(&self, name: &str) {
        lock(&self.expected).remove(name);
        self.there.notify_all();
    }

    /// Waits for one that is expected; not for ever.
    pub(super) fn until_there(&self, name: &str) {
        let expected = lock(&self.expected);
        let waits = |expected: &mut BTreeSet<String>| expected.contains(name);
        let waited = self.there.wait_timeout_while(expected, LOOKS, waits);
        let (_expected, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            tracing::warn!(service = %name, "it is not found nor started after {LOOKS:?}");
        }
    }

    /// Something else starts it.
    pub(super) fn waits(&self, name: &str) {
        lock(&self.waiting).insert(name.to_owned());
    }

    /// It is started now; whether it waited for that.
    pub(super) fn begins(&self, name: &str) -> bool {
        lock(&self.waiting).remove(name)
    }
}

impl Commands {
    /// These are going to be applied for the first time: what is done to one of them before waits until then.
    pub fn expect<'a>(&self, names: impl Iterator<Item = &'a String>) {
        lock(&self.later.expected).extend(names.cloned());
    }

    /// Whether a service still waits for something else to start it.
    pub fn waits(&self, name: &str) -> bool {
        lock(&self.later.waiting).contains(name)
    }

    /// Starts a service that still waits; nothing else is going to. What `may_start` says is as in [`Commands::apply`].
    pub fn start_waiting(
        &self,
        name: &str,
        may_start: impl Fn(&str, &Program) -> Result<(), NotNow>,
    ) -> Result<(), HostError> {
        let managed = self.managed(name)?;
        let mut managed = lock(&managed);
        // Right before, somebody else may have started or stopped it.
        let waited = self.later.begins(name);
        if !waited || managed.stopped || !managed.wanted || managed.held.is_some() {
            return Ok(());
        }
        match may_start(name, &managed.program) {
            Ok(()) => self.start(name, &mut managed).map(|_| ()),
            Err(NotNow::Refused(reason) | NotNow::Waits(reason)) => {
                tracing::warn!(service = %name, %reason, "the service is not started");
                let failed = crate::model::ServiceSignal::StartFailed { reason };
                self.notify.service(name, failed);
                Ok(())
            }
        }
    }
}
