//! The real host, as actions see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::teller::Teller;
use crate::config::Config;
use crate::host::clean::{Cleaned, Cleaner};
use crate::host::command::{Finished, Order, Runner};
use crate::host::network::Ways;
use crate::host::release::{self, Switch};
use crate::host::restrain::{self, Lifted, Restrained, Will};
use crate::host::signals::Held;
use crate::host::{
    Dropped, Ended, Host, HostError, NetworkHand, Opened, Reloaded, Restarted, capture, clock,
    connections, end_cgroup, redis,
};
use crate::model::command::Reload;
use crate::model::connections::ConnectionFilter;
use crate::model::{
    Cleaning, Flush, IncidentId, Lift, Plan, ProcessKey, Releases, Restraint, Time, Whole,
};
use crate::record::{Entry, Journal};
use crate::supervisors::command::Commands;
use crate::supervisors::{Owner, Supervisors};

/// See the module.
#[derive(Debug)]
pub(super) struct LiveHost {
    pub(super) supervisors: Arc<Supervisors>,
    pub(super) journal: Arc<Journal>,
    pub(super) ways: Arc<Ways>,
    pub(super) called_off: Arc<CalledOff>,
    pub(super) runner: Arc<Runner>,
    pub(super) cleaner: Arc<Cleaner>,
}

/// Acts that are not to go on, by incident, while they are under way.
#[derive(Debug, Default)]
pub(super) struct CalledOff(Mutex<BTreeMap<IncidentId, String>>);

impl CalledOff {
    /// There are never more than acts under way: each is forgotten when its effect is known.
    pub(super) fn add(&self, id: IncidentId, why: String) {
        self.lock().insert(id, why);
    }

    pub(super) fn forget(&self, id: IncidentId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IncidentId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who starts services; nothing is started yet.
pub(super) fn supervisors(
    config: &Config,
    folder: &Path,
    teller: &Arc<Teller>,
) -> Arc<Supervisors> {
    let logs = config.daemon.capture_logs.then(|| capture::folder(folder));
    let notify: Arc<Teller> = Arc::clone(teller);
    let sockets = config.daemon.socket.with_extension("notify");
    let commands = Commands::new(folder, logs, sockets, notify);
    commands.expect(config.programs.keys());
    let runner = Arc::new(Runner::new(folder));
    let notify: Arc<Teller> = Arc::clone(teller);
    Arc::new(Supervisors::new(commands, notify, runner))
}

/// The host, as acts see it.
pub(super) fn host(
    supervisors: &Arc<Supervisors>,
    journal: &Arc<Journal>,
    called_off: &Arc<CalledOff>,
    ways: &Arc<Ways>,
    cleaner: &Arc<Cleaner>,
) -> Arc<dyn Host> {
    Arc::new(LiveHost {
        supervisors: Arc::clone(supervisors),
        journal: Arc::clone(journal),
        called_off: Arc::clone(called_off),
        runner: Arc::clone(&supervisors.runner),
        ways: Arc::clone(ways),
        cleaner: Arc::clone(cleaner),
    })
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
        match self.supervisors.owner(service) {
            Owner::Us(commands) => commands.restart(service, process, term_grace, command),
            Owner::Them(followed) => followed.restart(service, process, term_grace, command),
        }
    }

    fn stop_service(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
    ) -> Result<Time, HostError> {
        match self.supervisors.owner(service) {
            Owner::Us(commands) => commands.stop_asked(service, process, term_grace),
            Owner::Them(followed) => followed.stop(service, process, term_grace),
        }
    }

    fn start_service(&self, service: &str, command: &[String]) -> Result<Restarted, HostError> {
        match self.supervisors.owner(service) {
            Owner::Us(commands) => commands.start_asked(service, command),
            Owner::Them(followed) => followed.start_service(service, command),
        }
    }

    fn reload_service(
        &self,
        service: &str,
        process: ProcessKey,
        how: &Reload,
    ) -> Result<Reloaded, HostError> {
        match self.supervisors.owner(service) {
            Owner::Us(commands) => commands.reload_asked(service, process, how, &self.runner),
            Owner::Them(followed) => followed.reload(service, process, how),
        }
    }

    fn running(&self, service: &str) -> Result<Option<ProcessKey>, HostError> {
        match self.supervisors.owner(service) {
            Owner::Us(commands) => commands.running(service),
            Owner::Them(followed) => followed.running(service),
        }
    }

    fn release(&self, how: &Releases) -> Result<String, HostError> {
        release::current(&self.runner, how)
    }

    fn may_switch_release(&self, switch: &Switch<'_>) -> Result<(), HostError> {
        release::may_switch(&self.runner, switch)
    }

    fn switch_release(&self, switch: &Switch<'_>) -> Result<(), HostError> {
        release::switch(&self.runner, switch)
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

    fn called_off(&self, incident: IncidentId) -> Option<String> {
        self.called_off.lock().get(&incident).cloned()
    }

    fn end_cgroup(
        &self,
        whole: &Whole,
        term_grace: Duration,
        protected: &[&str],
    ) -> Result<Ended, HostError> {
        end_cgroup::end(whole, term_grace, protected)
    }

    fn restrain(
        &self,
        whole: &Whole,
        restraint: Restraint,
        protected: &[&str],
        will: Will<'_>,
    ) -> Result<Restrained, HostError> {
        restrain::restrain(whole, restraint, protected, will)
    }

    fn is_restrained(&self, whole: &Whole, restraint: Restraint) -> Result<String, HostError> {
        restrain::is_restrained(whole, restraint)
    }

    fn lift(&self, process: ProcessKey, lift: &Lift) -> Result<Lifted, HostError> {
        restrain::lift(process, lift)
    }

    fn is_lifted(&self, process: ProcessKey, lift: &Lift) -> Result<String, HostError> {
        restrain::is_lifted(process, lift)
    }

    fn drop_connections(
        &self,
        process: ProcessKey,
        tree: bool,
        spare: &[&str],
        filter: &ConnectionFilter,
    ) -> Result<Dropped, HostError> {
        connections::destroy(process, tree, spare, filter)
    }

    fn count_connections(
        &self,
        process: ProcessKey,
        tree: bool,
        spare: &[&str],
        filter: &ConnectionFilter,
    ) -> Result<usize, HostError> {
        connections::count(process, tree, spare, filter)
    }

    fn network(&self, name: &str) -> Result<Box<dyn NetworkHand>, HostError> {
        Ok(Box::new(self.ways.turn(name)?))
    }

    fn run_command(&self, order: &Order) -> Result<Finished, HostError> {
        self.runner.run(order)
    }

    fn run_command_about(
        &self,
        incident: IncidentId,
        order: &Order,
    ) -> Result<Finished, HostError> {
        self.runner.run_unless(order, &|| self.called_off(incident))
    }

    fn clean_folder(
        &self,
        incident: IncidentId,
        cleaning: &Cleaning,
    ) -> Result<Cleaned, HostError> {
        let called_off = || self.called_off(incident);
        self.cleaner.clean(incident, cleaning, &called_off)
    }

    fn cleaned(&self, cleaning: &Cleaning) -> Result<String, String> {
        self.cleaner.proof(cleaning)
    }

    fn flush_redis(&self, flush: &Flush) -> Result<redis::Flushed, HostError> {
        redis::flush(flush)
    }

    fn redis_keys(&self, flush: &Flush) -> Result<u64, HostError> {
        redis::keys(flush)
    }

    fn now(&self) -> Time {
        clock::now()
    }
}
