//! The last thread of a process ended.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "process_exit",
    summary: "a process ended, with its exit code or the signal that killed it",
    mode: Mode::Essential,
    programs: &[ProgramSpec {
        name: "process_exit",
        attach: Attach::tracepoint("sched_process_exit"),
    }],
    offsets: &[
        TASK,
        &[
            offsets::TASK_PARENT,
            offsets::TASK_SIGNAL,
            offsets::TASK_EXIT_CODE,
            offsets::SIGNAL_LIVE,
            offsets::SIGNAL_FLAGS,
            offsets::SIGNAL_GROUP_EXIT_CODE,
        ],
    ],
    optional: &[CGROUP],
};

/// Emitted once for a process, when its last thread ends: before its files are closed (and since 6.16 before its memory is
/// freed), so that it can be acted on early; wait for its pidfd before you take over its port. The task is the leader
/// of its threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProcessExit {
    /// First bytes of every record.
    pub header: Header,
    /// The process.
    pub task: Task,
    /// Process id of its parent.
    pub parent_pid: u32,
    /// As `wait` returns it: low 7 bits the signal, bit 7 core dumped, bits 8 to 15 the exit code.
    pub status: u32,
    /// Nanoseconds between its start and its end.
    pub lifetime_ns: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It left by itself with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl ProcessExit {
    /// Reads the status as `wait(2)` describes it.
    pub const fn ending(&self) -> Ending {
        ending(self.status)
    }
}

/// Reads a wait status as `wait(2)` describes it.
pub const fn ending(status: u32) -> Ending {
    let signal = (status & 0x7f) as u8;
    if signal == 0 {
        Ending::Code((status >> 8 & 0xff) as u8)
    } else {
        Ending::Signal(signal)
    }
}

const _: () = assert!(size_of::<ProcessExit>() == 72);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_reads_as_wait_documents_it() {
        assert_eq!(ending(0), Ending::Code(0));
        assert_eq!(ending(3 << 8), Ending::Code(3));
        assert_eq!(ending(9), Ending::Signal(9));
        assert_eq!(
            ending(0x80 | 0x0b),
            Ending::Signal(11),
            "the core-dump bit is not part of the signal"
        );
    }
}
