//! Passes on what supervisors say: to the core, to the samplers of ceilings and of pressure, to the checks, and to the kernel's
//! watch list and guards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::guarding::Guarding;
use super::inbox::{Inbox, Message};
use crate::host::clock;
use crate::kernel::WatchList;
use crate::model::{ProcessKey, ServiceSignal, Signal};
use crate::samplers::service_memory::Ceilings;
use crate::samplers::service_pressure::Pressures;
use crate::supervisors::Notify;

/// See the module.
#[derive(Debug)]
pub(super) struct Teller {
    inbox: Inbox,
    ceilings: Ceilings,
    pressures: Pressures,
    guarding: Guarding,
    /// Acts that have come to their end.
    acts: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watch_list: Option<WatchList>,
    running: BTreeMap<String, ProcessKey>,
    memory_max: BTreeMap<String, u64>,
    starts: BTreeMap<String, watch::Sender<u64>>,
    /// Releases that were put in place.
    releases: BTreeMap<String, watch::Sender<u64>>,
    /// Services that somebody else runs: nobody else says that their events are to come at once.
    others: BTreeSet<String>,
}

impl Teller {
    pub(super) fn new(
        inbox: Inbox,
        ceilings: Ceilings,
        pressures: Pressures,
        guarding: Guarding,
        watch_list: Option<WatchList>,
    ) -> Self {
        let state = State {
            watch_list,
            running: BTreeMap::new(),
            memory_max: BTreeMap::new(),
            starts: BTreeMap::new(),
            releases: BTreeMap::new(),
            others: BTreeSet::new(),
        };
        Self {
            inbox,
            ceilings,
            pressures,
            guarding,
            acts: watch::channel(0).0,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the starts of a service.
    pub(super) fn starts(&self, service: &str) -> watch::Receiver<u64> {
        let mut state = self.lock();
        state
            .starts
            .entry(service.to_owned())
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// Counts acts that have come to their end, whatever they were on.
    pub(super) fn acts(&self) -> watch::Receiver<u64> {
        self.acts.subscribe()
    }

    /// An act has come to its end.
    pub(super) fn acted(&self) {
        self.acts.send_modify(|count| *count += 1);
    }

    /// Counts the releases of a service that were put in place while the daemon ran.
    pub(super) fn releases(&self, service: &str) -> watch::Receiver<u64> {
        let mut state = self.lock();
        state
            .releases
            .entry(service.to_owned())
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// A service has another release than before.
    pub(super) fn released(&self, service: &str) {
        if let Some(releases) = self.lock().releases.get(service) {
            releases.send_modify(|count| *count += 1);
        }
    }

    /// The process that a service runs as, as far as was told.
    pub(super) fn running(&self, service: &str) -> Option<ProcessKey> {
        self.lock().running.get(service).copied()
    }

    /// What is guarded in the kernel.
    pub(super) const fn guarding(&self) -> &Guarding {
        &self.guarding
    }

    fn tell(&self, service: &str, change: ServiceSignal) {
        let signal = Signal::Service {
            service: service.to_owned(),
            change,
        };
        self.inbox.signal(clock::now(), signal);
    }

    /// Ceilings, and services that somebody else runs, as configured.
    pub(super) fn configure(&self, memory_max: BTreeMap<String, u64>, others: BTreeSet<String>) {
        let mut state = self.lock();
        state.others = others;
        for (service, process) in &state.running {
            match memory_max.get(service) {
                Some(ceiling) => self.ceilings.set(service, *process, *ceiling),
                None => self.ceilings.clear(service),
            }
        }
        state.memory_max = memory_max;
    }
}

impl Notify for Teller {
    fn service(&self, service: &str, change: ServiceSignal) {
        // Told alone of one that runs: its process stays the same.
        if matches!(change, ServiceSignal::Heals { .. }) {
            return self.tell(service, change);
        }
        let mut state = self.lock();
        if let Some(process) = state.running.remove(service)
            && let Some(list) = &mut state.watch_list
            && let Err(error) = list.unwatch(process.pid)
        {
            tracing::debug!(%error, "cannot take a process off the watch list");
        }
        self.ceilings.clear(service);
        self.pressures.clear(service);
        let for_good = matches!(change, ServiceSignal::Stopped);
        self.guarding.ended(service, for_good);
        if let ServiceSignal::Started {
            process,
            adopted,
            cgroup_id,
        } = &change
        {
            self.guarding.started(service, *process, *cgroup_id);
            state.running.insert(service.to_owned(), *process);
            if let Some(ceiling) = state.memory_max.get(service) {
                self.ceilings.set(service, *process, *ceiling);
            }
            if (*adopted || state.others.contains(service))
                && let Some(list) = &mut state.watch_list
                && let Err(error) = list.watch(process.pid)
            {
                tracing::warn!(%error, "this service's events come late");
            }
        }
        let started = matches!(change, ServiceSignal::Started { .. });
        self.tell(service, change);
        if started && let Some(starts) = state.starts.get(service) {
            starts.send_modify(|count| *count += 1);
        }
    }

    fn watch(&self, service: &str, process: ProcessKey, pidfd: OwnedFd) {
        self.inbox.send(Message::Watch {
            service: service.to_owned(),
            process,
            pidfd,
        });
    }

    fn pressure(&self, service: &str, file: File) {
        self.pressures.set(service, file);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::inbox::inbox;
    use super::*;
    use crate::record::Journal;
    use crate::record::journal::Config;

    #[test]
    fn who_starts_it_anew_is_passed_on_and_says_nothing_of_its_process() {
        let name = format!("smart-monitor-teller-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let journal = Journal::open(&folder, Config::default()).expect("it opens");
        let (inbox, delivered) = inbox().expect("it is made");
        let teller = Teller::new(
            inbox,
            Ceilings::new().expect("it is made"),
            Pressures::new().expect("it is made"),
            Guarding::new(None, None, Arc::new(journal)),
            None,
        );
        let process = ProcessKey {
            pid: 7,
            start_ticks: 7,
        };
        let started = ServiceSignal::Started {
            process,
            adopted: false,
            cgroup_id: 0,
        };
        teller.service("shop", started);
        teller.service("shop", ServiceSignal::Heals { healer: None });
        assert_eq!(teller.running("shop"), Some(process));
        teller.service("shop", ServiceSignal::Stopped);
        assert_eq!(teller.running("shop"), None);
        let passed_on = std::iter::from_fn(|| delivered.next()).count();
        assert_eq!(passed_on, 3);
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
