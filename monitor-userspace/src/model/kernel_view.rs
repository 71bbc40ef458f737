//! What the kernel half shows the slow side. The loader implements [`KernelView`]; the API and the exporter read it, at most
//! once a request, and know nothing of maps or programs.

use std::collections::BTreeMap;

use monitor_common::counters::{ProbeCounters, ReclaimTotals, TcpTotals};
use monitor_common::probes::block_io::Operation;
use monitor_common::probes::dns_query::DnsTotals;
use monitor_common::probes::off_cpu::Wait;
use monitor_common::probes::run_queue_latency::BUCKETS;
use monitor_common::probes::service_latency::LatencyTotals;
use serde::{Deserialize, Serialize};

use super::ListenQueue;

/// One probe, on or off and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// Its name.
    pub name: String,
    /// What it sees.
    pub summary: String,
    /// Whether its programs are loaded and attached.
    pub on: bool,
    /// Where they are attached; empty when it is off.
    pub attached: String,
    /// Why it is off, or why it sees less than it should; none when all is well.
    pub reason: Option<String>,
    /// What to do about that, when something can be done.
    pub fix: Option<String>,
}

/// What one probe did on one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeCount {
    /// The probe's name.
    pub probe: &'static str,
    /// The CPU.
    pub cpu: u32,
    /// Its counters, since the daemon started.
    pub counters: ProbeCounters,
}

/// Every wait of a runnable task for a CPU, of all CPUs together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQueue {
    /// Waits per bucket, not cumulative; the bounds are those of `monitor_common::probes::run_queue_latency`.
    pub buckets: [u64; BUCKETS],
}

/// What one kernel program cost.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramCost {
    /// Its function name.
    pub name: String,
    /// CPUs it took when it was last measured: 0.01 is a hundredth of one.
    pub cpus: f64,
    /// Seconds it ran, estimated from measuring now and then.
    pub run_seconds: f64,
    /// How often it ran, estimated likewise.
    pub runs: u64,
}

/// Of one cgroup, since it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupWaits {
    /// Waits of its tasks for a CPU per bucket, as in [`RunQueue`].
    pub run_queue: [u64; BUCKETS],
    /// Other waits, by kind.
    pub waits: [u64; Wait::ALL.len()],
    /// Nanoseconds in them.
    pub wait_ns: [u64; Wait::ALL.len()],
    /// What answers took; none where they are not counted.
    pub latency: Option<LatencyTotals>,
}

/// What was counted of one disk, all CPUs together. What has four entries is by [`Operation`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Requests by how long the disk took; buckets of `monitor_common::probes::run_queue_latency::bucket`.
    pub device: [[u64; BUCKETS]; Operation::ALL.len()],
    /// Nanoseconds that it took.
    pub device_ns: [u64; Operation::ALL.len()],
    /// Requests by how long they were held back before.
    pub queued: [u64; BUCKETS],
    /// Nanoseconds for which they were.
    pub queued_ns: u64,
    /// Bytes.
    pub bytes: [u64; Operation::ALL.len()],
    /// Requests that failed.
    pub errors: [u64; Operation::ALL.len()],
    /// Requests that are in no histogram, since their beginning was not seen.
    pub untimed: u64,
    /// Requests that are not in `queued`, since the disk's queue keeps no times.
    pub unqueued: u64,
}

impl DiskFigures {
    /// Requests of an operation that were measured.
    pub fn requests(&self, operation: Operation) -> u64 {
        let buckets = self.device.get(operation as usize);
        buckets.map_or(0, |buckets| buckets.iter().sum())
    }
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskRow {
    /// Its name below `/dev`.
    pub name: String,
    /// What was counted of it.
    pub figures: DiskFigures,
    /// Requests that the driver has now.
    pub in_flight: u64,
}

/// The disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    /// Those that were used since the daemon started.
    pub rows: Vec<DiskRow>,
    /// Requests of disks for which there was no room.
    pub left_out: u64,
}

/// What became of questions to DNS servers, since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsFigures {
    /// Answers, of all CPUs together.
    pub answered: DnsTotals,
    /// Questions that had no answer in time.
    pub unanswered: u64,
}

/// How full a table of who is who is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownTable {
    /// Entries it holds.
    pub entries: u64,
    /// Entries that had to make room before their time, since the daemon started.
    pub evicted: u64,
}

/// The tables of who is who.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownTables {
    /// Cgroups.
    pub cgroups: KnownTable,
    /// Processes.
    pub processes: KnownTable,
    /// Events that came faster than they could be taken in; what they told is read from the host when somebody asks.
    pub missed: u64,
    /// Logs of incidents that could not be read, or were not asked for because too many waited.
    pub logs_unread: u64,
}

/// What the listeners of a network namespace did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenTotals {
    /// Connections that found the queue full (`ListenOverflows`).
    pub overflows: u64,
    /// Packets of connections that were dropped, for that or another reason (`ListenDrops`).
    pub drops: u64,
}

/// The kernel half, as the slow side sees it. Every call may cost a few system calls; none may block.
pub trait KernelView: Send + Sync {
    /// Every probe, in the order of the registry; those that are off too.
    fn probes(&self) -> Vec<ProbeRow>;

    /// Every loaded probe on every CPU.
    fn counters(&self) -> Vec<ProbeCount>;

    /// The run-queue histogram; none when its probe is off.
    fn run_queue(&self) -> Option<RunQueue>;

    /// Stalls in direct reclaim, of all CPUs together; none when the probe is off.
    fn reclaim(&self) -> Option<ReclaimTotals>;

    /// What TCP did, of all CPUs together; each probe that is off leaves its part at 0. None when all of them are off.
    fn tcp(&self) -> Option<TcpTotals> {
        None
    }

    /// Run time of the programs; empty when the kernel does not count it.
    fn costs(&self) -> Vec<ProgramCost>;

    /// Waits of the watched cgroups, by the cgroup's id.
    fn cgroups(&self) -> BTreeMap<u64, CgroupWaits> {
        BTreeMap::new()
    }

    /// Packets thrown away by the kernel's reason, those that were any; empty when the probe is off.
    fn packet_drops(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// What did not fit into sockets, by the limit; empty when the probe is off.
    fn socket_overflows(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// The TCP listeners of the daemon's network namespace.
    fn listeners(&self) -> Vec<ListenQueue> {
        Vec::new()
    }

    /// What the kernel counts of them; none where it does not.
    fn listen_totals(&self) -> Option<ListenTotals> {
        None
    }

    /// The disks; none when the probe is off.
    fn disks(&self) -> Option<Disks> {
        None
    }

    /// Questions to DNS servers; none when the probe is off.
    fn dns(&self) -> Option<DnsFigures> {
        None
    }

    /// How full the tables of who is who are.
    fn known(&self) -> KnownTables {
        KnownTables::default()
    }
}

/// A kernel half with nothing in it: no probe at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKernel;

impl KernelView for NoKernel {
    fn probes(&self) -> Vec<ProbeRow> {
        Vec::new()
    }

    fn counters(&self) -> Vec<ProbeCount> {
        Vec::new()
    }

    fn run_queue(&self) -> Option<RunQueue> {
        None
    }

    fn reclaim(&self) -> Option<ReclaimTotals> {
        None
    }

    fn costs(&self) -> Vec<ProgramCost> {
        Vec::new()
    }
}
