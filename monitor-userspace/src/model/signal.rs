//! One input to detection. A recorded run is a list of these with their times; replaying it gives the same decisions.

use std::net::SocketAddr;
use std::time::Duration;

use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::memory::{Claims, MemoryShare};
use super::network::NetworkChange;
use super::way::Diagnosis;
use super::{Answers, Effect, FolderId, Healer, IncidentId, ProcessKey, Room, Subject, Time};

/// One input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "snake_case")]
pub enum Signal {
    /// A kernel event.
    Kernel {
        /// The decoded record.
        event: Event,
    },
    /// Events of this probe were lost since the signal before.
    Loss {
        /// Which probe.
        probe: Kind,
        /// How many.
        lost: u64,
    },
    /// A sampler read something.
    Sample {
        /// What.
        sample: Sample,
    },
    /// A health check came back.
    Check {
        /// Its result.
        result: CheckResult,
    },
    /// A supervisor says what became of a service.
    Service {
        /// Name of the service.
        service: String,
        /// What became of it.
        change: ServiceSignal,
    },
    /// An action was carried out, or not.
    Effect {
        /// What it did.
        effect: Effect,
    },
    /// A person asks for something.
    Person {
        /// Who, by name.
        by: String,
        /// What.
        request: Request,
    },
}

/// What a person may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Do what the incident proposes.
    Approve {
        /// Which.
        incident: IncidentId,
    },
    /// Do not do what the incident proposes.
    Reject {
        /// Which.
        incident: IncidentId,
    },
    /// Somebody has seen it.
    Acknowledge {
        /// Which.
        incident: IncidentId,
    },
    /// Nothing is to be done to a subject for some time.
    Silence {
        /// What exactly.
        silence: Silence,
    },
    /// Do this to a subject, because a person says so.
    Act {
        /// The action.
        action: String,
        /// To whom. A process is found by its number and start; the name of its `[[process]]` entry is filled in by the core.
        subject: Subject,
        /// Only what this `[[remedy]]` allows; otherwise the first that names the action and the subject counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// Only say what would be done.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Do what the rules provide for a service in trouble.
    Repair {
        /// Which service.
        service: String,
        /// Which step of the rules: its action, or its number in the first of them; what is next by itself when none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// Only say what would be done.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// The release that a service runs is one to go back to.
    RestorePoint {
        /// Which service.
        service: String,
        /// Only say what would be done.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Check a service as after a release, from now on.
    Watch {
        /// Which service.
        service: String,
        /// Only say what would be done.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Change back what was done about an incident and is still in force.
    Undo {
        /// Which.
        incident: IncidentId,
    },
    /// Ends a silence before its time.
    Unsilence {
        /// Its number.
        id: u64,
    },
}

/// A time in which nothing is done to a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its number; counted up from 1 over the whole life of a state folder.
    pub id: u64,
    /// The name of a service or a `[[process]]` entry; `*` for everything.
    pub on: String,
    /// Only for incidents of this detector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<String>,
    /// When it ends.
    pub until: Time,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a sampler read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sample", rename_all = "snake_case")]
pub enum Sample {
    /// The process table.
    Processes {
        /// Every process with a memory of its own (no kernel threads).
        processes: Vec<ProcessUsage>,
    },
    /// Memory of the host, bytes.
    Memory {
        /// `MemTotal`.
        total: u64,
        /// `MemAvailable`.
        available: u64,
        /// `SwapTotal`; 0 where there is none.
        #[serde(default)]
        swap_total: u64,
        /// `SwapFree`.
        #[serde(default)]
        swap_free: u64,
    },
    /// Who has the memory of the host, read when there is little left.
    MemoryClaims {
        /// Those with most of it.
        claims: Claims,
    },
    /// What would come back if the largest processes ended, page by page.
    MemoryShares {
        /// Each of them.
        shares: Vec<MemoryShare>,
    },
    /// The kernel's pressure trigger fired: tasks were stalled for lack of memory.
    MemoryPressure {
        /// Share of the last 10 s in which some task was stalled, hundredths of a per cent.
        some_avg10: u32,
        /// Share in which all were.
        full_avg10: u32,
    },
    /// Memory of a service that has a ceiling.
    ServiceMemory {
        /// Its name.
        service: String,
        /// Its main process.
        process: ProcessKey,
        /// Resident memory, bytes.
        resident: u64,
    },
    /// How long a service took to answer since the sample before.
    ServiceLatency {
        /// Its cgroup.
        cgroup_id: u64,
        /// How long.
        answers: Answers,
    },
    /// How the processes of a service stall for lack of memory: when its own alarm fires, and after that until it is quiet.
    ServicePressure {
        /// Its name.
        service: String,
        /// Share of the last 10 s in which some process of it was stalled, hundredths of a per cent.
        some_avg10: u32,
        /// Share in which all were.
        full_avg10: u32,
        /// Its alarm has fired since the sample before.
        alarm: bool,
    },
    /// Listeners whose accept queue is full. There is no sample when there are none.
    ListenQueues {
        /// Each of them.
        full: Vec<ListenQueue>,
    },
    /// How busy the host is.
    Load {
        /// How busy.
        load: HostLoad,
    },
    /// What the wall clock shows: at the start, and when it was set.
    Clock {
        /// `CLOCK_REALTIME` at the time of the signal, nanoseconds since 1970.
        unix_ns: i64,
    },
    /// The release that a service was started with, or why that cannot be told.
    Release {
        /// Its name.
        service: String,
        /// The process that it was started as.
        process: ProcessKey,
        /// The release; none when it cannot be told.
        release: Option<String>,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Something changed in the daemon's network namespace.
    Network {
        /// What.
        change: NetworkChange,
    },
    /// A look at a `[[network]]`: the first one, and each that found something else than the one before.
    NetworkDiagnosis {
        /// What was found.
        diagnosis: Box<Diagnosis>,
    },
    /// How full file systems are.
    DiskSpace {
        /// Those that are mounted, the writable ones on a disk.
        disks: Vec<DiskRoom>,
        /// Those of the folders of the configuration.
        folders: Vec<FolderRoom>,
    },
}

/// How full a mounted file system is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRoom {
    /// What is mounted: the name of the disk below `/dev` where it is one.
    pub name: String,
    /// Where it is mounted.
    pub mount: String,
    /// Device number of the file system.
    pub device: u64,
    /// How full.
    pub room: Room,
}

/// How full the file system of a `[[folder]]` is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderRoom {
    /// The folder's name.
    pub name: String,
    /// What its path leads to.
    pub id: FolderId,
    /// How full.
    pub room: Room,
}

/// How busy the host is. Shares are of the last 10 s, hundredths of a per cent (`/proc/pressure/*`, `avg10`); 0 where the kernel
/// does not tell (`CONFIG_PSI`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLoad {
    /// CPUs online.
    pub cpus: u32,
    /// Load average of one minute, hundredths.
    pub load1: u32,
    /// Share in which some task waited for a CPU.
    pub cpu_some: u32,
    /// Share in which some task was stalled for lack of memory.
    pub memory_some: u32,
    /// Share in which all were.
    pub memory_full: u32,
    /// Share in which some task waited for storage.
    pub io_some: u32,
    /// Share in which all did.
    pub io_full: u32,
}

/// A listener's queue of connections that wait for `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenQueue {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections in it.
    pub queue: u32,
    /// With more than so many, it is full.
    pub limit: u32,
}

