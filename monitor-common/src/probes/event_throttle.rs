//! A cgroup's events of one probe are held back on one CPU, or no longer.
//!
//! Emitted by what hands records to the rings: a cgroup that makes more than its share of them is cut off before it takes room in the
//! ring, so that its noise costs the others nothing. What is held back is counted (`suppressed`).

use crate::event::{Header, Task};
use crate::spec::{Mode, ProbeSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "event_throttle",
    summary: "a cgroup's events of one probe are held back, or no longer: it made more than its share",
    mode: Mode::Essential,
    programs: &[],
    offsets: &[],
    optional: &[],
};

/// Emitted when holding back begins and ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventThrottle {
    /// First bytes of every record.
    pub header: Header,
    /// The process whose event crossed the limit, or was the first to pass again.
    pub task: Task,
    /// Number of the probe whose events are held back.
    pub probe: u16,
    /// 1 when holding back begins, 0 when it has ended.
    pub began: u16,
    /// The limit, events a second, cgroup and CPU.
    pub per_second: u32,
    /// Events held back since it began.
    pub suppressed: u64,
}

const _: () = assert!(size_of::<EventThrottle>() == 72);
