//! How long a runnable task waited for a CPU.
//!
//! Every wait goes into a per-CPU histogram in the kernel; only waits over a threshold become events. The scheduler's own
//! stamp (`sched_info.last_queued`) is read, so that one program at `sched_switch` is enough (since 5.5, with
//! `CONFIG_SCHED_INFO` and `CONFIG_FAIR_GROUP_SCHED`). Who held the CPU is kept in a ring of slices per CPU, which is read only
//! for an outlier: back to when the task was queued.

use crate::event::{COMM_LEN, Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "run_queue_latency",
    summary: "time from runnable to running: a histogram of all, an event for each outlier",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "run_queue_latency",
        attach: Attach::tracepoint("sched_switch"),
    }],
    offsets: &[
        TASK,
        &[
            offsets::TASK_LAST_QUEUED,
            offsets::TASK_CFS_RQ,
            offsets::CFS_RQ_RQ,
            offsets::RQ_CLOCK,
        ],
    ],
    optional: &[
        CGROUP,
        &[
            offsets::CFS_RQ_GROUP,
            offsets::CFS_RQ_THROTTLED_TIME,
            offsets::GROUP_QUOTA,
        ],
    ],
};

/// A longer wait than this (an hour) is taken for a misread clock: counted, not recorded.
pub const IMPLAUSIBLE_NS: u64 = 3_600 * 1_000_000_000;

/// Outliers that one CPU may report in a second; more are counted as suppressed.
pub const OUTLIERS_PER_SECOND: u64 = 50;

/// Slices that each CPU remembers.
pub const SLICES: usize = 64;
/// How many of the latest slices a turn on the CPU may be added to: tasks that take turns faster than this fill one slice each.
pub const MERGE_BACK: usize = 4;
/// A slice spans at most this long (16 ms), so that the oldest one of a wait is cut precisely enough.
pub const SLICE_SPAN_NS: u64 = 16_000_000;
/// Processes that an event can name; what more there were is `others_ns`.
pub const CULPRITS: usize = 8;

/// A turn, or several close together, of one process on one CPU. Times are of that CPU's run-queue clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// When the first turn began.
    pub first_ns: u64,
    /// When the last one ended.
    pub last_ns: u64,
    /// Nanoseconds it had the CPU in between.
    pub held_ns: u64,
    /// Id of its cgroup.
    pub cgroup_id: u64,
    /// Process id (the kernel's `tgid`); 0 is the idle task.
    pub pid: u32,
    /// 1 for a kernel thread.
    pub kernel_thread: u32,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

impl Slice {
    /// How much of it lies after an instant; what it held is taken to be spread evenly.
    #[inline]
    pub const fn held_since(&self, since_ns: u64) -> u64 {
        if self.first_ns >= since_ns {
            return self.held_ns;
        }
        let span = self.last_ns.wrapping_sub(self.first_ns);
        let inside = self.last_ns.saturating_sub(since_ns);
        if self.held_ns >= span || span == 0 {
            // One turn without a gap: exact.
            return if inside < self.held_ns {
                inside
            } else {
                self.held_ns
            };
        }
        // A span is at most some 2^24 ns longer than its last turn: this cannot overflow within hours.
        (self.held_ns / 1024) * inside / (span / 1024 + 1)
    }
}

/// A process that held the CPU while another waited.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Culprit {
    /// Nanoseconds of the wait in which it had the CPU.
    pub held_ns: u64,
    /// Id of its cgroup.
    pub cgroup_id: u64,
    /// Process id (the kernel's `tgid`).
    pub pid: u32,
    /// 1 for a kernel thread.
    pub kernel_thread: u32,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

/// A task waited longer than the threshold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RunQueueLatency {
    /// First bytes of every record.
    pub header: Header,
    /// The task that waited, as it is given the CPU.
    pub task: Task,
    /// Nanoseconds it waited.
    pub wait_ns: u64,
    /// Process id of the task that held the CPU last.
    pub previous_pid: u32,
    /// 1 when its cgroup, or one above, has a CPU quota.
    #[cfg_attr(feature = "serde", serde(default))]
    pub quota: u32,
    /// Name of the task that held the CPU last.
    pub previous_comm: [u8; COMM_LEN],
    /// Nanoseconds of the wait for which its cgroup's quota, or one above, was used up.
    #[cfg_attr(feature = "serde", serde(default))]
    pub throttled_ns: u64,
    /// Nanoseconds of the wait in which the CPU was idle.
    #[cfg_attr(feature = "serde", serde(default))]
    pub idle_ns: u64,
    /// Nanoseconds in which processes had the CPU that found no room in `culprits`.
    #[cfg_attr(feature = "serde", serde(default))]
    pub others_ns: u64,
    /// Nanoseconds at the beginning of the wait that the CPU no longer remembers.
    #[cfg_attr(feature = "serde", serde(default))]
    pub forgotten_ns: u64,
    /// Who had the CPU during the wait, latest first; unused ones are zeros.
    #[cfg_attr(feature = "serde", serde(default))]
    pub culprits: [Culprit; CULPRITS],
}

