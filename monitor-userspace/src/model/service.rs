//! What is known of the services and processes that the configuration names. Detectors and policy read it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::command::Reload;
use super::evidence::TopProcess;
use super::way::{Diagnosis, Way};
use super::{Answers, HostLoad, ProcessKey, Release, Services, Time};

/// A service's state, in the words that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServiceState {
    /// Started, and not yet proven to serve.
    Starting,
    /// Runs, its check is well, no incident is open on it.
    Healthy,
    /// Runs, with an open incident or a failing check.
    Degraded,
    /// Does not run.
    Down,
    /// Does not run, and is not to: it was stopped.
    Stopped,
}

impl ServiceState {
    /// All of them, for a bounded set of labels.
    pub const ALL: &'static [ServiceState] = &[
        Self::Starting,
        Self::Healthy,
        Self::Degraded,
        Self::Down,
        Self::Stopped,
    ];

    /// The word that stands in listings and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
            Self::Stopped => "STOPPED",
        }
    }
}

/// A service of the configuration, and what is known of it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Addresses it listens on.
    pub listen: Vec<SocketAddr>,
    /// Resident memory over which it is in trouble, bytes.
    pub memory_max: Option<u64>,
    /// Whether a health check watches it.
    pub checked: bool,
    /// Its main process, while it runs.
    pub process: Option<ProcessKey>,
    /// The main process it had last, running or not.
    pub last_process: Option<ProcessKey>,
    /// The number of the cgroup that is its own; 0 when it has none, or does not run.
    #[serde(default)]
    pub cgroup_id: u64,
    /// When that process started.
    pub started: Option<Time>,
    /// Whether an action is under way that ends or starts it, so that its exit is no surprise.
    pub in_action: bool,
    /// It was stopped, and is to stay so until it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Whether the last check since it started was well; none before the first one.
    pub answers: Option<bool>,
    /// Starts since the daemon began.
    pub starts: u64,
    /// What is started for it: program and arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How it is told to read its configuration again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// What it cannot work without, as configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// How long it took to answer in the last interval; none before the first request that its present process was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Answers>,
    /// Its releases, where the configuration says how they are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Box<Release>>,
}

impl Service {
    /// A service that has not been started.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            listen: Vec::new(),
            memory_max: None,
            checked: false,
            process: None,
            last_process: None,
            cgroup_id: 0,
            started: None,
            in_action: false,
            stopped: false,
            answers: None,
            starts: 0,
            command: Vec::new(),
            reload: None,
            depends_on: Vec::new(),
            latency: None,
            release: None,
        }
    }

    /// Runs, and has shown that it serves (or has no check that could show it).
    pub fn serves(&self) -> bool {
        self.process.is_some() && (!self.checked || self.answers == Some(true))
    }
}

/// What a service cannot work without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// A service of the configuration, by name.
    Service(String),
    /// Something that listens elsewhere.
    Peer(SocketAddr),
}

/// What the configuration says of a name besides what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Only say what would have been done to it.
    pub dry_run: bool,
    /// Somebody else repairs it too, and is given time first.
    pub healer: Option<Healer>,
}

/// Somebody else who repairs a service or a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healer {
    /// Who: `systemd`, `docker`, `pm2`, ...
    pub name: String,
    /// How long it is given before it counts as having given up.
    pub patience: std::time::Duration,
}

/// Everything the configuration names, and what is known of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Services by name.
    pub services: Services,
    /// `[[process]]` entries: process name (`comm`) to the entry's name.
    pub groups: BTreeMap<String, String>,
    /// Names that may be ended for lack of memory on the host: a `[[remedy]]` for that names them.
    pub expendable: BTreeSet<String>,
    /// Never acted upon, by PID: the daemon itself, its ancestors, PID 1.
    pub protected_pids: Vec<u32>,
    /// Never acted upon, by name: what `[policy] protected` says.
    pub protected_names: Vec<String>,
    /// What the configuration says of each name besides what it is.
    pub named: BTreeMap<String, Named>,
    /// What the wall clock shows more than the monotonic one, nanoseconds; none before it was told.
    pub wall_ahead: Option<i64>,
    /// How busy the host was at the last sample.
    pub load: Option<HostLoad>,
    /// The processes that used most at the last sample.
    pub top: Vec<TopProcess>,
    /// Who last killed for lack of memory, other than we.
    pub relieved: Option<Relief>,
    /// `[[network]]` entries, by name.
    pub networks: BTreeMap<String, Network>,
}

/// A `[[network]]`, and what the last look at it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// As configured.
    pub way: Way,
    /// The last look; none before the first.
    pub diagnosis: Option<Box<Diagnosis>>,
}

/// A kill for lack of memory by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relief {
    /// When.
    pub at: Time,
    /// Who: `the kernel`, `systemd-oomd`, ...
    pub by: String,
    /// Whom.
    pub victim: String,
}

impl World {
    /// The service whose main process this is.
    pub fn service_of(&self, process: ProcessKey) -> Option<&Service> {
        self.services.of_process(process)
    }

    /// The service whose processes are in this cgroup.
    pub fn service_of_cgroup(&self, cgroup_id: u64) -> Option<&Service> {
        self.services.of_cgroup(cgroup_id)
    }

    /// The service that listens on this address; a wildcard listener takes every address of its port.
    pub fn listener(&self, peer: SocketAddr) -> Option<&Service> {
        self.services.listening(peer.port(), |own| {
            own.ip() == peer.ip() || own.ip().is_unspecified()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceSignal;

    #[test]
    fn a_cgroup_is_one_services_and_none_is_nobodys() {
        let mut world = World::default();
        for (name, cgroup_id) in [("a", 7), ("b", 0), ("c", 9)] {
            let mut service = Service::new(name);
            service.cgroup_id = cgroup_id;
            world.services.insert(service);
        }
        let name = |id| world.service_of_cgroup(id).map(|service| &*service.name);
        assert_eq!(
            [name(7), name(9), name(8), name(0)],
            [Some("a"), Some("c"), None, None]
        );
    }

    #[test]
    fn recordings_from_before_cgroups_still_read() {
        let old = r#"{"change":"started","process":{"pid":5,"start_ticks":7},"adopted":true}"#;
        let read: ServiceSignal = serde_json::from_str(old).expect("it reads");
        assert!(matches!(read, ServiceSignal::Started { cgroup_id: 0, .. }));
    }
}
