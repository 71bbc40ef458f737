//! What the programs count, per probe and per CPU, and the settings they are given.

/// What one probe did on one CPU. Only ever grows while the programs are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProbeCounters {
    /// Records handed to userspace.
    pub emitted: u64,
    /// Records that found no room: their ring was full.
    pub lost: u64,
    /// Records held back by a rate limit.
    pub suppressed: u64,
    /// Measurements that cannot be true and were thrown away.
    pub implausible: u64,
}

/// Time spent in direct reclaim on one CPU, stalls below the threshold included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReclaimTotals {
    /// Stalls that ended.
    pub stalls: u64,
    /// Nanoseconds in them.
    pub stall_ns: u64,
}

/// Names of the globals, beside the offsets, that userspace sets before loading. Shared so that a misspelt one is a
/// compile error on one side or a failed load on the other.
pub mod settings {
    /// u32: process id of the daemon; its children's events are urgent.
    pub const DAEMON_PID: &str = "DAEMON_PID";
    /// u64: a longer wait for a CPU is an event, nanoseconds.
    pub const RUN_QUEUE_THRESHOLD_NS: &str = "RUN_QUEUE_THRESHOLD_NS";
    /// u64: a stall in direct reclaim at least this long is an event, nanoseconds.
    pub const RECLAIM_THRESHOLD_NS: &str = "RECLAIM_THRESHOLD_NS";
    /// u32: 1 when `sched_process_exit` says itself whether the process is dead (since 6.16).
    pub const EXIT_TELLS_GROUP: &str = "EXIT_TELLS_GROUP";
    /// u32: bit N makes the programs of probe number N ones that the verifier refuses. For tests.
    pub const REFUSED: &str = "REFUSED";
}

/// A limit of so many a second, kept per CPU: no lock, and no clock of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// When the current second began.
    pub began_ns: u64,
    /// How many it has let through.
    pub passed: u64,
}

impl RateLimit {
    /// True when one more may pass at this instant.
    #[inline]
    pub const fn admit(&mut self, now_ns: u64, per_second: u64) -> bool {
        if now_ns.wrapping_sub(self.began_ns) >= 1_000_000_000 {
            self.began_ns = now_ns;
            self.passed = 0;
        }
        if self.passed < per_second {
            self.passed += 1;
            true
        } else {
            false
        }
    }
}

const _: () = assert!(size_of::<ProbeCounters>() == 32);
const _: () = assert!(size_of::<ReclaimTotals>() == 16);
const _: () = assert!(size_of::<RateLimit>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_its_share_through_and_the_next_second_again() {
        let mut limit = RateLimit::default();
        let start = 5_000_000_000;
        let passed = (0..10).filter(|_| limit.admit(start, 3)).count();
        assert_eq!(passed, 3);
        assert!(!limit.admit(start + 999_999_999, 3));
        assert!(limit.admit(start + 1_000_000_000, 3));
    }
}
