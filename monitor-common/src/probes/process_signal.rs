//! Somebody sent a process a signal that ends processes.

use crate::event::{COMM_LEN, Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "process_signal",
    summary: "a signal that ends processes was sent (KILL, TERM, ABRT, SEGV, ...): to whom and by whom",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "process_signal",
        attach: Attach::tracepoint("signal_generate"),
    }],
    offsets: &[TASK, offsets::CURRENT],
    optional: &[CGROUP],
};

/// Signals that are reported, a bit each: QUIT, ILL, TRAP, ABRT, BUS, FPE, KILL, SEGV, TERM, XCPU, XFSZ, SYS.
pub const REPORTED: u64 = 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 11
    | 1 << 15
    | 1 << 24
    | 1 << 25
    | 1 << 31;

/// Emitted when the signal is sent, before it is delivered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProcessSignal {
    /// First bytes of every record.
    pub header: Header,
    /// Who it was sent to.
    pub task: Task,
    /// Number of the signal.
    pub signal: u32,
    /// How it got on: 0 delivered, 1 ignored, 2 already pending, 3 and 4 lost (`TRACE_SIGNAL_*` of the kernel).
    pub result: u32,
    /// Process id of the sender; the process itself for a fault of its own, and whoever ran when the kernel sent it.
    pub sender_pid: u32,
    /// Always 0.
    pub padding: u32,
    /// Name of the sender.
    pub sender_comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<ProcessSignal>() == 88);
