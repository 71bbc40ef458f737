//! How long a watched service takes to answer: from request data arriving at a connection that it accepted, to response data leaving.
//!
//! An exchange begins with the first data to arrive after the last response began, and ends with the first data to leave after that, so
//! that it is the time to the first byte, without the network's. Counted in the kernel per watched cgroup; only what is slower than the
//! threshold is an event. TCP only. More data that arrives meanwhile belongs to the same exchange; a millisecond or more after the first, it
//! makes it an overlapping one: pipelining, multiplexing, or a request in several parts. What leaves without a request is passed over, and
//! so are connections of a listener whose backlog is 0, which look like outgoing ones. Needs 4.16 for `tcp_probe`; since 6.3, `sk_data_ready` takes its place,
//! which also sees a request that came with the end of the handshake (`TCP_DEFER_ACCEPT`), and no bare acknowledgements.

use crate::Flow;
use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP_NODE, FLOW, FLOW_V6, NODE_ID};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "service_latency",
    summary: "how long watched services take to answer: a histogram each, an event for each slow answer",
    mode: Mode::Watched,
    programs: &[
        ProgramSpec {
            name: "service_request",
            attach: Attach::tracepoint(ARRIVAL),
        },
        ProgramSpec {
            name: "service_connection",
            attach: Attach::tracepoint("inet_sock_set_state"),
        },
        ProgramSpec {
            name: "service_response",
            attach: Attach::tracepoint("net_dev_queue"),
        },
    ],
    offsets: &[
        FLOW,
        &[
            offsets::SOCK_STATE,
            offsets::SOCK_ACCEPT_LIMIT,
            offsets::SOCK_HASH,
            offsets::SOCK_PORTS,
            offsets::SKB_SOCKET,
            offsets::SKB_LENGTH,
            offsets::SKB_HEAD,
            offsets::SKB_DATA,
            offsets::SKB_TRANSPORT,
            offsets::TCP_CB_SEQUENCE,
            offsets::TCP_CB_END,
            offsets::TCP_CB_FLAGS,
            offsets::SKB_CB,
        ],
        &[CGROUP_NODE, NODE_ID],
    ],
    optional: &[FLOW_V6],
};

/// Where data arrives: the first of them that the kernel has.
pub const ARRIVAL: &str = "sk_data_ready|tcp_probe";

/// Most services with a histogram of their own, some 1.7 KiB each and CPU: those in the first so many of the watch list's slots.
pub const SERVICES: u32 = 64;

/// Requests that can wait for their response at a time, of all services together; more of one set displace the oldest.
pub const PENDING: usize = SETS as usize * WAYS;
/// Sets of places; a connection has places in one of them. 512 KiB in all.
pub const SETS: u32 = 1 << 13;
/// Places in a set: one line of the cache.
pub const WAYS: usize = 4;

/// Requests that wait for their response, in one set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingSet {
    /// Whose: [`key`] of the connection; 0 where the place is free.
    pub keys: [u64; WAYS],
    /// Since when, and more: see [`Stamp`].
    pub stamps: [u64; WAYS],
}

/// What a connection is known by: the kernel's hash of its addresses and ports, and the ports. Never 0. Not its socket's address, which
/// the verifier does not let a program calculate with.
#[inline]
pub const fn key(hash: u32, ports: u32) -> u64 {
    (hash as u64) << 32 | ports as u64
}

/// Which set its places are in.
#[inline]
pub const fn set(key: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "13 bits are left")]
    let set = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SETS.trailing_zeros())) as u32;
    set
}

/// When a request arrived, in steps of 128 ns, and in the bits below: whether another overlaps, and the service's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The bit that says that more data arrived.
    pub const OVERLAPS: u64 = 1;

    /// One request so far.
    #[inline]
    pub const fn new(now_ns: u64, slot: u32) -> Self {
        Self(now_ns & !127 | (slot as u64 & 63) << 1)
    }

    /// When its first data arrived, nanoseconds of `CLOCK_MONOTONIC`.
    #[inline]
    pub const fn since_ns(self) -> u64 {
        self.0 & !127
    }

    /// The service's slot.
    #[inline]
    pub const fn slot(self) -> u32 {
        (self.0 >> 1 & 63) as u32
    }

    /// Whether more data arrived before the response.
    #[inline]
    pub const fn overlaps(self) -> bool {
        self.0 & Self::OVERLAPS != 0
    }
}

/// More data within this time of a request's first (1 ms) is taken for the rest of it.
pub const SAME_REQUEST_NS: u64 = 1_000_000;

/// Buckets of a histogram: below 1,024 ns; eight to each power of two from there to 2^36 ns (69 s); longer.
pub const BUCKETS: usize = 2 + (LAST_POWER - FIRST_POWER) as usize * 8;
const FIRST_POWER: u32 = 10;
const LAST_POWER: u32 = 36;

/// The bucket of a latency. By comparisons, since the kernel's machine cannot count leading zeros.
#[inline]
pub const fn bucket(latency_ns: u64) -> usize {
    if latency_ns < 1 << FIRST_POWER {
        return 0;
    }
    if latency_ns >= 1 << LAST_POWER {
        return BUCKETS - 1;
    }
    let mut rest = latency_ns >> FIRST_POWER;
    let mut power = 0;
    if rest >> 16 != 0 {
        rest >>= 16;
        power += 16;
    }
    if rest >> 8 != 0 {
        rest >>= 8;
        power += 8;
    }
    if rest >> 4 != 0 {
        rest >>= 4;
        power += 4;
    }
    if rest >> 2 != 0 {
        rest >>= 2;
        power += 2;
    }
    if rest >> 1 != 0 {
        power += 1;
    }
    let eighth = latency_ns >> (power + FIRST_POWER - 3) & 7;
    1 + power as usize * 8 + eighth as usize
}

