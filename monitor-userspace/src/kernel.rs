//! The kernel half, as the rest of the daemon sees it: programs loaded, rings, process table, counters, watch list.
//!
//! Owns the loaded programs: dropping [`Kernel`] detaches them. Each probe is on, or off with a reason and a fix; one that this
//! kernel refuses takes no other with it. Consumes the object that `cargo xtask build` made (embedded) and the running
//! kernel's types; emits [`Rings`] of events and [`Snapshot`]s. Needs 5.8 with BTF, and root. Leaves out deciding anything.

mod bench;
mod btf;
mod budget;
mod cgroups;
mod counters;
mod disks;
mod dns;
mod drops;
mod guards;
mod loader;
mod log;
mod offsets;
mod programs;
mod rights;
mod ring;
mod snapshot;
mod status;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aya::EbpfError;
use aya::maps::{MapData, MapError};
use thiserror::Error;

pub use bench::BenchLoad;
pub use btf::{Btf, BtfError, Member};
pub use budget::{Estimate, Meter, Verdict};
pub use cgroups::{CgroupFigures, CgroupWatch, CgroupWatchError};
pub use counters::{CounterReader, PerProbe};
pub use dns::{DnsWatch, SWEEP};
pub use drops::DropReasons;
pub use guards::{Guard, GuardError, Guarded, Guards};
pub use log::KernelLog;
use programs::Loaded;
pub use programs::{ProgramCost, Programs, SwitchError, VerifierCost};
pub use ring::{Drained, Ring, Rings, decode, encode};
pub use snapshot::{MAX_THREADS, Snapshot};
pub use status::{ProbeState, ProbeStatus};
pub use watch::{MAX_WATCHED, WatchError, WatchList};

/// The programs; empty in a binary built without them.
pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smart-monitor.bpf.o"));

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of the probes that stay off.
    pub disabled: Vec<String>,
    /// A longer wait for a CPU is an event.
    pub run_queue_threshold: Duration,
    /// A stall in direct reclaim at least this long is an event.
    pub reclaim_threshold: Duration,
    /// A request to a disk that takes, or is held back, at least this long is an event.
    pub block_threshold: Duration,
    /// An answer of a watched service that takes at least this long is an event.
    pub slow_request: Duration,
    /// Events of one probe, cgroup and CPU in a second; more are held back and counted. Urgent ones never are.
    pub cgroup_events_per_second: u32,
    /// Processes and threads that a cgroup makes in a second before it is reported.
    pub forks_per_second: u32,
    /// A DNS question without an answer for this long is an event.
    pub dns_timeout: Duration,
    /// Whether the programs that only the benchmarks need are loaded too.
    pub bench: bool,
    /// Whether the kernel measures what the programs cost; that costs some 20 ns a run itself.
    pub stats: bool,
    /// Fault injection for tests: names of probes whose programs the verifier is to refuse.
    pub refuse: Vec<String>,
    /// Fault injection for tests: `structure.member`s to be read 8 bytes off, for the self-check to find.
    pub break_offsets: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disabled: Vec::new(),
            run_queue_threshold: Duration::from_millis(20),
            reclaim_threshold: Duration::from_millis(1),
            block_threshold: Duration::from_millis(100),
            slow_request: Duration::from_secs(1),
            cgroup_events_per_second: 4_000,
            forks_per_second: 1_000,
            dns_timeout: Duration::from_secs(5),
            bench: false,
            stats: false,
            refuse: Vec::new(),
            break_offsets: Vec::new(),
        }
    }
}

