//! What the programs counted, and what they cost.
//!
//! Reads maps that the kernel writes; cheap enough to ask every second, [`CounterReader::lost_total`] before every decision.
//! A map that cannot be read counts as no change rather than as an error: the values are shown, and nothing hangs on one reading.

use std::sync::Arc;

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use monitor_common::Kind;
use monitor_common::counters::{ProbeCounters, ReclaimTotals, TCP_TOTALS_WORDS, TcpTotals};
use monitor_common::probes::run_queue_latency::{BUCKETS, TURNS_WORDS};
use monitor_common::probes::socket_overflow::LIMITS;

use super::disks;
use super::drops::DropReasons;
use super::programs::{ProgramCost, Programs};
use crate::model::kernel_view::DiskFigures;

/// Reads what the programs counted. Cheap to clone, and outlives the [`super::Kernel`]; the values then stay as they are.
#[derive(Clone)]
pub struct CounterReader {
    maps: Arc<Maps>,
    programs: Programs,
}

/// The maps it reads.
pub(super) struct Maps {
    counters: PerCpuArray<MapData, [u64; 4]>,
    lost_total: PerCpuArray<MapData, u64>,
    turns: PerCpuArray<MapData, [u64; TURNS_WORDS]>,
    reclaim: PerCpuArray<MapData, [u64; 2]>,
    tcp: PerCpuArray<MapData, [u64; TCP_TOTALS_WORDS]>,
    drops: PerCpuArray<MapData, u64>,
    overflows: PerCpuArray<MapData, u64>,
    reasons: DropReasons,
    disks: disks::Maps,
}

impl Maps {
    /// Takes them out of the object.
    pub(super) fn take(object: &mut Ebpf, reasons: DropReasons) -> Result<Self, MapError> {
        Ok(Self {
            counters: take_array(object, "COUNTERS")?,
            lost_total: take_array(object, "LOST_TOTAL")?,
            turns: take_array(object, "TURNS")?,
            reclaim: take_array(object, "RECLAIM_TOTALS")?,
            tcp: take_array(object, "TCP_TOTALS")?,
            drops: take_array(object, "DROP_REASONS")?,
            overflows: take_array(object, "OVERFLOWS")?,
            reasons,
            disks: disks::Maps::take(object)?,
        })
    }
}

/// One probe's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerProbe {
    /// Which probe.
    pub kind: Kind,
    /// By CPU number.
    pub per_cpu: Vec<ProbeCounters>,
}

impl PerProbe {
    /// Summed over the CPUs.
    pub fn total(&self) -> ProbeCounters {
        self.per_cpu
            .iter()
            .fold(ProbeCounters::default(), |sum, cpu| ProbeCounters {
                emitted: sum.emitted + cpu.emitted,
                lost: sum.lost + cpu.lost,
                suppressed: sum.suppressed + cpu.suppressed,
                implausible: sum.implausible + cpu.implausible,
            })
    }
}

impl std::fmt::Debug for CounterReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CounterReader").finish_non_exhaustive()
    }
}

impl CounterReader {
    pub(super) fn new(maps: Maps, programs: Programs) -> Self {
        Self {
            maps: Arc::new(maps),
            programs,
        }
    }

    /// Records of all probes that found no room in their ring, since loading. One system call.
    pub fn lost_total(&self) -> u64 {
        per_cpu(&self.maps.lost_total, 0).iter().sum()
    }

    /// Every probe's counters.
    pub fn read(&self) -> Vec<PerProbe> {
        let each = |kind: &Kind| PerProbe {
            kind: *kind,
            per_cpu: per_cpu(&self.maps.counters, u32::from(kind.number()))
                .into_iter()
                .map(|[emitted, lost, suppressed, implausible]| ProbeCounters {
                    emitted,
                    lost,
                    suppressed,
                    implausible,
                })
                .collect(),
        };
        Kind::ALL.iter().map(each).collect()
    }

    /// Waits for a CPU since loading, all CPUs together; see `monitor_common::probes::run_queue_latency::bucket`.
    pub fn run_queue_histogram(&self) -> [u64; BUCKETS] {
        let words = sum(&self.maps.turns, 0);
        std::array::from_fn(|at| words.get(at).copied().unwrap_or(0))
    }

    /// Direct reclaim since loading, all CPUs together.
    pub fn reclaim_totals(&self) -> ReclaimTotals {
        let [stalls, stall_ns] = sum(&self.maps.reclaim, 0);
        ReclaimTotals { stalls, stall_ns }
    }

    /// What TCP did since loading, all CPUs together.
    pub fn tcp_totals(&self) -> TcpTotals {
        let words = sum(&self.maps.tcp, 0);
        let mut words = words.into_iter();
        let mut next = || words.next().unwrap_or(0);
        TcpTotals {
            made: std::array::from_fn(|_| next()),
            failed: next(),
            resets_received: next(),
            resets_sent: next(),
            retransmits: next(),
            answers_retransmitted: next(),
        }
    }

    /// Packets thrown away since loading, all CPUs together, by the kernel's reason; those without any are left out.
    pub fn packet_drops(&self) -> Vec<(&str, u64)> {
        let count = |(number, name)| {
            let count = per_cpu(&self.maps.drops, u32::from(number)).iter().sum();
            (count > 0).then_some((name, count))
        };
        self.maps.reasons.all().filter_map(count).collect()
    }

    /// What did not fit into a socket since loading, all CPUs together, by the limit's number in
    /// `monitor_common::probes::socket_overflow`.
    pub fn socket_overflows(&self) -> [u64; LIMITS] {
        std::array::from_fn(|limit| {
            let limit = u32::try_from(limit).unwrap_or(0);
            per_cpu(&self.maps.overflows, limit).iter().sum()
        })
    }

    /// What was counted of each disk since it was first seen.
    pub fn disks(&self) -> Vec<DiskFigures> {
        self.maps.disks.read()
    }

    /// Makes room: the disk is gone. One that comes back begins at 0.
    pub fn forget_disk(&self, major: u32, minor: u32) {
        self.maps.disks.forget(major, minor);
    }

    /// Requests of disks for which there was no room.
    pub fn disks_left_out(&self) -> u64 {
        self.maps.disks.left_out()
    }

    /// What each loaded program has cost, by name.
    pub fn program_costs(&self) -> Vec<ProgramCost> {
        self.programs.costs()
    }
}

pub(super) fn take_array<V: Pod>(
    object: &mut Ebpf,
    name: &str,
) -> Result<PerCpuArray<MapData, V>, MapError> {
    take_map(object, name)?.try_into()
}

/// A map by its name in `monitor-ebpf`.
pub(super) fn take_map(object: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    object.take_map(name).ok_or_else(|| MapError::InvalidName {
        name: name.to_owned(),
    })
}

pub(super) fn per_cpu<V: Pod>(array: &PerCpuArray<MapData, V>, index: u32) -> Vec<V> {
    match array.get(&index, 0) {
        Ok(values) => values.iter().copied().collect(),
        Err(error) => {
            tracing::debug!(%error, index, "a map of the kernel programs cannot be read");
            Vec::new()
        }
    }
}

/// One slot of all CPUs together.
pub(super) fn sum<const N: usize>(array: &PerCpuArray<MapData, [u64; N]>, slot: u32) -> [u64; N] {
    let mut total = [0_u64; N];
    for cpu in per_cpu(array, slot) {
        for (sum, value) in total.iter_mut().zip(cpu) {
            *sum = sum.wrapping_add(value);
        }
    }
    total
}