/// Where a bucket begins, nanoseconds; the one after the last begins nowhere.
pub const fn lower_bound_ns(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let power = (bucket - 1) / 8;
    let eighth = (bucket as u64 - 1) % 8;
    (8 + eighth) << power << (FIRST_POWER - 3)
}

/// What one service's exchanges took, on one CPU. Only ever grows while it is watched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyTotals {
    /// Exchanges that ended; those of all buckets.
    pub requests: u64,
    /// Of these, the ones in which more data arrived before the response.
    pub overlapping: u64,
    /// Requests that took the place of one that still waited, which is then not counted.
    pub displaced: u64,
    /// Nanoseconds of all exchanges.
    pub sum_ns: u64,
    /// By [`bucket`].
    pub buckets: [u64; BUCKETS],
}

impl LatencyTotals {
    /// Nothing yet.
    pub const NONE: Self = Self {
        requests: 0,
        overlapping: 0,
        displaced: 0,
        sum_ns: 0,
        buckets: [0; BUCKETS],
    };

    /// What was added since it was as it was `before`. A counter that has begun anew since counts as all new.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.requests < before.requests {
            return *self;
        }
        let mut added = Self {
            requests: self.requests - before.requests,
            overlapping: self.overlapping.saturating_sub(before.overlapping),
            displaced: self.displaced.saturating_sub(before.displaced),
            sum_ns: self.sum_ns.saturating_sub(before.sum_ns),
            buckets: self.buckets,
        };
        for (bucket, before) in added.buckets.iter_mut().zip(before.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        added
    }

    /// The latency that this share of the exchanges did not exceed, nanoseconds; those of a bucket are taken to be spread evenly over it.
    /// None where there were no exchanges.
    pub fn quantile_ns(&self, share: f64) -> Option<f64> {
        let all: u64 = self.buckets.iter().sum();
        if all == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
        let number = |count: u64| count as f64;
        let rank = share * number(all);
        let mut below = 0.0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            let count = number(*count);
            if count > 0.0 && below + count >= rank {
                let low = number(lower_bound_ns(bucket));
                if bucket + 1 == BUCKETS {
                    return Some(low);
                }
                let width = number(lower_bound_ns(bucket + 1)) - low;
                return Some(low + width * ((rank - below) / count).max(0.0));
            }
            below += count;
        }
        None
    }
}

/// Words of [`LatencyTotals`].
pub const TOTALS_WORDS: usize = 4 + BUCKETS;

/// An exchange took longer than the threshold.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceLatency {
    /// First bytes of every record.
    pub header: Header,
    /// The service's cgroup; no process (0), since a response leaves in the context of anyone.
    pub task: Task,
    /// The connection.
    pub flow: Flow,
    /// Nanoseconds from the first data of the request to the first of the response.
    pub latency_ns: u64,
    /// 1 when more data arrived before the response.
    pub overlapping: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<PendingSet>() == 64);
const _: () = assert!(size_of::<LatencyTotals>() == TOTALS_WORDS * 8);
const _: () = assert!(size_of::<ServiceLatency>() == 112);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_within_the_bounds_of_its_bucket_which_are_an_eighth_apart() {
        let mut ns = 1;
        while ns < 1 << 37 {
            for ns in [ns - 1, ns, ns + ns / 3] {
                let bucket = bucket(ns);
                assert!(lower_bound_ns(bucket) <= ns, "{ns} in {bucket}");
                if bucket + 1 < BUCKETS {
                    assert!(ns < lower_bound_ns(bucket + 1), "{ns} in {bucket}");
                }
            }
            ns += ns / 17 + 1;
        }
        assert_eq!(lower_bound_ns(BUCKETS - 1), 1 << LAST_POWER);
        for bucket in 1..BUCKETS - 1 {
            let (low, high) = (lower_bound_ns(bucket), lower_bound_ns(bucket + 1));
            assert!((high - low) * 8 <= low, "{bucket}");
            assert_eq!(super::bucket(low), bucket);
            assert_eq!(super::bucket(high - 1), bucket);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_stamp_keeps_its_parts_apart() {
        let stamp = Stamp::new(123_456_789_012_345, 63);
        assert!(123_456_789_012_345 - stamp.since_ns() < 128);
        assert_eq!((stamp.slot(), stamp.overlaps()), (63, false));
        let stamp = Stamp(stamp.0 | Stamp::OVERLAPS);
        assert_eq!((stamp.slot(), stamp.overlaps()), (63, true));
        assert_eq!(Stamp::new(u64::MAX, 0).slot(), 0);
    }

    #[test]
    fn connections_are_told_apart_and_spread_over_the_sets() {
        assert_ne!(key(1, 80), key(1, 81));
        assert_ne!(key(1, 80), key(2, 80));
        // Even where the kernel's hash were a bad one.
        let mut used = [0_u8; SETS as usize];
        for number in 0..512 {
            let set = set(key(7 * number, 0x50 | (40_000 + number) << 16));
            used[set as usize] += 1;
        }
        assert!(used.iter().all(|places| usize::from(*places) <= WAYS));
    }
}