// Names are copied by words.
const _: () = assert!(core::mem::offset_of!(Slice, comm) % 8 == 0);
const _: () = assert!(core::mem::offset_of!(Culprit, comm) % 8 == 0);
const _: () = assert!(size_of::<Slice>() == 56);
const _: () = assert!(size_of::<Culprit>() == 40);
const _: () = assert!(size_of::<RunQueueLatency>() == 440);

/// Why a task waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Cause {
    /// The CPU quota of its cgroup, or of one above, was used up.
    Quota,
    /// Other threads of its own process had the CPU.
    OwnThreads,
    /// Other processes of its own cgroup had it.
    OwnCgroup,
    /// Processes of other cgroups had it.
    Neighbour,
    /// Kernel threads had it.
    System,
    /// Nobody had it, or nothing is remembered.
    Unknown,
}

impl Cause {
    /// Its name, a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::OwnThreads => "own_threads",
            Self::OwnCgroup => "own_cgroup",
            Self::Neighbour => "neighbour",
            Self::System => "system",
            Self::Unknown => "unknown",
        }
    }
}

impl RunQueueLatency {
    /// Who held the CPU, most of it first.
    pub fn ranked(&self) -> [Culprit; CULPRITS] {
        let mut ranked = self.culprits;
        ranked.sort_unstable_by_key(|culprit| core::cmp::Reverse(culprit.held_ns));
        ranked
    }

    /// What this culprit is to the task that waited.
    pub const fn relation(&self, culprit: &Culprit) -> Cause {
        if culprit.kernel_thread != 0 {
            Cause::System
        } else if culprit.pid == self.task.pid {
            Cause::OwnThreads
        } else if culprit.cgroup_id == self.task.cgroup_id {
            Cause::OwnCgroup
        } else {
            Cause::Neighbour
        }
    }

    /// The main reason of the wait: the largest share; a quota that was used up for half of it outweighs who ran meanwhile.
    pub fn cause(&self) -> Cause {
        if self.throttled_ns > self.wait_ns / 2
            || (self.quota != 0 && self.idle_ns > self.wait_ns / 2)
        {
            return Cause::Quota;
        }
        // Of what the CPU remembers: a very long wait is judged by its end.
        let mut most = (Cause::Unknown, self.idle_ns);
        for cause in [
            Cause::OwnThreads,
            Cause::OwnCgroup,
            Cause::Neighbour,
            Cause::System,
        ] {
            let held = self
                .culprits
                .iter()
                .filter(|culprit| culprit.held_ns > 0 && self.relation(culprit) == cause)
                .fold(0_u64, |sum, culprit| sum.saturating_add(culprit.held_ns));
            if held > most.1 {
                most = (cause, held);
            }
        }
        most.0
    }
}

/// A cgroup's quota, as seen when one of its tasks last had a CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Address of the run queue of that cgroup on that CPU.
    pub queue: u64,
    /// Nanoseconds for which it had been throttled by then.
    pub throttled_ns: u64,
}

/// Run queues of cgroups with a quota that each CPU remembers, by their address.
pub const THROTTLES: usize = 64;

/// Words of a CPU's histogram, of which [`BUCKETS`] are used: a power of two, so that a mask keeps an index in bounds.
pub const HISTOGRAM: usize = 32;

/// Words of 8 bytes in what each CPU remembers, its histogram first.
pub const TURNS_WORDS: usize =
    HISTOGRAM + 5 + (SLICES * size_of::<Slice>() + THROTTLES * size_of::<Throttle>()) / 8;

/// Most cgroups with a histogram of their own.
pub const WATCHED_CGROUPS: u32 = 256;

/// Which cgroups have a histogram of their own: a filter that lets nearly all others pass by without a look-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupFilter {
    /// How many there are.
    pub watched: u64,
    /// A bit for each, by its id modulo the number of bits.
    pub bits: [u64; 16],
}

impl CgroupFilter {
    /// Where the bit of this cgroup is: word and mask.
    #[inline]
    pub const fn place(cgroup_id: u64) -> (usize, u64) {
        ((cgroup_id >> 6) as usize & 15, 1 << (cgroup_id & 63))
    }
}

const _: () = assert!(size_of::<CgroupFilter>() == 136);

/// Buckets of the histogram: bucket N counts waits below 2^N microseconds that no earlier one counts; the last
/// also counts all longer ones.
pub const BUCKETS: usize = 26;

