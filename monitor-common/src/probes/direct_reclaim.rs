//! A process had to free memory itself before it was given any.

use crate::event::{Header, Task};
use crate::offsets::CURRENT;
use crate::spec::{Attach, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "direct_reclaim",
    summary: "a process stalled in direct reclaim: how long, and how much it freed",
    programs: &[
        ProgramSpec {
            name: "direct_reclaim_begin",
            attach: Attach::tracepoint("mm_vmscan_direct_reclaim_begin"),
        },
        ProgramSpec {
            name: "direct_reclaim_end",
            attach: Attach::tracepoint("mm_vmscan_direct_reclaim_end"),
        },
    ],
    offsets: &[CURRENT],
    optional: &[],
};

/// Emitted when the stall ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DirectReclaim {
    /// First bytes of every record.
    pub header: Header,
    /// The task that stalled.
    pub task: Task,
    /// Nanoseconds it stalled.
    pub stall_ns: u64,
    /// Pages it freed.
    pub reclaimed_pages: u64,
}

const _: () = assert!(size_of::<DirectReclaim>() == 72);
