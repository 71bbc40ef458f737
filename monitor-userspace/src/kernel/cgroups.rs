//! Cgroups with figures of their own: run-queue waits, and where their threads wait otherwise.
//!
//! A slot each, given back when the cgroup is watched no longer. The kernel's filter is rebuilt with every change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use monitor_common::Kind;
use monitor_common::probes::off_cpu::WaitTotals;
use monitor_common::probes::run_queue_latency::{BUCKETS, CgroupFilter, WATCHED_CGROUPS};
use monitor_common::probes::service_latency::{LatencyTotals, SERVICES, TOTALS_WORDS};
use thiserror::Error;

use super::counters::{per_cpu, sum, take_array, take_map};
use super::programs::{Programs, SwitchError};

/// Words of a [`CgroupFilter`], the first of which is the number of cgroups.
const FILTER_WORDS: usize = 17;
/// Words of [`WaitTotals`].
const WAIT_WORDS: usize = 8;

pub(super) struct Maps {
    filter: Array<MapData, [u64; FILTER_WORDS]>,
    /// How many there are, for a look at it at every switch.
    watched: Array<MapData, u64>,
    slots: HashMap<MapData, u64, u32>,
    histogram: PerCpuArray<MapData, [u64; BUCKETS]>,
    waits: PerCpuArray<MapData, [u64; WAIT_WORDS]>,
    latency: PerCpuArray<MapData, [u64; TOTALS_WORDS]>,
}

impl Maps {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            filter: take_map(object, "CGROUP_FILTER")?.try_into()?,
            watched: take_map(object, ".bss")?.try_into()?,
            slots: take_map(object, "WATCHED_SLOTS")?.try_into()?,
            histogram: take_array(object, "CGROUP_HISTOGRAM")?,
            waits: take_array(object, "CGROUP_WAITS")?,
            latency: take_array(object, "CGROUP_LATENCY")?,
        })
    }
}

struct State {
    maps: Maps,
    slots: BTreeMap<u64, u32>,
}

/// Names cgroups that are to have figures of their own, and reads them. All clones are of the same list.
#[derive(Clone)]
pub struct CgroupWatch {
    state: Arc<Mutex<State>>,
    programs: Programs,
}

/// Why a cgroup has no figures of its own.
#[derive(Debug, Error)]
pub enum CgroupWatchError {
    /// All slots are taken.
    #[error("cgroup {0} has no figures of its own: {WATCHED_CGROUPS} others have")]
    Full(u64),
    /// The kernel refused.
    #[error("cgroup {cgroup_id} cannot be put on the watch list: {source}")]
    Map {
        /// Which.
        cgroup_id: u64,
        /// Why.
        source: MapError,
    },
    /// Programs that follow watched cgroups do not attach; the other figures are there.
    #[error("cgroup {cgroup_id} has not all of its figures: {source}")]
    Programs {
        /// Which.
        cgroup_id: u64,
        /// Why.
        source: SwitchError,
    },
}

/// What was counted of one cgroup since it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupFigures {
    /// Waits for a CPU, see `monitor_common::probes::run_queue_latency::bucket`.
    pub run_queue: [u64; BUCKETS],
    /// Other waits; zeros while `off_cpu` is not attached.
    pub waits: WaitTotals,
    /// What its answers took; none while `service_latency` is not attached, and for those beyond the first [`SERVICES`].
    pub latency: Option<LatencyTotals>,
}

impl std::fmt::Debug for CgroupWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CgroupWatch").finish_non_exhaustive()
    }
}

impl CgroupWatch {
    pub(super) fn new(maps: Maps, programs: Programs) -> Self {
        let slots = BTreeMap::new();
        Self {
            programs,
            state: Arc::new(Mutex::new(State { maps, slots })),
        }
    }