/// Why no probe at all can work.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The process may not load programs.
    #[error("kernel programs need {missing}: run as root (sudo smart-monitor ...)")]
    Rights {
        /// The capabilities it lacks.
        missing: String,
    },
    /// Process ids here are not the kernel's.
    #[error(
        "this is a PID namespace of its own, where the kernel's process ids mean other processes: run on the host, or start the container with --pid=host"
    )]
    PidNamespace,
    /// The kernel's types are not to be had.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The binary holds no programs.
    #[error("built without kernel programs: build with cargo xtask build")]
    NoObject,
    /// The kernel refuses programs as such.
    #[error(
        "the kernel is locked down (mode {mode}) and refuses kernel programs: boot with lockdown=integrity or none"
    )]
    Lockdown {
        /// As `/sys/kernel/security/lockdown` names it.
        mode: String,
    },
    /// Programs or maps cannot be made.
    #[error("the kernel programs do not load: {}", chain(.0))]
    Object(#[from] Box<EbpfError>),
    /// A map is not as the shared types say.
    #[error(
        "the embedded kernel programs are of another version ({0}): build with cargo xtask build"
    )]
    Version(#[from] Box<MapError>),
    /// Measuring the programs' cost is refused.
    #[error("the kernel does not measure what programs cost: {0}")]
    Stats(std::io::Error),
}

impl From<EbpfError> for KernelError {
    fn from(error: EbpfError) -> Self {
        Self::Object(Box::new(error))
    }
}

impl From<MapError> for KernelError {
    fn from(error: MapError) -> Self {
        Self::Version(Box::new(error))
    }
}

/// The loaded programs. Dropping it detaches them.
pub struct Kernel {
    loaded: Arc<Mutex<Loaded>>,
    rings: Option<Rings>,
    snapshot: Option<Snapshot>,
    log: Option<KernelLog>,
    counters: CounterReader,
    guards: Guards,
    cgroups: CgroupWatch,
    dns: DnsWatch,
    bench: BenchLoad,
    watched: MapData,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("probes", &self.probes())
            .finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads and attaches what this kernel allows. Never fails as a whole because one program is refused.
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        loader::load(options)
    }

    /// Every probe, on or off, in the order of [`monitor_common::Kind::ALL`].
    pub fn probes(&self) -> Vec<ProbeStatus> {
        self.programs().probes()
    }

    /// A handle on the programs: attaching, detaching, cost.
    pub fn programs(&self) -> Programs {
        Programs::of(&self.loaded)
    }

    /// The guards that act in the kernel.
    pub fn guards(&self) -> Guards {
        self.guards.clone()
    }

    /// The cgroups with figures of their own.
    pub fn cgroups(&self) -> CgroupWatch {
        self.cgroups.clone()
    }

    /// The questions that wait for DNS servers.
    pub fn dns(&self) -> DnsWatch {
        self.dns.clone()
    }

    /// The load generator of the benchmarks.
    pub const fn bench(&mut self) -> &mut BenchLoad {
        &mut self.bench
    }

    /// The rings, once.
    pub const fn take_rings(&mut self) -> Option<Rings> {
        self.rings.take()
    }

    /// The process table, once; none when its probe is off.
    pub const fn take_snapshot(&mut self) -> Option<Snapshot> {
        self.snapshot.take()
    }

    /// What the programs themselves have to say, once.
    pub const fn take_log(&mut self) -> Option<KernelLog> {
        self.log.take()
    }

    /// A reader of what the programs count.
    pub fn counters(&self) -> CounterReader {
        self.counters.clone()
    }

    /// A handle on the list of processes whose events are urgent; all handles are of the same list.
    pub fn watch_list(&self) -> Result<WatchList, MapError> {
        use std::os::fd::AsFd;
        let fd = self
            .watched
            .fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(MapError::IoError)?;
        WatchList::new(MapData::from_fd(fd)?)
    }

    /// Starts or stops measuring what the programs cost, of all programs on the host. What was measured stays.
    pub fn set_stats(&self, on: bool) -> Result<(), KernelError> {
        self.programs().set_stats(on)
    }

    /// Names of the loaded programs.
    pub fn program_names(&self) -> Vec<String> {
        let loaded = programs::lock(&self.loaded);
        let mut names: Vec<_> = loaded
            .object
            .programs()
            .map(|(name, _)| name.to_owned())
            .collect();
        names.sort_unstable();
        names
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_given_to_a_thread() {
        fn movable<T: Send + 'static>() {}
        fn shareable<T: Send + Sync + Clone + 'static>() {}
        movable::<Kernel>();
        movable::<Rings>();
        movable::<Snapshot>();
        movable::<WatchList>();
        movable::<KernelLog>();
        shareable::<CounterReader>();
    }
}