impl ListenQueue {
    /// As the kernel sees it (`sk_acceptq_is_full`).
    pub const fn is_full(&self) -> bool {
        self.queue > self.limit
    }
}

/// One process of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Which.
    pub process: ProcessKey,
    /// Its name.
    pub comm: String,
    /// CPU time of all its threads since it started, nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Major faults of all its threads since it started; 0 where the table comes from `/proc`.
    #[serde(default)]
    pub major_faults: u64,
    /// Time its threads that live now have waited for a CPU, nanoseconds; 0 where the table comes from `/proc`.
    #[serde(default)]
    pub run_delay_ns: u64,
    /// Its threads that wait for something that no signal can interrupt (`D` in `ps`); at most [`BLOCKED`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<BlockedThread>,
}

/// Most blocked threads that are listed of one process.
pub const BLOCKED: usize = 16;

/// A thread that cannot be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedThread {
    /// Thread id.
    pub tid: u32,
    /// How often it was switched away from in its life: the same number in two samples means that it has been blocked in between.
    pub switches: u64,
}

/// What a health check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The service it checks.
    pub service: String,
    /// Which of its checks; the first one that shows that it serves when empty, as in recordings from before checks had names.
    #[serde(default)]
    pub check: String,
    /// Time until the answer was complete, or until the check gave up.
    pub latency: Duration,
    /// What went wrong; none when the service answered as it should.
    pub failure: Option<CheckFailure>,
    /// What it said beside that, in a few words; of a timeout, what it did then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// What it measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
}

