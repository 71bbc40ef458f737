//! Where a watched cgroup's threads spend the time in which they do not want a CPU: waiting for storage, for a lock, or asleep.
//!
//! Added up in the kernel per cgroup and kind; a wait for storage or a lock that is longer than the threshold is an event. Attached
//! only while somebody asks, since it follows every sleep of the watched threads. A lock is a futex system call, or an uninterruptible
//! wait that is not for I/O; a page fault that waits is I/O.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "off_cpu",
    summary: "where watched services wait: I/O, locks, sleep; an event for each long wait for I/O or a lock",
    mode: Mode::Demand,
    programs: &[ProgramSpec {
        name: "off_cpu",
        attach: Attach::tracepoint("sched_switch"),
    }],
    offsets: &[
        TASK,
        CGROUP,
        &[
            offsets::TASK_STATE,
            offsets::TASK_IN_IOWAIT,
            offsets::TASK_VOLUNTARY_SWITCHES,
            offsets::TASK_INVOLUNTARY_SWITCHES,
        ],
    ],
    optional: &[&[offsets::REGISTERS_SYSCALL]],
};

/// Threads whose wait is followed at a time.
pub const WAITING: u32 = 8_192;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[repr(u32)]
pub enum Wait {
    /// Storage: the kernel counts it as waiting for I/O, or a page fault waits.
    Io = 0,
    /// A lock: a futex, or a lock inside the kernel.
    Lock = 1,
    /// Anything else that ends by itself or by somebody's doing: a timer, a socket, a pipe, a child.
    Sleep = 2,
    /// Stopped by a signal or a debugger.
    Stopped = 3,
}

impl Wait {
    /// All of them, in the order of their numbers.
    pub const ALL: [Wait; 4] = [Self::Io, Self::Lock, Self::Sleep, Self::Stopped];

    /// The kind with this number.
    pub const fn from_number(number: u32) -> Option<Wait> {
        match number {
            0 => Some(Self::Io),
            1 => Some(Self::Lock),
            2 => Some(Self::Sleep),
            3 => Some(Self::Stopped),
            _ => None,
        }
    }

    /// Its name, a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Lock => "lock",
            Self::Sleep => "sleep",
            Self::Stopped => "stopped",
        }
    }
}

/// `TASK_UNINTERRUPTIBLE`
const UNINTERRUPTIBLE: u32 = 2;
/// `__TASK_STOPPED | __TASK_TRACED`
const STOPPED: u32 = 4 | 8;

/// What a thread that leaves the CPU in this state waits for. `syscall` is the number of the system call it is in, negative in a
/// page fault; `futexes` are the numbers of `futex` and of `futex_waitv` here.
#[inline]
pub const fn classify(state: u32, in_iowait: bool, syscall: i64, futexes: [i64; 2]) -> Wait {
    if state & STOPPED != 0 {
        Wait::Stopped
    } else if in_iowait {
        Wait::Io
    } else if syscall == futexes[0] || syscall == futexes[1] {
        Wait::Lock
    } else if state & UNINTERRUPTIBLE != 0 {
        if syscall < 0 { Wait::Io } else { Wait::Lock }
    } else {
        Wait::Sleep
    }
}

/// Emitted when the thread has the CPU again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OffCpu {
    /// First bytes of every record.
    pub header: Header,
    /// The thread.
    pub task: Task,
    /// Nanoseconds from leaving the CPU to having it again, so with its wait in the run queue.
    pub wait_ns: u64,
    /// Number of the system call it was in; -1 outside of one, or when unknown.
    pub syscall: i64,
    /// [`Wait`] as a number.
    pub wait: u32,
    /// Always 0.
    pub padding: u32,
}

/// What one cgroup's threads waited, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitTotals {
    /// Waits that ended, by kind.
    pub waits: [u64; 4],
    /// Nanoseconds in them.
    pub wait_ns: [u64; 4],
}

const _: () = assert!(size_of::<OffCpu>() == 80);
const _: () = assert!(size_of::<WaitTotals>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_what_its_state_and_system_call_say() {
        let futex = [202, 449];
        assert_eq!(classify(2, true, 0, futex), Wait::Io);
        assert_eq!(classify(2, false, 202, futex), Wait::Lock);
        assert_eq!(classify(1, false, 202, futex), Wait::Lock);
        assert_eq!(classify(1, false, 449, futex), Wait::Lock);
        assert_eq!(
            classify(2, false, 83, futex),
            Wait::Lock,
            "mkdir on a locked folder"
        );
        assert_eq!(classify(2, false, -1, futex), Wait::Io, "a page fault");
        assert_eq!(classify(1, false, 232, futex), Wait::Sleep, "epoll_wait");
        assert_eq!(classify(4, false, -1, futex), Wait::Stopped);
        assert_eq!(classify(8, false, 35, futex), Wait::Stopped);
    }

    #[test]
    fn every_wait_has_its_number() {
        for wait in Wait::ALL {
            assert_eq!(Wait::from_number(wait as u32), Some(wait));
        }
        assert_eq!(Wait::from_number(4), None);
    }
}
