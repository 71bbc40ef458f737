//! The process table, read in one go by a task iterator instead of from `/proc`.
//!
//! Not a ring event: the iterator writes one record for every thread, and userspace adds the threads of a process up. The
//! reader fills in `header.time_ns`.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "task_snapshot",
    summary: "the process table: CPU time, run delay, memory, faults and I/O of every process",
    mode: Mode::Essential,
    programs: &[ProgramSpec {
        name: "task_snapshot",
        attach: Attach::TaskIterator,
    }],
    offsets: &[
        TASK,
        &[
            offsets::TASK_PARENT,
            offsets::TASK_FLAGS,
            offsets::TASK_CPU_TIME,
            offsets::TASK_SIGNAL,
        ],
    ],
    optional: &[
        CGROUP,
        &[
            offsets::TASK_RUN_DELAY,
            offsets::TASK_STATE,
            offsets::TASK_VOLUNTARY_SWITCHES,
            offsets::TASK_INVOLUNTARY_SWITCHES,
            offsets::TASK_CREDENTIALS,
            offsets::CREDENTIALS_UID,
            offsets::SIGNAL_DEAD_CPU_TIME,
            offsets::SIGNAL_OOM_SCORE_ADJ,
            offsets::TASK_MM,
            offsets::MM_RSS,
            offsets::MM_RSS_STRIDE,
            offsets::TASK_MINOR_FAULTS,
            offsets::TASK_MAJOR_FAULTS,
            offsets::TASK_READ_BYTES,
            offsets::TASK_WRITE_BYTES,
            offsets::SIGNAL_DEAD_MINOR_FAULTS,
            offsets::SIGNAL_DEAD_MAJOR_FAULTS,
            offsets::SIGNAL_DEAD_READ_BYTES,
            offsets::SIGNAL_DEAD_WRITE_BYTES,
        ],
    ],
};

/// Set in [`TaskSnapshot::flags`] for a kernel thread.
pub const FLAG_KERNEL_THREAD: u32 = 1;
/// Set in [`TaskSnapshot::flags`] for the leader of its thread group.
pub const FLAG_LEADER: u32 = 2;

/// One thread. Fields marked "leader" are 0 in the records of other threads. The leader's record also carries the CPU time,
/// faults and I/O of the process's threads that have ended, so that the sum over a process never falls.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TaskSnapshot {
    /// First bytes of every record.
    pub header: Header,
    /// The thread, and the start of its process.
    pub task: Task,
    /// `FLAG_*`.
    pub flags: u32,
    /// Process id of its parent (leader).
    pub parent_pid: u32,
    /// CPU time of this thread, nanoseconds.
    pub cpu_ns: u64,
    /// Time this thread waited for a CPU, nanoseconds. Of threads that have ended nothing is kept.
    pub run_delay_ns: u64,
    /// Resident memory (anonymous + file + shared), pages (leader). What the CPUs have not yet added up is missing: at most
    /// some 100 pages on a small machine.
    pub rss_pages: u64,
    /// Resident anonymous memory, pages (leader).
    pub anon_pages: u64,
    /// Minor faults of this thread.
    pub minor_faults: u64,
    /// Major faults of this thread.
    pub major_faults: u64,
    /// Bytes read from storage by this thread; 0 without `CONFIG_TASK_IO_ACCOUNTING`.
    pub read_bytes: u64,
    /// Bytes written to storage by this thread; 0 without `CONFIG_TASK_IO_ACCOUNTING`.
    pub write_bytes: u64,
    /// What the kernel calls `__state`: 0 runs or wants to, 1 sleeps, 2 sleeps and cannot be woken by a signal.
    #[cfg_attr(feature = "serde", serde(default))]
    pub state: u32,
    /// Real user id of this thread; `u32::MAX` when unknown.
    #[cfg_attr(feature = "serde", serde(default))]
    pub uid: u32,
    /// How often this thread was switched away from, for whatever reason: the same number twice means that it has not run in between.
    #[cfg_attr(feature = "serde", serde(default))]
    pub switches: u64,
    /// Resident shared memory (tmpfs, System V, shared anonymous), pages (leader).
    #[cfg_attr(feature = "serde", serde(default))]
    pub shmem_pages: u64,
    /// Memory that was swapped out, pages (leader).
    #[cfg_attr(feature = "serde", serde(default))]
    pub swap_pages: u64,
    /// What the kernel's OOM killer is told to add, -1000 (never) to 1000 (leader).
    #[cfg_attr(feature = "serde", serde(default))]
    pub oom_score_adj: i32,
    /// Nothing.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing))]
    pub padding: u32,
}

/// [`TaskSnapshot::state`] of a thread that waits and cannot be woken by a signal (`TASK_UNINTERRUPTIBLE`).
pub const UNINTERRUPTIBLE: u32 = 2;
/// Set in addition for idle kernel threads (`TASK_NOLOAD`).
pub const NO_LOAD: u32 = 0x400;

impl TaskSnapshot {
    /// Whether it waits for something that no signal can interrupt (`D` in `ps`).
    pub const fn is_uninterruptible(&self) -> bool {
        self.state & UNINTERRUPTIBLE != 0 && self.state & NO_LOAD == 0
    }
}

const _: () = assert!(size_of::<TaskSnapshot>() == 168);
