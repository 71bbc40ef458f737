//! A process or a cgroup took more memory than its ceiling allows, seen (and, when told to, ended) at the very page.
//!
//! `kmem/rss_stat` fires on every change of resident memory, so its program is attached only while a ceiling is armed. What each
//! CPU has not yet added up is missing from a process's count: at most 64 pages a CPU and kind of page on a small machine.

use crate::event::{Header, Task};
use crate::offsets::{self, CURRENT};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "memory_ceiling",
    summary: "a process or cgroup with an armed ceiling crossed it; with a guard, it is killed in the kernel at the crossing",
    mode: Mode::Demand,
    programs: &[ProgramSpec {
        name: "memory_ceiling",
        attach: Attach::tracepoint("rss_stat"),
    }],
    offsets: &[
        CURRENT,
        &[offsets::TASK_MM, offsets::MM_RSS, offsets::MM_RSS_STRIDE],
    ],
    optional: &[&[
        offsets::TASK_CGROUPS,
        offsets::CSS_SET_SUBSYSTEMS,
        offsets::SUBSYSTEM_CGROUP,
        offsets::CGROUP_NODE,
        offsets::NODE_ID,
        offsets::MEMORY_CGROUP_USAGE,
    ]],
};

/// Most processes, and most cgroups, with a ceiling at a time.
pub const CEILINGS: u32 = 1_024;

/// What the ceiling is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One process, by its resident memory.
    Process,
    /// A cgroup of the memory controller, by what it is charged.
    Cgroup,
}

/// [`MemoryCeiling::scope`] of a process.
pub const SCOPE_PROCESS: u32 = 1;
/// [`MemoryCeiling::scope`] of a cgroup.
pub const SCOPE_CGROUP: u32 = 2;

/// [`MemoryCeiling::verdict`]: only reported.
pub const OBSERVED: u32 = 0;
/// [`MemoryCeiling::verdict`]: SIGKILL was sent to the process.
pub const KILLED: u32 = 1;
/// [`MemoryCeiling::verdict`]: it holds too small a share of its cgroup's memory to be the one to blame.
pub const SPARED: u32 = 2;
/// [`MemoryCeiling::verdict`]: the kernel would not send the signal.
pub const REFUSED: u32 = 3;

/// Emitted once at the crossing, in the context of the process that took the page.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MemoryCeiling {
    /// First bytes of every record.
    pub header: Header,
    /// The process that took the page.
    pub task: Task,
    /// The ceiling, pages.
    pub limit_pages: u64,
    /// What is held by the process or charged to the cgroup, pages.
    pub used_pages: u64,
    /// What the process itself holds, pages.
    pub resident_pages: u64,
    /// Id of the cgroup of the memory controller whose ceiling it is; 0 for a process.
    pub memory_cgroup_id: u64,
    /// `SCOPE_*`.
    pub scope: u32,
    /// `OBSERVED`, `KILLED`, `SPARED` or `REFUSED`.
    pub verdict: u32,
}

impl MemoryCeiling {
    /// What the ceiling is on.
    pub const fn scope(&self) -> Scope {
        if self.scope == SCOPE_CGROUP {
            Scope::Cgroup
        } else {
            Scope::Process
        }
    }
}

/// A ceiling, as it stands in the kernel's table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Pages.
    pub pages: u64,
    /// Start of the process it is meant for, ticks of 10 ms since boot: a reused process id does not inherit it. 0 for a cgroup.
    pub start_ticks: u64,
    /// When it was crossed, `CLOCK_MONOTONIC` nanoseconds; 0 when it was not. Written by the kernel.
    pub crossed_ns: u64,
    /// What was held at the last look, pages; at first `u64::MAX`. Written by the kernel: only who takes more is judged, so that one who
    /// was over the ceiling when it was armed may give back.
    pub seen_pages: u64,
    /// 1 when whoever crosses it is killed.
    pub enforce: u32,
    /// Always 0.
    pub padding: u32,
}

/// A cgroup's crossing is reported again after so long, and its members that still take memory are judged again.
pub const CGROUP_AGAIN_NS: u64 = 100_000_000;

/// Whether a process that holds this much may be killed for its cgroup: it holds at least a quarter of the ceiling. Otherwise a
/// small neighbour of the culprit would die for taking the last page.
#[inline]
pub const fn to_blame(resident_pages: u64, limit_pages: u64) -> bool {
    resident_pages >= limit_pages / 4
}

const _: () = assert!(size_of::<MemoryCeiling>() == 96);
const _: () = assert!(size_of::<Ceiling>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_quarter_is_to_blame() {
        assert!(to_blame(25, 100));
        assert!(!to_blame(24, 100));
        assert!(to_blame(1_000, 100));
    }
}
