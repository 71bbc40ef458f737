//! The maps. All of types that 5.8 has, since all are made with the object, whichever programs load.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use monitor_common::counters::{ProbeCounters, RateLimit, ReclaimTotals};
use monitor_common::probes::run_queue_latency::BUCKETS;
use monitor_common::{Kind, Task};

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

/// Run-queue waits, see `monitor_common::probes::run_queue_latency::bucket`.
#[map]
pub(crate) static RUN_QUEUE_HISTOGRAM: PerCpuArray<[u64; BUCKETS]> =
    PerCpuArray::with_max_entries(1, 0);

/// Connections under way, by the address of their socket.
#[map]
pub(crate) static CONNECTING: LruHashMap<u64, Connecting> = LruHashMap::with_max_entries(4_096, 0);

/// When a thread entered direct reclaim, by thread id.
#[map]
pub(crate) static RECLAIMING: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4_096, 0);

/// Stalls in direct reclaim, short ones included.
#[map]
pub(crate) static RECLAIM_TOTALS: PerCpuArray<ReclaimTotals> = PerCpuArray::with_max_entries(1, 0);

/// Key of [`ENDED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) start_time_ns: u64,
    pub(crate) pid: u64,
}

/// Value of [`CONNECTING`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connecting {
    pub(crate) task: Task,
    pub(crate) since_ns: u64,
}
