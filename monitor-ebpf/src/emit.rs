//! From a filled-in record to its ring, with everything that did not get there counted.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use monitor_common::counters::{LimitSlot, ProbeCounters, Share};
use monitor_common::probes::Record;
use monitor_common::probes::event_throttle::EventThrottle;
use monitor_common::{Header, Kind, Task};

use crate::maps::{BULK, BULK_BYTES, CGROUP_LIMITS, COUNTERS, LIMITS, LOST_TOTAL, URGENT};
use crate::settings::CGROUP_EVENTS_PER_SECOND;

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

/// Fills in a record and submits it.
#[inline(always)]
pub(crate) fn emit<T: Record>(lane: Lane, now_ns: u64, fill: impl FnOnce(Header) -> T) {
    emit_in_place(lane, now_ns, |record: *mut T, header| {
        // SAFETY: room for one record, reserved for it.
        unsafe { record.write(fill(header)) };
    });
}

/// Has a record filled in where it lies, since a long one does not fit on the stack, and submits it. `fill` must write every byte.
#[inline(always)]
pub(crate) fn emit_in_place<T: Record>(lane: Lane, now_ns: u64, fill: impl FnOnce(*mut T, Header)) {
    let entry = match lane {
        Lane::Urgent => URGENT.reserve::<T>(0),
        Lane::Bulk => BULK.reserve::<T>(0),
    };
    let Some(mut entry) = entry else {
        count_lost(T::KIND);
        return;
    };
    // SAFETY: the helper takes nothing and returns a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    fill(entry.as_mut_ptr(), Header::of::<T>(cpu as u16, now_ns));
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

/// Whether this cgroup may have one more of its events in the bulk ring now. Asked before room is reserved; says so when holding back
/// begins and ends. What is urgent is never held back.
#[inline(always)]
pub(crate) fn has_share(kind: Kind, lane: Lane, who: &Task, now_ns: u64) -> bool {
    if lane == Lane::Urgent {
        return true;
    }
    let per_second = CGROUP_EVENTS_PER_SECOND.load();
    let place = LimitSlot::place(who.cgroup_id, kind.number());
    let Some(slot) = CGROUP_LIMITS.get_ptr_mut(place) else {
        return true;
    };
    // SAFETY: a slot of this CPU, valid while the program runs.
    let limit = unsafe { &mut *slot }.claim(who.cgroup_id, kind.number(), now_ns);
    let (began, suppressed) = match limit.admit(now_ns, per_second) {
        Share::Pass => return true,
        Share::Held => {
            count(kind, |counters| counters.suppressed += 1);
            return false;
        }
        Share::Begins => {
            count(kind, |counters| counters.suppressed += 1);
            (1, 1)
        }
        Share::Ends(suppressed) => (0, suppressed),
    };
    emit(Lane::Bulk, now_ns, |header| EventThrottle {
        header,
        task: *who,
        probe: kind.number(),
        began,
        per_second,
        suppressed,
    });
    began == 0
}

/// Writes zeros, a word at a time. As one write, the compiler makes it a call of a loop over bytes, which takes long, and which older
/// verifiers walk through byte by byte.
///
/// # Safety
///
/// The place must be writable, and a multiple of 8 bytes in address and size.
#[inline(always)]
pub(crate) unsafe fn zero<T>(place: *mut T) {
    let words = place.cast::<u64>();
    for number in 0..size_of::<T>() / 8 {
        // SAFETY: within the place, by the caller's word.
        unsafe { words.add(number).write_volatile(0) };
    }
}

/// Copies a name, a word at a time, for the same reason.
///
/// # Safety
///
/// Both must be valid and lie at a multiple of 8 bytes.
#[inline(always)]
#[expect(clippy::cast_ptr_alignment, reason = "the caller's word")]
pub(crate) unsafe fn copy_comm(from: *const [u8; 16], to: *mut [u8; 16]) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    // SAFETY: two words each, by the caller's word.
    unsafe {
        to.write_volatile(from.read_volatile());
        to.add(1).write_volatile(from.add(1).read_volatile());
    }
}

/// True when this probe (by its number) may do one more of what is limited to so many a second on this CPU.
#[inline(always)]
pub(crate) fn admitted(number: u16, now_ns: u64, per_second: u64) -> bool {
    LIMITS
        .get_ptr_mut(u32::from(number))
        // SAFETY: a slot of this CPU, valid while the program runs.
        .is_some_and(|limit| unsafe { (*limit).admit(now_ns, per_second) })
}

/// Counts something that will never be told, for want of room.
#[inline(always)]
pub(crate) fn count_lost(kind: Kind) {
    count(kind, |counters| counters.lost += 1);
    if let Some(total) = LOST_TOTAL.get_ptr_mut(0) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        unsafe { *total += 1 };
    }
}

/// Counts something of this probe on this CPU.
#[inline(always)]
pub(crate) fn count(kind: Kind, add: impl FnOnce(&mut ProbeCounters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(u32::from(kind.number())) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        add(unsafe { &mut *counters });
    }
}
