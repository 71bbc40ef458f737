//! Who an incident is about. A PID alone is never an identity: the kernel uses it again.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Nanoseconds in one tick of `/proc/PID/stat` (`USER_HZ` is 100 on every Linux architecture we build for).
const NANOS_PER_TICK: u64 = 10_000_000;

/// A process: its PID and when it started. `/proc` shows the start in ticks, kernel events in nanoseconds; both are kept as
/// ticks, so that they compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Process id in the initial PID namespace.
    pub pid: u32,
    /// Start time in ticks of 10 ms since boot.
    pub start_ticks: u64,
}

impl ProcessKey {
    /// From a start time as kernel events have it: nanoseconds of `CLOCK_BOOTTIME`.
    pub const fn at_start(pid: u32, start_time_ns: u64) -> Self {
        Self {
            pid,
            start_ticks: start_time_ns / NANOS_PER_TICK,
        }
    }

    /// When it started, as kernel events have it, to the tick.
    pub const fn start_time_ns(self) -> u64 {
        self.start_ticks.saturating_mul(NANOS_PER_TICK)
    }

    /// From a kernel event.
    pub const fn from_task(task: &monitor_common::Task) -> Self {
        Self::at_start(task.pid, task.start_time_ns)
    }
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (started at tick {})", self.pid, self.start_ticks)
    }
}

/// What an incident is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// The machine as a whole.
    Host,
    /// A service of the configuration, by name.
    Service {
        /// Its name.
        name: String,
    },
    /// A process that is not a service of ours.
    Process {
        /// Which process.
        process: ProcessKey,
        /// Its name.
        comm: String,
        /// The `[[process]]` entry of the configuration that names it, if one does.
        group: Option<String>,
    },
    /// An address that could not be reached, and that no service of the configuration listens on.
    Peer {
        /// Address and port.
        address: SocketAddr,
    },
    /// A disk, by its name below `/dev`, or a network device, by its own.
    Device {
        /// That name.
        name: String,
    },
    /// A `[[folder]]` of the configuration, by name.
    Folder {
        /// Its name.
        name: String,
    },
    /// A `[[network]]` of the configuration, by name: a way out of this host.
    Network {
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// A service by name.
    pub fn service(name: &str) -> Self {
        Self::Service {
            name: name.to_owned(),
        }
    }

    /// The name under which the configuration consents to acts on this subject, if it does.
    pub fn configured_name(&self) -> Option<&str> {
        match self {
            Self::Service { name } | Self::Folder { name } | Self::Network { name } => Some(name),
            Self::Process { group, .. } => group.as_deref(),
            Self::Host | Self::Peer { .. } | Self::Device { .. } => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Service { name } => write!(f, "service {name}"),
            Self::Process { process, comm, .. } => write!(f, "process {comm} [{}]", process.pid),
            Self::Peer { address } => write!(f, "peer {address}"),
            Self::Device { name } => write!(f, "device {name}"),
            Self::Folder { name } => write!(f, "folder {name}"),
            Self::Network { name } => write!(f, "network {name}"),
        }
    }
}
