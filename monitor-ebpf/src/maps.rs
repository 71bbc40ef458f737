//! The maps. All of types that 5.8 has, since all are made with the object, whichever programs load.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use monitor_common::counters::{
    LIMIT_SLOTS, LimitSlot, ProbeCounters, RateLimit, ReclaimTotals, TcpTotals,
};
use monitor_common::probes::block_io::{DISKS, DiskFigures, Issued, PAIRS};
use monitor_common::probes::direct_reclaim::Reclaim;
use monitor_common::probes::dns_query::{self, DnsTotals};
use monitor_common::probes::fork_storm::{CGROUPS, ForkLimit, ForkWindow};
use monitor_common::probes::memory_ceiling::{CEILINGS, Ceiling};
use monitor_common::probes::off_cpu::{WAITING, WaitTotals};
use monitor_common::probes::run_queue_latency::{
    BUCKETS, CgroupFilter, HISTOGRAM, SLICES, Slice, THROTTLES, TURNS_WORDS, Throttle,
    WATCHED_CGROUPS,
};
use monitor_common::probes::service_latency::{LatencyTotals, PendingSet, SERVICES, SETS};
use monitor_common::probes::{listen_overflow, packet_drop, socket_overflow, tcp_connect};
use monitor_common::{DropClass, Kind, Task};

use crate::probes::block_io::Done;

/// Bytes of [`BULK`].
pub(crate) const BULK_BYTES: u32 = 1 << 20;

/// What must not be lost or wait: ends of watched processes, OOM kills, failed connections.
#[map]
pub(crate) static URGENT: RingBuf = RingBuf::with_byte_size(64 << 10, 0);

/// Everything else; does not wake its reader until half full.
#[map]
pub(crate) static BULK: RingBuf = RingBuf::with_byte_size(BULK_BYTES, 0);

/// Per probe, by the number of its kind.
#[map]
pub(crate) static COUNTERS: PerCpuArray<ProbeCounters> =
    PerCpuArray::with_max_entries(Kind::TABLE as u32, 0);

/// Lost records of all probes, so that one look-up tells whether there were any.
#[map]
pub(crate) static LOST_TOTAL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Rate limits, by the number of the kind.
#[map]
pub(crate) static LIMITS: PerCpuArray<RateLimit> =
    PerCpuArray::with_max_entries(Kind::TABLE as u32, 0);

/// Processes whose events are urgent, by process id.
#[map]
pub(crate) static WATCHED: HashMap<u32, u32> = HashMap::with_max_entries(1_024, 0);

/// Processes whose end was reported; only for kernels that do not say which thread is the last.
#[map]
pub(crate) static ENDED: LruHashMap<Ended, u32> = LruHashMap::with_max_entries(1_024, 0);

/// Who connected which socket. A table without chains, see [`crate::socket`].
#[map]
pub(crate) static SOCKETS: Array<Owner> = Array::with_max_entries(tcp_connect::SOCKETS, 0);

/// Packets that were thrown away, by their way ([`crate::socket::way`]).
#[map]
pub(crate) static DROPPED: LruHashMap<u64, Dropped> = LruHashMap::with_max_entries(4_096, 0);

/// Questions to DNS servers that wait for their answer, by the ends of the packet and its id. Not one that forgets by itself: userspace tells of each.
#[map]
pub(crate) static DNS_PENDING: HashMap<u64, dns_query::Pending> =
    HashMap::with_max_entries(dns_query::PENDING, 0);

/// How many were put into [`DNS_PENDING`] and not taken out by the programs.
#[map]
pub(crate) static DNS_OUTSTANDING: Array<u64> = Array::with_max_entries(1, 0);

/// How many userspace has taken out; written by it alone.
#[map]
pub(crate) static DNS_SWEPT: Array<u64> = Array::with_max_entries(1, 0);

/// Room for what is being put together, which is too long for the stack: 0 for a question, 1 for an answer.
#[map]
pub(crate) static DNS_SCRATCH: PerCpuArray<DnsScratch> = PerCpuArray::with_max_entries(2, 0);

/// Answers of DNS servers.
#[map]
pub(crate) static DNS_TOTALS: PerCpuArray<DnsTotals> = PerCpuArray::with_max_entries(1, 0);

/// Packets thrown away, by the kernel's reason; by 0 where it gives none.
#[map]
pub(crate) static DROP_REASONS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(packet_drop::REASONS as u32, 0);

