//! A process had to free memory itself before it was given any.

use crate::event::{Header, Task};
use crate::offsets::CURRENT;
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "direct_reclaim",
    summary: "a process stalled in direct reclaim: how long, how much it freed, and for the host's or for a cgroup's limit",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "direct_reclaim_begin",
            attach: Attach::tracepoint("mm_vmscan_direct_reclaim_begin"),
        },
        ProgramSpec {
            name: "direct_reclaim_end",
            attach: Attach::tracepoint("mm_vmscan_direct_reclaim_end"),
        },
        ProgramSpec {
            name: "memcg_reclaim_begin",
            attach: Attach::tracepoint("mm_vmscan_memcg_reclaim_begin"),
        },
        ProgramSpec {
            name: "memcg_reclaim_end",
            attach: Attach::tracepoint("mm_vmscan_memcg_reclaim_end"),
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
    /// Whose memory was short: `SCOPE_HOST` or `SCOPE_CGROUP`.
    #[cfg_attr(feature = "serde", serde(default))]
    pub scope: u32,
    /// Always 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub padding: u32,
}

/// [`DirectReclaim::scope`] in recordings that do not tell.
pub const SCOPE_UNKNOWN: u32 = 0;
/// The host's.
pub const SCOPE_HOST: u32 = 1;
/// That of a cgroup with a limit.
pub const SCOPE_CGROUP: u32 = 2;

/// A thread's reclaim, under way or the last one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// When it began; `CLOCK_MONOTONIC` nanoseconds.
    pub since_ns: u64,
    /// `SCOPE_*`.
    pub scope: u32,
    /// 1 while it is under way.
    pub under_way: u32,
}

const _: () = assert!(size_of::<DirectReclaim>() == 80);
