//! What the programs count, per probe and per CPU, and the settings they are given.

use crate::probes::run_queue_latency::HISTOGRAM;

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

/// What TCP did on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTotals {
    /// Outgoing connections that were made, by the time it took; see [`crate::probes::run_queue_latency::bucket`].
    pub made: [u64; HISTOGRAM],
    /// Outgoing connections that were not made.
    pub failed: u64,
    /// Resets that came.
    pub resets_received: u64,
    /// Resets that were sent in answer to a packet.
    pub resets_sent: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Answers to first packets that were sent again.
    pub answers_retransmitted: u64,
}

/// Words of a [`TcpTotals`].
pub const TCP_TOTALS_WORDS: usize = HISTOGRAM + 5;

/// Names of the globals, beside the offsets, that userspace sets before loading. Shared so that a misspelt one is a
/// compile error on one side or a failed load on the other.
pub mod settings {
    /// u32: process id of the daemon; its children's events are urgent.
    pub const DAEMON_PID: &str = "DAEMON_PID";
    /// u64: a longer wait for a CPU is an event, nanoseconds.
    pub const RUN_QUEUE_THRESHOLD_NS: &str = "RUN_QUEUE_THRESHOLD_NS";
    /// u64: a stall in direct reclaim at least this long is an event, nanoseconds.
    pub const RECLAIM_THRESHOLD_NS: &str = "RECLAIM_THRESHOLD_NS";
    /// u64: a disk's request that takes or waits at least this long is an event, nanoseconds.
    pub const BLOCK_THRESHOLD_NS: &str = "BLOCK_THRESHOLD_NS";
    /// u32: 1 when the tracepoints of requests hand over their queue before the request (until 5.10).
    pub const REQUEST_AFTER_QUEUE: &str = "REQUEST_AFTER_QUEUE";
    /// u64: an answer of a watched service that takes longer is an event, nanoseconds.
    pub const SLOW_REQUEST_NS: &str = "SLOW_REQUEST_NS";
    /// u32: 1 when requests are seen as segments (`tcp_probe`), bare acknowledgements among them, for want of `sk_data_ready`.
    pub const ARRIVALS_ARE_SEGMENTS: &str = "ARRIVALS_ARE_SEGMENTS";
    /// u32: events of one probe, cgroup and CPU in a second; more are held back.
    pub const CGROUP_EVENTS_PER_SECOND: &str = "CGROUP_EVENTS_PER_SECOND";
    /// u32: processes and threads that a cgroup makes in a second before it is reported.
    pub const FORKS_PER_SECOND: &str = "FORKS_PER_SECOND";
    /// u32: number of the system call `futex`.
    pub const FUTEX: &str = "FUTEX";
    /// u32: number of the system call `futex_waitv`.
    pub const FUTEX_WAITV: &str = "FUTEX_WAITV";
    /// u32s: numbers of [`super::SENDING_CALLS`].
    pub const SENDING_CALLS: &str = "SENDING_CALLS";
    /// u32: index of the memory controller among the cgroup subsystems; [`crate::offsets::ABSENT`] without one.
    pub const MEMORY_SUBSYSTEM: &str = "MEMORY_SUBSYSTEM";
    /// u32: 1 when `sched_process_exit` says itself whether the process is dead (since 6.16).
    pub const EXIT_TELLS_GROUP: &str = "EXIT_TELLS_GROUP";
    /// u32: 1 when a helper gives a typed pointer to the current task (since 5.11).
    pub const CURRENT_TASK_TYPED: &str = "CURRENT_TASK_TYPED";
    /// u32: how many arguments `kfree_skb` has: 2, with the reason 3 (since 5.17), with the receiving socket 4 (since 6.11).
    pub const DROP_ARGUMENTS: &str = "DROP_ARGUMENTS";
    /// u8 for each of `probes::packet_drop::REASONS`: the [`crate::DropClass`] of the kernel's reason with this number.
    pub const DROP_CLASSES: &str = "DROP_CLASSES";
    /// u32: number of the daemon's network namespace, as `/proc/self/ns/net` has it; 0 when unknown.
    pub const DAEMON_NETWORK: &str = "DAEMON_NETWORK";
    /// u32: bit N makes the programs of probe number N ones that the verifier refuses. For tests.
    pub const REFUSED: &str = "REFUSED";
}

/// How many system calls there are in which a route is looked up for the caller; the first of them is `connect`.
pub const SENDING_CALLS: usize = 7;

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

/// A cgroup's share of one probe's events on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimit {
    /// When the current second began.
    pub began_ns: u64,
    /// Held back since holding back began.
    pub suppressed: u64,
    /// Let through in this second.
    pub passed: u32,
    /// 1 while events are held back.
    pub held: u32,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// It passes.
    Pass,
    /// It is held back, as the first one.
    Begins,
    /// It is held back.
    Held,
    /// It passes as the first one after so many that were held back.
    Ends(u64),
}