/// Rate limits of the events of packets, by the number of their class.
#[map]
pub(crate) static DROP_EVENTS: PerCpuArray<RateLimit> =
    PerCpuArray::with_max_entries(DropClass::ALL.len() as u32, 0);

/// Rate limit of what goes into [`DROPPED`].
#[map]
pub(crate) static DROPS_NOTED: PerCpuArray<RateLimit> = PerCpuArray::with_max_entries(1, 0);

/// Listeners whose queue was full, by where they are connected to ([`crate::socket::seat`]).
#[map]
pub(crate) static FULL_LISTENERS: LruHashMap<u64, FullListener> =
    LruHashMap::with_max_entries(listen_overflow::LISTENERS, 0);

/// What did not fit into a socket, by the number of the limit.
#[map]
pub(crate) static OVERFLOWS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(socket_overflow::LIMITS as u32, 0);

/// Each thread's last reclaim, by thread id.
#[map]
pub(crate) static RECLAIMING: LruHashMap<u32, Reclaim> = LruHashMap::with_max_entries(4_096, 0);

/// Stalls in direct reclaim, short ones included.
#[map]
pub(crate) static RECLAIM_TOTALS: PerCpuArray<ReclaimTotals> = PerCpuArray::with_max_entries(1, 0);

/// When a connection failed last, on any CPU; 0 for never.
#[map]
pub(crate) static LAST_FAILURE: Array<u64> = Array::with_max_entries(1, 0);

/// What TCP did.
#[map]
static TCP_TOTALS: PerCpuArray<TcpTotals> = PerCpuArray::with_max_entries(1, 0);

/// A request that ended and is told of, so that it is not on the stack.
#[map]
pub(crate) static BLOCK_DONE: PerCpuArray<Done> = PerCpuArray::with_max_entries(1, 0);

/// What each cgroup makes of each probe's events.
#[map]
pub(crate) static CGROUP_LIMITS: PerCpuArray<LimitSlot> =
    PerCpuArray::with_max_entries(LIMIT_SLOTS, 0);

/// Each CPU's histogram, and what it remembers of who had it.
#[map]
pub(crate) static TURNS: PerCpuArray<Turns> = PerCpuArray::with_max_entries(1, 0);

/// Which cgroups are watched, at a glance.
#[map]
pub(crate) static CGROUP_FILTER: Array<CgroupFilter> = Array::with_max_entries(1, 0);

/// How many cgroups are watched: the only global that changes, the section `.bss` as userspace knows it.
#[unsafe(no_mangle)]
pub(crate) static mut CGROUPS_WATCHED: u64 = 0;

/// Watched cgroups: id to slot.
#[map]
pub(crate) static WATCHED_SLOTS: HashMap<u64, u32> = HashMap::with_max_entries(WATCHED_CGROUPS, 0);

/// Run-queue waits of watched cgroups, by slot.
#[map]
pub(crate) static CGROUP_HISTOGRAM: PerCpuArray<[u64; BUCKETS]> =
    PerCpuArray::with_max_entries(WATCHED_CGROUPS, 0);

/// Where watched cgroups wait, by slot.
#[map]
pub(crate) static CGROUP_WAITS: PerCpuArray<WaitTotals> =
    PerCpuArray::with_max_entries(WATCHED_CGROUPS, 0);

/// Requests of watched services that wait for their response, in sets of places.
#[map]
pub(crate) static REQUESTS: Array<PendingSet> = Array::with_max_entries(SETS, 0);

/// What watched services took to answer, by slot.
#[map]
pub(crate) static CGROUP_LATENCY: PerCpuArray<LatencyTotals> =
    PerCpuArray::with_max_entries(SERVICES, 0);

/// Threads of watched cgroups that wait, by thread id.
#[map]
pub(crate) static WAITERS: LruHashMap<u32, Waiter> = LruHashMap::with_max_entries(WAITING, 0);

/// Forks in the current second, by cgroup.
#[map]
pub(crate) static FORKS: LruHashMap<u64, ForkWindow> = LruHashMap::with_max_entries(CGROUPS, 0);

/// Guards against fork storms, by cgroup.
#[map]
pub(crate) static FORK_LIMITS: HashMap<u64, ForkLimit> =
    HashMap::with_max_entries(WATCHED_CGROUPS, 0);

/// Ceilings of processes, by process id.
#[map]
pub(crate) static PROCESS_CEILINGS: HashMap<u32, Ceiling> = HashMap::with_max_entries(CEILINGS, 0);

