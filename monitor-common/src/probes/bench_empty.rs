//! Programs that do nothing, for measuring what any program costs at `sched_switch` and at the states of connections. Emits nothing.

use crate::event::{Header, Task};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "bench_empty",
    summary: "empty programs, for the benchmarks",
    mode: Mode::Bench,
    programs: &[
        ProgramSpec {
            name: "bench_empty",
            attach: Attach::tracepoint("sched_switch"),
        },
        ProgramSpec {
            name: "bench_empty_state",
            attach: Attach::tracepoint("inet_sock_set_state"),
        },
    ],
    offsets: &[],
    optional: &[],
};

/// Never emitted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BenchEmpty {
    /// First bytes of every record.
    pub header: Header,
    /// Nobody.
    pub task: Task,
}

const _: () = assert!(size_of::<BenchEmpty>() == 56);
