//! A process replaced its program.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "process_exec",
    summary: "a process replaced its program (execve)",
    programs: &[ProgramSpec {
        name: "process_exec",
        attach: Attach::tracepoint("sched_process_exec"),
    }],
    offsets: &[TASK, &[offsets::TASK_PARENT]],
    optional: &[CGROUP],
};

/// Emitted in the context of the task, after the new program is in place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProcessExec {
    /// First bytes of every record.
    pub header: Header,
    /// The process, with its new name.
    pub task: Task,
    /// Process id of its parent.
    pub parent_pid: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<ProcessExec>() == 64);