impl CheckResult {
    /// Of the one check that shows that a service serves, with nothing more to say.
    pub fn new(service: &str, latency: Duration, failure: Option<CheckFailure>) -> Self {
        Self {
            service: service.to_owned(),
            check: String::new(),
            latency,
            failure,
            said: None,
            figures: Vec::new(),
        }
    }

    /// What went wrong, in words; none when the service answered as it should.
    pub fn why(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(match &self.said {
            Some(doing) => format!("{failure}: {doing}"),
            None => failure.to_string(),
        })
    }
}

/// Something that a check measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// What, with its unit: `connect_seconds`, `used_memory_bytes`.
    pub name: String,
    /// How much, in thousandths.
    pub thousandths: i64,
}

impl Figure {
    /// A time, as `NAME_seconds`.
    pub fn seconds(name: &str, time: Duration) -> Self {
        Self::new(&format!("{name}_seconds"), time.as_secs_f64())
    }

    /// A number; what does not fit is the largest that does.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a conversion that saturates is meant"
    )]
    pub fn new(name: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            thousandths: (value * 1e3).round() as i64,
        }
    }

    /// The number.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are enough to show it")]
    pub fn value(&self) -> f64 {
        self.thousandths as f64 / 1e3
    }
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum CheckFailure {
    /// No complete answer within the check's timeout.
    Timeout,
    /// No connection: refused, unreachable, reset.
    Connect(String),
    /// An answer that is not the expected one.
    Answer(String),
}

impl CheckFailure {
    /// Whether the service took too long.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl std::fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer within the timeout"),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Answer(why) => write!(f, "wrong answer: {why}"),
        }
    }
}

/// What became of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ServiceSignal {
    /// It runs, as this process: started just now, or found running.
    Started {
        /// Its main process.
        process: ProcessKey,
        /// Found running from before the daemon started.
        adopted: bool,
        /// Which cgroup is its own: the number that the kernel gives it, 0 when it has none.
        #[serde(default)]
        cgroup_id: u64,
    },
    /// Its main process has ended and its memory is free. Comes after the kernel's own event, and in its place when that was lost.
    Exited {
        /// The process that ended.
        process: ProcessKey,
        /// As `wait` gives it; none for one that is not our child.
        status: Option<u32>,
    },
    /// It could not be started.
    StartFailed {
        /// Why.
        reason: String,
    },
    /// Who runs it starts it anew by itself, or no longer does.
    Heals {
        /// Who, and how long that may take; none for nobody.
        healer: Option<Healer>,
    },
    /// Who runs it does not start it anew any more.
    GaveUp {
        /// Why, as they say.
        reason: String,
    },
    /// Who runs it cannot be asked.
    Unknown {
        /// Why.
        reason: String,
    },
    /// It is no longer wanted: removed from the configuration, the daemon is ending, or whoever runs it was told to stop it.
    Stopped,
}
