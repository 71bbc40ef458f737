//! From a filled-in record to its ring, with everything that did not get there counted.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use monitor_common::counters::ProbeCounters;
use monitor_common::probes::Record;
use monitor_common::{Header, Kind};

use crate::maps::{BULK, BULK_BYTES, COUNTERS, LIMITS, LOST_TOTAL, URGENT};

/// Which ring a record takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Wakes the reader at once.
    Urgent,
    /// Waits for the reader to come by, or for the ring to be half full.
    Bulk,
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_ktime_get_ns() }
}

/// Fills in a record in place and submits it.
#[inline(always)]
pub(crate) fn emit<T: Record>(lane: Lane, now_ns: u64, fill: impl FnOnce(Header) -> T) {
    let entry = match lane {
        Lane::Urgent => URGENT.reserve::<T>(0),
        Lane::Bulk => BULK.reserve::<T>(0),
    };
    let Some(mut entry) = entry else {
        count(T::KIND, |counters| counters.lost += 1);
        if let Some(total) = LOST_TOTAL.get_ptr_mut(0) {
            // SAFETY: a slot of this CPU, valid while the program runs.
            unsafe { *total += 1 };
        }
        return;
    };
    // SAFETY: the helper takes nothing and returns a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    entry.write(fill(Header::of::<T>(cpu as u16, now_ns)));
    let wake = match lane {
        Lane::Urgent => BPF_RB_FORCE_WAKEUP,
        Lane::Bulk if BULK.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(BULK_BYTES / 2) => {
            BPF_RB_FORCE_WAKEUP
        }
        Lane::Bulk => BPF_RB_NO_WAKEUP,
    };
    entry.submit(u64::from(wake));
    count(T::KIND, |counters| counters.emitted += 1);
}

/// True when this probe may do one more of what is limited to so many a second on this CPU.
#[inline(always)]
pub(crate) fn admitted(kind: Kind, now_ns: u64, per_second: u64) -> bool {
    LIMITS
        .get_ptr_mut(u32::from(kind.number()))
        // SAFETY: a slot of this CPU, valid while the program runs.
        .is_some_and(|limit| unsafe { (*limit).admit(now_ns, per_second) })
}

/// Counts something of this probe on this CPU.
#[inline(always)]
pub(crate) fn count(kind: Kind, add: impl FnOnce(&mut ProbeCounters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(u32::from(kind.number())) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        add(unsafe { &mut *counters });
    }
}