/// Ceilings of cgroups of the memory controller, by id.
#[map]
pub(crate) static CGROUP_CEILINGS: HashMap<u64, Ceiling> = HashMap::with_max_entries(CEILINGS, 0);

/// How many cgroups have a ceiling: with none, nobody's cgroup is looked up.
#[map]
pub(crate) static CGROUP_CEILING_COUNT: Array<u32> = Array::with_max_entries(1, 0);

/// What each CPU counts of each disk, by the disk's number.
#[map]
pub(crate) static DISK_FIGURES: PerCpuHashMap<u32, DiskFigures> =
    PerCpuHashMap::with_max_entries(DISKS, 0);

/// What a disk begins with: zeros, which nobody changes, since they do not fit on the stack.
#[map]
pub(crate) static NO_FIGURES: Array<DiskFigures> = Array::with_max_entries(1, 0);

/// Requests that found no room for their disk in [`DISK_FIGURES`].
#[map]
pub(crate) static DISKS_LEFT_OUT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Requests on their way, one value for one look at all of them.
#[map]
pub(crate) static ISSUED: Array<[[Issued; 2]; PAIRS]> = Array::with_max_entries(1, 0);

/// For the benchmarks: the process whose system calls make load, and how many records each.
#[map]
pub(crate) static BENCH: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// For the benchmarks: records made on this CPU.
#[map]
pub(crate) static BENCH_MADE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Counts something that TCP did.
#[inline(always)]
pub(crate) fn tcp_totals(add: impl FnOnce(&mut TcpTotals)) {
    if let Some(totals) = TCP_TOTALS.get_ptr_mut(0) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        add(unsafe { &mut *totals });
    }
}

/// Value of [`TURNS`].
#[repr(C)]
pub(crate) struct Turns {
    /// Run-queue waits, see `monitor_common::probes::run_queue_latency::bucket`. First, since userspace reads it, and here, since one
    /// look-up at each switch is cheaper than two.
    pub(crate) histogram: [u64; HISTOGRAM],
    /// When the task that has the CPU was given it; run-queue clock.
    pub(crate) since_ns: u64,
    /// Address of the run queue that was looked at last.
    pub(crate) queue: u64,
    /// The longest wait told of in that second of `CLOCK_MONOTONIC`.
    pub(crate) longest_ns: u64,
    pub(crate) second: u64,
    /// Number of the latest slice.
    pub(crate) latest: u64,
    pub(crate) slices: [Slice; SLICES],
    pub(crate) throttles: [Throttle; THROTTLES],
}

/// Value of [`WAITERS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Waiter {
    pub(crate) since_ns: u64,
    pub(crate) syscall: i64,
    /// How often the thread had been switched away from, this time included.
    pub(crate) switches: u64,
    pub(crate) wait: u32,
    pub(crate) slot: u32,
}

const _: () = assert!(size_of::<Turns>() == TURNS_WORDS * 8);

/// Bytes of a question behind its header that are looked at.
pub(crate) const DNS_PAYLOAD: usize = 256;

/// Value of [`DNS_SCRATCH`].
#[repr(C)]
pub(crate) struct DnsScratch {
    pub(crate) pending: dns_query::Pending,
    pub(crate) payload: [u8; DNS_PAYLOAD],
    /// Where in it the next label begins.
    pub(crate) at: u64,
}

/// Key of [`ENDED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) start_time_ns: u64,
    pub(crate) pid: u64,
}

/// Value of [`SOCKETS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    /// Address of the socket; 0 for none.
    pub(crate) socket: u64,
    /// The peer, as a number.
    pub(crate) peer: u64,
    pub(crate) task: Task,
    /// When the connection was begun.
    pub(crate) since_ns: u64,
    /// 1 once a reset came.
    pub(crate) reset: u64,
}

/// Value of [`DROPPED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Dropped {
    /// When the last one was.
    pub(crate) at_ns: u64,
    /// A `DropClass` as a number.
    pub(crate) class: u32,
    pub(crate) count: u32,
}

impl Dropped {
    pub(crate) const NONE: Self = Self {
        at_ns: 0,
        class: DropClass::Unknown as u32,
        count: 0,
    };
}

/// Value of [`FULL_LISTENERS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FullListener {
    /// Address of its socket, which may be gone by now.
    pub(crate) socket: u64,
    /// When it was last seen full.
    pub(crate) at_ns: u64,
    /// When that was last told of.
    pub(crate) told_ns: u64,
}
