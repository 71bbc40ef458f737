//! A cgroup makes processes and threads faster than it should.
//!
//! Counted in the kernel, per cgroup and second. Where a guard is armed for the cgroup, whoever forks beyond the limit is killed as it
//! does, so that the storm stops growing in that microsecond. The children are there by then, and the daemon, woken by the event, ends
//! all of the cgroup at once.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "fork_storm",
    summary: "a cgroup forks faster than its limit; with a guard armed, its forking processes are killed in the kernel",
    mode: Mode::Essential,
    programs: &[ProgramSpec {
        name: "fork_storm",
        attach: Attach::tracepoint("sched_process_fork"),
    }],
    offsets: &[TASK, CGROUP, offsets::CURRENT],
    optional: &[],
};

/// Cgroups whose forks are counted at a time; beyond it the one least recently seen is forgotten, and counts from 0 again.
pub const CGROUPS: u32 = 4_096;

/// Emitted once a second and cgroup while the rate is over the limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForkStorm {
    /// First bytes of every record.
    pub header: Header,
    /// The process that forked when the limit was crossed; its cgroup is the one that is counted.
    pub task: Task,
    /// Processes and threads made in the second that began at `window_ns`.
    pub forks: u32,
    /// The limit they crossed.
    pub limit: u32,
    /// When that second began: `CLOCK_MONOTONIC`, nanoseconds.
    pub window_ns: u64,
    /// Processes that the guard has killed in this cgroup, in all.
    pub killed: u32,
    /// 1 when a guard is armed, 2 when it also kills.
    pub guard: u32,
}

/// [`ForkStorm::guard`]: a guard is armed, and kills.
pub const ENFORCED: u32 = 2;

/// A guard on a cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkLimit {
    /// Processes and threads it may make in a second.
    pub per_second: u32,
    /// 1 when whoever goes beyond it is killed.
    pub enforce: u32,
}

/// Forks of a cgroup in the current second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkWindow {
    /// When the second began.
    pub began_ns: u64,
    /// Forks since then.
    pub forks: u32,
    /// Processes killed, in all.
    pub killed: u32,
}

impl ForkWindow {
    /// Counts a fork; how many there were in this second, this one included.
    #[inline]
    pub const fn count(&mut self, now_ns: u64) -> u32 {
        // Another CPU may have begun the second after this one read its clock.
        if now_ns.wrapping_sub(self.began_ns).cast_signed() >= 1_000_000_000 || self.began_ns == 0 {
            self.began_ns = now_ns;
            self.forks = 0;
        }
        self.forks = self.forks.saturating_add(1);
        self.forks
    }
}

const _: () = assert!(size_of::<ForkStorm>() == 80);
const _: () = assert!(size_of::<ForkLimit>() == 8);
const _: () = assert!(size_of::<ForkWindow>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_count_from_one_again_after_a_second() {
        let mut window = ForkWindow::default();
        let start = 7_000_000_000;
        assert_eq!(window.count(start), 1);
        assert_eq!(window.count(start + 999_999_999), 2);
        assert_eq!(
            window.count(start - 5),
            3,
            "a CPU whose clock was read a little earlier"
        );
        assert_eq!(window.count(start + 1_000_000_000), 1);
    }
}
