//! What a detector found, and on what grounds.

use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{HostLoad, Identity, ProcessKey, Subject, Time};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worse than it should be; work goes on.
    Warning,
    /// Work is failing, or about to.
    Critical,
}

/// A socket, for who looks for the processes that have it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketKey {
    /// Number of its inode.
    pub inode: u64,
    /// Id of the cgroup that made it; 0 when unknown.
    pub cgroup_id: u64,
}

/// The grounds of a finding, frozen at the moment it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The probe it came from; none for a sample or a check.
    pub probe: Option<Kind>,
    /// The first signal that counts towards it. A loss of that probe's events since then makes the evidence doubtful.
    pub since: Time,
    /// The signal that decided: when the kernel (or the sampler, or the check) saw it.
    pub seen: Time,
    /// The process it is about, when there is one.
    pub process: Option<ProcessKey>,
    /// That process's name.
    pub comm: Option<String>,
    /// The socket it is about, where the kernel knew no process: whoever has it open is found out afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<SocketKey>,
    /// Who that is: unit, container, user, command line. Found out afterwards, so it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Box<Identity>>,
    /// A guard in the kernel has killed that process already: no action need do so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub killed_in_kernel: bool,
    /// What was measured, in the order a person should read it: names with their units, values.
    pub facts: Vec<(String, String)>,
    /// How the host was at that moment, whatever becomes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Box<Frozen>>,
}

/// How the host was when an incident was raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Kernel events about the same process, cgroup or service shortly before, oldest first; at most [`Frozen::EVENTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// The processes that used most CPU and most memory at the sample before; at most [`Frozen::TOP`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopProcess>,
    /// How busy the host was at the sample before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<HostLoad>,
    /// The last lines of the subject's log, oldest first; at most [`Frozen::LOG`]. Found out afterwards, so they decide nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Frozen {
    /// Most kernel events that are kept.
    pub const EVENTS: usize = 16;
    /// Most processes that are kept.
    pub const TOP: usize = 6;
    /// Most lines of a log that are kept.
    pub const LOG: usize = 20;
}

/// One of the processes that use most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopProcess {
    /// Which.
    pub process: ProcessKey,
    /// Its name.
    pub comm: String,
    /// Share of one CPU between the last two samples, hundredths of a per cent.
    pub cpu: u32,
    /// Resident memory, bytes.
    pub resident: u64,
}

impl Evidence {
    /// Evidence from a single signal, with nothing measured yet.
    pub fn at(seen: Time) -> Self {
        Self {
            probe: None,
            since: seen,
            seen,
            process: None,
            comm: None,
            socket: None,
            who: None,
            killed_in_kernel: false,
            facts: Vec::new(),
            frozen: None,
        }
    }

    /// The same, from this probe.
    #[must_use]
    pub fn from_probe(mut self, probe: Kind) -> Self {
        self.probe = Some(probe);
        self
    }

    /// The same, resting on all signals since then.
    #[must_use]
    pub fn since(mut self, since: Time) -> Self {
        self.since = since;
        self
    }

    /// The same, about this process.
    #[must_use]
    pub fn about(mut self, process: ProcessKey, comm: &str) -> Self {
        self.process = Some(process);
        self.comm = Some(comm.to_owned());
        self
    }

    /// The same, about the process that the event names, or about whoever has its socket open; about nobody when it names neither.
    #[must_use]
    pub fn about_whom(mut self, event: &Event) -> Self {
        let task = event.task();
        if let Some(inode) = event.socket_inode() {
            self.socket = Some(SocketKey {
                inode,
                cgroup_id: task.cgroup_id,
            });
            return self;
        }
        if task.pid == 0 {
            return self;
        }
        self.about(ProcessKey::from_task(task), task.comm())
    }

    /// The same, with one more fact.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass what they have just made"
    )]
    pub fn fact(mut self, name: &str, value: impl ToString) -> Self {
        self.facts.push((name.to_owned(), value.to_string()));
        self
    }
}

/// What a detector reports. A detector may report the same condition again and again; it is one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The condition holds for this subject.
    Raised {
        /// What it is about.
        subject: Subject,
        /// How bad it is.
        severity: Severity,
        /// The grounds.
        evidence: Evidence,
    },
    /// The condition holds no longer, by the same kind of signal that raised it.
    Cleared {
        /// What it was about.
        subject: Subject,
        /// The signal that shows it.
        seen: Time,
        /// That signal, in words.
        because: String,
    },
}
