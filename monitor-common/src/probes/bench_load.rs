//! A load on the bulk ring, for measuring: as many records for each system call of one process as it is told to make.

use crate::event::{Header, Task};
use crate::offsets::CURRENT;
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "bench_load",
    summary: "a load on the bulk ring, for the benchmarks",
    mode: Mode::Bench,
    programs: &[ProgramSpec {
        name: "bench_load",
        attach: Attach::tracepoint("sys_enter"),
    }],
    offsets: &[CURRENT],
    optional: &[],
};

/// Most records for one system call.
pub const MOST: u32 = 16;

/// One record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BenchLoad {
    /// First bytes of every record.
    pub header: Header,
    /// Who made the system call; only its process id is filled in.
    pub task: Task,
    /// Number of the record on its CPU, from 1, lost ones included.
    pub sequence: u64,
}

const _: () = assert!(size_of::<BenchLoad>() == 64);