/// The bucket that a wait of this many nanoseconds falls into. By comparisons: a division and a count of leading zeros would cost a
/// switch 10 ns.
#[inline]
pub const fn bucket(wait_ns: u64) -> usize {
    let mut rest = wait_ns;
    let mut bucket = 0;
    if rest >= 1_000 << 15 {
        rest >>= 16;
        bucket += 16;
    }
    if rest >= 1_000 << 7 {
        rest >>= 8;
        bucket += 8;
    }
    if rest >= 1_000 << 3 {
        rest >>= 4;
        bucket += 4;
    }
    if rest >= 1_000 << 1 {
        rest >>= 2;
        bucket += 2;
    }
    if rest >= 1_000 {
        bucket += 1;
    }
    if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    }
}

/// Upper bound of a bucket, exclusive, in nanoseconds; none for the last.
pub const fn upper_bound_ns(bucket: usize) -> Option<u64> {
    if bucket + 1 < BUCKETS {
        Some((1 << bucket) * 1_000)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_falls_below_its_bound_and_not_below_the_one_before() {
        for wait in [
            0,
            1,
            999,
            1_000,
            1_001,
            1_999,
            2_000,
            63_999,
            64_000,
            1 << 33,
            u64::MAX,
        ] {
            let at = bucket(wait);
            assert!(
                upper_bound_ns(at).is_none_or(|bound| wait < bound),
                "{wait} is over bucket {at}"
            );
            let before = at.checked_sub(1).and_then(upper_bound_ns);
            assert!(
                before.is_none_or(|bound| wait >= bound),
                "{wait} belongs below bucket {at}"
            );
        }
    }

    fn culprit(pid: u32, cgroup_id: u64, held_ns: u64) -> Culprit {
        Culprit {
            held_ns,
            cgroup_id,
            pid,
            ..Culprit::default()
        }
    }

    fn outlier(culprits: &[Culprit]) -> RunQueueLatency {
        let mut all = [Culprit::default(); CULPRITS];
        for (slot, culprit) in all.iter_mut().zip(culprits) {
            *slot = *culprit;
        }
        RunQueueLatency {
            header: Header::of::<RunQueueLatency>(0, 0),
            task: Task {
                pid: 10,
                tid: 11,
                start_time_ns: 0,
                cgroup_id: 5,
                comm: [0; COMM_LEN],
            },
            wait_ns: 1_000,
            previous_pid: 0,
            quota: 0,
            previous_comm: [0; COMM_LEN],
            throttled_ns: 0,
            idle_ns: 0,
            others_ns: 0,
            forgotten_ns: 0,
            culprits: all,
        }
    }

    #[test]
    fn the_largest_share_is_the_cause() {
        let own = culprit(10, 5, 300);
        let sibling = culprit(12, 5, 300);
        let neighbour = culprit(13, 6, 350);
        let thread = Culprit {
            kernel_thread: 1,
            ..culprit(14, 1, 500)
        };
        assert_eq!(outlier(&[own, neighbour]).cause(), Cause::Neighbour);
        assert_eq!(
            outlier(&[own, sibling, culprit(15, 5, 200)]).cause(),
            Cause::OwnCgroup
        );
        assert_eq!(outlier(&[own]).cause(), Cause::OwnThreads);
        assert_eq!(outlier(&[own, neighbour, thread]).cause(), Cause::System);
        assert_eq!(outlier(&[]).cause(), Cause::Unknown);
        let mut throttled = outlier(&[neighbour]);
        throttled.throttled_ns = 600;
        assert_eq!(throttled.cause(), Cause::Quota);
        let mut idle = outlier(&[]);
        idle.idle_ns = 900;
        assert_eq!(idle.cause(), Cause::Unknown);
        idle.quota = 1;
        assert_eq!(idle.cause(), Cause::Quota);
        assert_eq!(outlier(&[own, neighbour, thread]).ranked()[0].pid, 14);
    }

    #[test]
    fn a_slice_is_cut_where_the_wait_began() {
        let turn = Slice {
            first_ns: 1_000,
            last_ns: 3_000,
            held_ns: 2_000,
            ..Slice::default()
        };
        assert_eq!(turn.held_since(0), 2_000);
        assert_eq!(turn.held_since(1_000), 2_000);
        assert_eq!(turn.held_since(2_500), 500);
        assert_eq!(turn.held_since(3_000), 0);
        assert_eq!(turn.held_since(9_000), 0);
        let turns = Slice {
            first_ns: 0,
            last_ns: 16_000_000,
            held_ns: 8_000_000,
            ..Slice::default()
        };
        let half = turns.held_since(8_000_000);
        assert!((3_900_000..=4_000_000).contains(&half), "{half}");
        let long = Slice {
            first_ns: 1,
            last_ns: u64::MAX,
            held_ns: u64::MAX - 1,
            ..Slice::default()
        };
        assert_eq!(long.held_since(u64::MAX - 7), 7);
    }
}