    /// Counts for this cgroup from now on, from 0; nothing changes for one that is watched already.
    pub fn watch(&self, cgroup_id: u64) -> Result<(), CgroupWatchError> {
        let refused = |source| CgroupWatchError::Map { cgroup_id, source };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.slots.contains_key(&cgroup_id) {
            return Ok(());
        }
        let taken: Vec<u32> = state.slots.values().copied().collect();
        let slot = (0..WATCHED_CGROUPS)
            .find(|slot| !taken.contains(slot))
            .ok_or(CgroupWatchError::Full(cgroup_id))?;
        state.clear(slot).map_err(refused)?;
        state
            .maps
            .slots
            .insert(cgroup_id, slot, 0)
            .map_err(refused)?;
        state.slots.insert(cgroup_id, slot);
        state.show_filter().map_err(refused)?;
        let followed = self.programs.set_watching(true);
        followed.map_err(|source| CgroupWatchError::Programs { cgroup_id, source })
    }

    /// Undoes [`Self::watch`]; nothing changes for one that is not watched.
    pub fn unwatch(&self, cgroup_id: u64) -> Result<(), CgroupWatchError> {
        let refused = |source| CgroupWatchError::Map { cgroup_id, source };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.slots.remove(&cgroup_id).is_none() {
            return Ok(());
        }
        state.show_filter().map_err(refused)?;
        state.maps.slots.remove(&cgroup_id).map_err(refused)?;
        if state.slots.is_empty() {
            let followed = self.programs.set_watching(false);
            followed.map_err(|source| CgroupWatchError::Programs { cgroup_id, source })?;
        }
        Ok(())
    }

    /// What was counted of each watched cgroup, by its id.
    pub fn read(&self) -> BTreeMap<u64, CgroupFigures> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = self.programs.is_attached(Kind::ServiceLatency);
        let figures = |slot: u32| {
            let words = sum(&state.maps.waits, slot);
            let half = |from| std::array::from_fn(|at| words.get(from + at).copied().unwrap_or(0));
            CgroupFigures {
                run_queue: sum(&state.maps.histogram, slot),
                waits: WaitTotals {
                    waits: half(0),
                    wait_ns: half(WAIT_WORDS / 2),
                },
                latency: (counted && slot < SERVICES)
                    .then(|| latency(&sum(&state.maps.latency, slot))),
            }
        };
        let each = state.slots.iter();
        each.map(|(id, slot)| (*id, figures(*slot))).collect()
    }
}

impl State {
    fn clear(&mut self, slot: u32) -> Result<(), MapError> {
        let cpus = per_cpu(&self.maps.waits, slot).len();
        let zeros = |cpus| aya::maps::PerCpuValues::try_from(vec![[0; WAIT_WORDS]; cpus]);
        let waits = zeros(cpus).map_err(MapError::IoError)?;
        self.maps.waits.set(slot, waits, 0)?;
        let zeros = aya::maps::PerCpuValues::try_from(vec![[0; BUCKETS]; cpus]);
        let waits = zeros.map_err(MapError::IoError)?;
        self.maps.histogram.set(slot, waits, 0)?;
        if slot >= SERVICES {
            return Ok(());
        }
        let zeros = aya::maps::PerCpuValues::try_from(vec![[0; TOTALS_WORDS]; cpus]);
        let totals = zeros.map_err(MapError::IoError)?;
        self.maps.latency.set(slot, totals, 0)
    }

    fn show_filter(&mut self) -> Result<(), MapError> {
        let mut words = [0; FILTER_WORDS];
        let [watched, bits @ ..] = &mut words;
        *watched = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        for cgroup_id in self.slots.keys() {
            let (word, bit) = CgroupFilter::place(*cgroup_id);
            if let Some(word) = bits.get_mut(word) {
                *word |= bit;
            }
        }
        let watched = words.first().copied().unwrap_or(0);
        self.maps.filter.set(0, words, 0)?;
        self.maps.watched.set(0, watched, 0)
    }
}

/// The words of a slot, as the kernel lays them out.
fn latency(words: &[u64; TOTALS_WORDS]) -> LatencyTotals {
    let [requests, overlapping, displaced, sum_ns, buckets @ ..] = *words;
    LatencyTotals {
        requests,
        overlapping,
        displaced,
        sum_ns,
        buckets,
    }
}
