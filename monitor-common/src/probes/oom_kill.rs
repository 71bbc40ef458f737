//! The kernel chose a victim for lack of memory.

use crate::event::{COMM_LEN, Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "oom_kill",
    summary: "the kernel killed a process for lack of memory: the victim, what it held, who asked, and whose memory was short",
    mode: Mode::Essential,
    programs: &[ProgramSpec {
        name: "oom_kill",
        attach: Attach::BtfTracepoint {
            name: "mark_victim",
            // Only a process id before 6.8.
            first_argument: "task_struct",
            arguments: 0,
        },
    }],
    offsets: &[TASK],
    optional: &[
        CGROUP,
        &[
            offsets::TASK_SIGNAL,
            offsets::SIGNAL_OOM_SCORE_ADJ,
            offsets::TASK_MM,
            offsets::MM_RSS,
            offsets::MM_RSS_STRIDE,
        ],
    ],
};

/// Emitted when the victim is marked, before it is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OomKill {
    /// First bytes of every record.
    pub header: Header,
    /// The victim.
    pub task: Task,
    /// Resident anonymous memory, pages; 0 when unknown.
    pub anon_pages: u64,
    /// Resident file pages; 0 when unknown.
    pub file_pages: u64,
    /// Resident shared memory, pages; 0 when unknown.
    pub shmem_pages: u64,
    /// Process id of the task that asked for the memory.
    pub trigger_pid: u32,
    /// The victim's `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Name of the task that asked for the memory.
    #[cfg_attr(feature = "serde", serde(default))]
    pub trigger_comm: [u8; COMM_LEN],
    /// Whose memory was short: `CAUSE_*`.
    #[cfg_attr(feature = "serde", serde(default))]
    pub cause: u32,
    /// Always 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub padding: u32,
}

/// The task that asked had not reclaimed shortly before: a person asked (`sysrq`), or `direct_reclaim` is off.
pub const CAUSE_UNKNOWN: u32 = 0;
/// The host's: its last reclaim was of the host.
pub const CAUSE_HOST: u32 = 1;
/// That of a cgroup with a limit: its last reclaim was of a cgroup.
pub const CAUSE_CGROUP: u32 = 2;

/// A reclaim longer ago than this says nothing about the cause (10 s).
pub const CAUSE_WITHIN_NS: u64 = 10_000_000_000;

const _: () = assert!(size_of::<OomKill>() == 112);
