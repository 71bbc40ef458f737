//! A process (not a thread) was made.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "process_fork",
    summary: "a process was made (fork, vfork, clone without CLONE_THREAD)",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "process_fork",
        attach: Attach::tracepoint("sched_process_fork"),
    }],
    offsets: &[TASK, &[offsets::TASK_PARENT]],
    optional: &[CGROUP],
};

/// Emitted in the context of the parent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProcessFork {
    /// First bytes of every record.
    pub header: Header,
    /// The child.
    pub task: Task,
    /// Process id of the parent.
    pub parent_pid: u32,
    /// Always 0.
    pub padding: u32,
    /// Start of the parent, as in [`Task::start_time_ns`]; 0 when unknown.
    #[cfg_attr(feature = "serde", serde(default))]
    pub parent_start_time_ns: u64,
}

const _: () = assert!(size_of::<ProcessFork>() == 72);
