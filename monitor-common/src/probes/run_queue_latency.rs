//! How long a runnable task waited for a CPU.
//!
//! Every wait goes into a per-CPU histogram in the kernel; only waits over a threshold become events. The scheduler's own
//! stamp (`sched_info.last_queued`) is read, so that one program at `sched_switch` is enough (since 5.5, with
//! `CONFIG_SCHED_INFO` and `CONFIG_FAIR_GROUP_SCHED`).

use crate::event::{COMM_LEN, Header, Task};
use crate::offsets::{self, CGROUP, TASK};
use crate::spec::{Attach, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "run_queue_latency",
    summary: "time from runnable to running: a histogram of all, an event for each outlier",
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
    optional: &[CGROUP],
};

/// A longer wait than this (an hour) is taken for a misread clock: counted, not recorded.
pub const IMPLAUSIBLE_NS: u64 = 3_600 * 1_000_000_000;

/// Outliers that one CPU may report in a second; more are counted as suppressed.
pub const OUTLIERS_PER_SECOND: u64 = 100;

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
    /// Always 0.
    pub padding: u32,
    /// Name of the task that held the CPU last.
    pub previous_comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<RunQueueLatency>() == 88);

/// Buckets of the histogram: bucket N counts waits below 2^N microseconds that no earlier one counts; the last
/// also counts all longer ones.
pub const BUCKETS: usize = 26;

/// The bucket that a wait of this many nanoseconds falls into.
#[inline]
pub const fn bucket(wait_ns: u64) -> usize {
    let bits = (64 - (wait_ns / 1_000).leading_zeros()) as usize;
    if bits < BUCKETS { bits } else { BUCKETS - 1 }
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
}
