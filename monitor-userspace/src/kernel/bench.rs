//! The load generator of the benchmarks.

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError, PerCpuArray};

use super::counters::{per_cpu, take_array, take_map};

/// Has a process's system calls put records into the bulk ring. Works while the probe `bench_load` is attached.
pub struct BenchLoad {
    control: Array<MapData, [u32; 2]>,
    made: PerCpuArray<MapData, u64>,
}

impl std::fmt::Debug for BenchLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BenchLoad").finish_non_exhaustive()
    }
}

impl BenchLoad {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            control: take_map(object, "BENCH")?.try_into()?,
            made: take_array(object, "BENCH_MADE")?,
        })
    }

    /// From now on each system call of this process makes so many records; 0 ends it.
    pub fn set(&mut self, pid: u32, records: u32) -> Result<(), MapError> {
        self.control.set(0, [pid, records], 0)
    }

    /// Records made so far, those that found no room included.
    pub fn made(&self) -> u64 {
        per_cpu(&self.made, 0).iter().sum()
    }
}
