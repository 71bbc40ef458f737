//! What is known of the services and processes that the configuration names. Detectors and policy read it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::Reload;
use super::evidence::TopProcess;
use super::way::{Diagnosis, Way};
use super::{
    Answers, Folder, FolderId, HostLoad, Objective, ProcessKey, Release, Services, Severity, Time,
};

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
    /// Nobody can say: who runs it cannot be asked, or no check of it has come back yet.
    Unknown,
}

impl ServiceState {
    /// All of them, for a bounded set of labels.
    pub const ALL: &'static [ServiceState] = &[
        Self::Starting,
        Self::Healthy,
        Self::Degraded,
        Self::Down,
        Self::Stopped,
        Self::Unknown,
    ];

    /// The word that stands in listings and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
            Self::Stopped => "STOPPED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A service of the configuration, and what is known of it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Addresses it listens on.
    pub listen: Vec<SocketAddr>,
    /// Resident memory over which it is in trouble, bytes.
    pub memory_max: Option<u64>,
    /// Who runs it, as `kind` in the configuration has it.
    #[serde(default = "command_kind")]
    pub kind: String,
    /// It is only observed: nothing is ever done to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observe_only: bool,
    /// Whether a health check shows that it serves.
    pub checked: bool,
    /// Its health checks, by name, and what each said last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Check>,
    /// How long it may take to answer after a start before that is a failure.
    #[serde(default = "start_within")]
    pub start_within: Duration,
    /// Its main process, while it runs.
    pub process: Option<ProcessKey>,
    /// The main process it had last, running or not.
    pub last_process: Option<ProcessKey>,
    /// The number of the cgroup that is its own; 0 when it has none, or does not run.
    #[serde(default)]
    pub cgroup_id: u64,
    /// When that process started.
    pub started: Option<Time>,
    /// When its last process ended; none while one runs, and where none was seen to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Whether an action is under way that ends or starts it, so that its exit is no surprise.
    pub in_action: bool,
    /// It was stopped, and is to stay so until it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Whether the checks that show that it serves were well when each was last made since it started; none before all of them were.
    pub answers: Option<bool>,
    /// Who runs it starts it anew by itself, as they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healer: Option<Healer>,
    /// Why they do so no more; none while they do, or never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
    /// Why nobody can say how it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
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
    /// What it is meant to keep, and whether it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<Objective>,
    /// Its releases, where the configuration says how they are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Box<Release>>,
}

impl Check {
    /// How often it is made after a release, in words.
    pub fn phases(&self) -> String {
        let phases = self.after_release.iter();
        let phases = phases.map(|(until, every)| format!("every {every:?} until {until:?}"));
        phases.collect::<Vec<_>>().join(", ")
    }
}

impl Service {
    /// A service that has not been started.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            listen: Vec::new(),
            memory_max: None,
            kind: command_kind(),
            observe_only: false,
            checked: false,
            checks: BTreeMap::new(),
            start_within: start_within(),
            process: None,
            last_process: None,
            cgroup_id: 0,
            started: None,
            ended: None,
            in_action: false,
            stopped: false,
            answers: None,
            healer: None,
            gave_up: None,
            unknown: None,
            starts: 0,
            command: Vec::new(),
            reload: None,
            depends_on: Vec::new(),
            latency: None,
            objectives: Vec::new(),
            release: None,
        }
    }

    /// Runs, and has shown that it serves (or has no check that could show it).
    pub fn serves(&self) -> bool {
        (self.process.is_some() || self.is_elsewhere())
            && (!self.checked || self.answers == Some(true))
    }

    /// The name of the check that a result means: see [`CheckResult::check`](super::CheckResult).
    pub fn meant<'a>(&'a self, check: &'a str) -> &'a str {
        let mut serving = self.checks.iter().filter(|(_, it)| it.serving);
        match check {
            "" => serving.next().map_or("", |(name, _)| name.as_str()),
            named => named,
        }
    }

    /// Whether this check of it shows that it serves.
    pub fn is_serving(&self, check: &str) -> bool {
        self.checks.get(check).is_none_or(|check| check.serving)
    }

    /// Whether all checks that show that it serves were well, each when it was made last since it started; none while one was not made.
    pub fn answering(&self) -> Option<bool> {
        let mut all = Some(true);
        for check in self.checks.values().filter(|check| check.serving) {
            match check.well {
                Some(false) => return Some(false),
                None => all = None,
                Some(true) => {}
            }
        }
        all
    }

    /// It is run by somebody else than the daemon: its end is news only when they have said what it means.
    pub fn is_others(&self) -> bool {
        self.kind != COMMAND
    }

    /// Nobody on this host runs it: its checks alone say how it is.
    pub fn is_elsewhere(&self) -> bool {
        self.kind == NONE
    }
}

/// The `kind` of services that the daemon runs itself.
pub const COMMAND: &str = "command";
/// The `kind` of what is only checked.
pub const NONE: &str = "none";

fn command_kind() -> String {
    COMMAND.to_owned()
}

const fn start_within() -> Duration {
    Duration::from_mins(1)
}

/// A health check of a service: what counts as failing, and what it said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it asks: the name of its kind.
    pub kind: String,
    /// Whether a good answer shows that the service serves.
    pub serving: bool,
    /// So many failures in a row are trouble.
    pub failures: u32,
    /// So many good answers in a row end it.
    pub successes: u32,
    /// How bad that is.
    pub severity: Severity,
    /// Other intervals for some time after a release: until when, and how often meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_release: Vec<(Duration, Duration)>,
    /// Whether the last one was well; none before the first one since the service started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub well: Option<bool>,
    /// What it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
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
    pub patience: Duration,
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
    /// Never acted upon, by PID: the daemon itself first, its ancestors, PID 1.
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
    /// Folders of the configuration by name.
    pub folders: BTreeMap<String, Folder>,
    /// What their paths led to at the last sample.
    pub folder_ids: BTreeMap<String, FolderId>,
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
    /// Whether it is the daemon itself, which asks those whom it expects to be silent, too.
    pub fn is_own(&self, pid: u32) -> bool {
        self.protected_pids.first() == Some(&pid)
    }

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
