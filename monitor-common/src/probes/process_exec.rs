//! A process replaced its program.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "process_exec",
    summary: "a process replaced its program (execve)",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "process_exec",
        attach: Attach::tracepoint("sched_process_exec"),
    }],
    offsets: &[TASK, &[offsets::TASK_PARENT]],
    optional: &[
        CGROUP,
        &[
            offsets::TASK_CREDENTIALS,
            offsets::CREDENTIALS_UID,
            offsets::TASK_MM,
            offsets::MM_ARGUMENTS,
            offsets::MM_ARGUMENTS_END,
        ],
    ],
};

/// Bytes of the arguments that an event holds.
pub const ARGV_LEN: usize = 256;

/// [`ProcessExec::uid`] when it is unknown.
pub const UID_UNKNOWN: u32 = u32::MAX;

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
    /// Real user id; [`UID_UNKNOWN`] when unknown.
    #[cfg_attr(feature = "serde", serde(default = "unknown"))]
    pub uid: u32,
    /// Bytes of all arguments together, which may be more than `argv` holds.
    #[cfg_attr(feature = "serde", serde(default))]
    pub argv_total: u32,
    /// Bytes of `argv` that count.
    #[cfg_attr(feature = "serde", serde(default))]
    pub argv_len: u32,
    /// The arguments, each with its NUL. Any bytes.
    #[cfg_attr(feature = "serde", serde(default = "empty", with = "crate::bytes"))]
    pub argv: [u8; ARGV_LEN],
}

#[cfg(feature = "serde")]
const fn unknown() -> u32 {
    UID_UNKNOWN
}

#[cfg(feature = "serde")]
const fn empty() -> [u8; ARGV_LEN] {
    [0; ARGV_LEN]
}

impl ProcessExec {
    /// The arguments as far as the event holds them.
    pub fn argv(&self) -> &[u8] {
        let length = usize::try_from(self.argv_len).unwrap_or(ARGV_LEN);
        self.argv.get(..length).unwrap_or(&self.argv)
    }

    /// Whether there were more.
    pub const fn argv_cut(&self) -> bool {
        self.argv_total > self.argv_len
    }
}

const _: () = assert!(size_of::<ProcessExec>() == 328);