impl CgroupLimit {
    /// Decides about one more event at this instant.
    #[inline]
    pub const fn admit(&mut self, now_ns: u64, per_second: u32) -> Share {
        if now_ns.wrapping_sub(self.began_ns) >= 1_000_000_000 {
            // Held back until a second ends in which they would all have passed.
            let calm =
                self.passed < per_second || now_ns.wrapping_sub(self.began_ns) >= 2_000_000_000;
            self.began_ns = now_ns;
            self.passed = 0;
            if self.held != 0 && calm {
                self.held = 0;
                let suppressed = self.suppressed;
                self.suppressed = 0;
                self.passed = 1;
                return Share::Ends(suppressed);
            }
        }
        if self.passed < per_second {
            self.passed += 1;
            return Share::Pass;
        }
        self.suppressed += 1;
        if self.held == 0 {
            self.held = 1;
            Share::Begins
        } else {
            Share::Held
        }
    }
}

/// The place of a [`CgroupLimit`] in a table without chains: found by computing, which costs a tenth of a look-up in a hash map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSlot {
    /// Id of the cgroup whose limit it is.
    pub cgroup_id: u64,
    /// Number of the probe.
    pub probe: u64,
    /// The limit.
    pub limit: CgroupLimit,
}

/// Places on each CPU.
pub const LIMIT_SLOTS: u32 = 1_024;

impl LimitSlot {
    /// Where the limit of this probe for this cgroup is.
    #[inline]
    pub const fn place(cgroup_id: u64, probe: u16) -> u32 {
        let mixed = (cgroup_id ^ (probe as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 54) as u32 & (LIMIT_SLOTS - 1)
    }

    /// The limit, after whoever had the place before has made room. One who needs it just now does not: both share its limit then.
    #[inline]
    pub const fn claim(&mut self, cgroup_id: u64, probe: u16, now_ns: u64) -> &mut CgroupLimit {
        let own = self.cgroup_id == cgroup_id && self.probe == probe as u64;
        let busy = self.limit.held != 0 && now_ns.wrapping_sub(self.limit.began_ns) < 2_000_000_000;
        if !own && !busy {
            self.cgroup_id = cgroup_id;
            self.probe = probe as u64;
            self.limit.began_ns = now_ns;
            self.limit.suppressed = 0;
            self.limit.passed = 0;
            self.limit.held = 0;
        }
        &mut self.limit
    }
}

const _: () = assert!(size_of::<TcpTotals>() == TCP_TOTALS_WORDS * 8);
const _: () = assert!(size_of::<CgroupLimit>() == 24);
const _: () = assert!(size_of::<LimitSlot>() == 40);
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

    #[test]
    fn a_place_goes_to_the_next_unless_it_is_needed() {
        const SECOND: u64 = 1_000_000_000;
        let mut slot = LimitSlot::default();
        assert_eq!(slot.claim(7, 1, SECOND).admit(SECOND, 1), Share::Pass);
        assert_eq!(slot.claim(8, 1, SECOND).admit(SECOND, 1), Share::Pass);
        assert_eq!(slot.claim(8, 1, SECOND).admit(SECOND, 1), Share::Begins);
        let other = slot.claim(7, 1, SECOND).admit(SECOND, 1);
        assert_eq!(other, Share::Held, "a storm keeps its place");
        assert_eq!(
            slot.claim(7, 1, 4 * SECOND).admit(4 * SECOND, 1),
            Share::Pass
        );
        assert_eq!(slot.cgroup_id, 7);
        assert!(LimitSlot::place(u64::MAX, u16::MAX) < LIMIT_SLOTS);
    }

    #[test]
    fn holding_back_is_told_when_it_begins_and_when_it_ends() {
        let mut limit = CgroupLimit::default();
        let start = 5_000_000_000;
        let at = |limit: &mut CgroupLimit, ms: u64| limit.admit(start + ms * 1_000_000, 2);
        assert_eq!(at(&mut limit, 0), Share::Pass);
        assert_eq!(at(&mut limit, 1), Share::Pass);
        assert_eq!(at(&mut limit, 2), Share::Begins);
        assert_eq!(at(&mut limit, 3), Share::Held);
        assert_eq!(
            at(&mut limit, 1_001),
            Share::Pass,
            "the next second has its share"
        );
        assert_eq!(at(&mut limit, 1_002), Share::Pass);
        assert_eq!(at(&mut limit, 1_003), Share::Held, "still the same storm");
        assert_eq!(at(&mut limit, 2_002), Share::Pass);
        assert_eq!(
            at(&mut limit, 3_003),
            Share::Ends(3),
            "a second below the limit ends it"
        );
        assert_eq!(at(&mut limit, 3_004), Share::Pass);
        assert_eq!(at(&mut limit, 3_005), Share::Begins);
        assert_eq!(
            at(&mut limit, 60_000),
            Share::Ends(1),
            "silence ends it too"
        );
    }
}
