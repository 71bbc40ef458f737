//! How long a runnable task waited for a CPU, and who had it meanwhile: one program at `sched_switch`, no look-up for the stamp.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::run_queue_latency::{
    BUCKETS, CULPRITS, Culprit, HISTOGRAM, IMPLAUSIBLE_NS, MERGE_BACK, OUTLIERS_PER_SECOND,
    RunQueueLatency, SLICE_SPAN_NS, SLICES, Slice, THROTTLES, Throttle, bucket,
};

use crate::emit::{Lane, admitted, copy_comm, count, emit_in_place, now_ns, zero};
use crate::maps::{CGROUP_HISTOGRAM, TURNS, Turns};
use crate::offsets::{
    CFS_RQ_GROUP, CFS_RQ_RQ, CFS_RQ_THROTTLED_TIME, GROUP_QUOTA, KernelPtr, RQ_CLOCK, TASK_CFS_RQ,
    TASK_FLAGS, TASK_LAST_QUEUED, TASK_TGID, known,
};
use crate::settings::{RUN_QUEUE_THRESHOLD_NS, refuse_if_asked};
use crate::task::{cgroup_id, comm, describe, watched_slot};

/// The limit of watched cgroups' outliers: number 0 is no probe's.
const WATCHED_OUTLIERS: u16 = 0;
/// `PF_KTHREAD`
const KERNEL_THREAD: u32 = 0x0020_0000;

/// `sched_switch(preempt, prev, next)`, since 5.18 also `prev_state`
#[btf_tracepoint(function = "sched_switch")]
fn run_queue_latency(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::RunQueueLatency);
    let _ = try_run_queue_latency(&ctx);
    0
}

#[inline(always)]
fn try_run_queue_latency(ctx: &BtfTracePointContext) -> Option<()> {
    let previous = KernelPtr::new(ctx.arg(1));
    let next = KernelPtr::new(ctx.arg(2));
    // Both are on this CPU's queue: one clock for all.
    let queue = next.follow(&TASK_CFS_RQ);
    let clock_ns: u64 = queue.follow(&CFS_RQ_RQ).load(&RQ_CLOCK);
    // SAFETY: a slot of this CPU, valid while the program runs.
    let turns = unsafe { &mut *TURNS.get_ptr_mut(0)? };
    note_turn(turns, previous, clock_ns);
    let queued_ns: u64 = next.load(&TASK_LAST_QUEUED);
    // The idle task never queues, and a task the scheduler gave back the CPU at once has no stamp.
    if queued_ns == 0 {
        return None;
    }
    // Negative waits wrap round to huge ones.
    let wait_ns = clock_ns.wrapping_sub(queued_ns);
    if wait_ns > IMPLAUSIBLE_NS {
        count(Kind::RunQueueLatency, |counters| counters.implausible += 1);
        return None;
    }
    let bucket = bucket(wait_ns);
    // SAFETY: the mask keeps it in bounds, for the verifier too.
    unsafe { *turns.histogram.get_unchecked_mut(bucket & (HISTOGRAM - 1)) += 1 };
    if let Some(slot) = watched_slot(next)
        && let Some(buckets) = CGROUP_HISTOGRAM.get_ptr_mut(slot)
    {
        // SAFETY: a slot of this CPU, valid while the program runs.
        add(unsafe { &mut *buckets }, bucket);
    }
    let throttled_ns = throttled_since(turns, queue);
    if wait_ns > RUN_QUEUE_THRESHOLD_NS.load() {
        let wait = Outlier {
            queued_ns,
            wait_ns,
            throttled_ns: throttled_ns.min(wait_ns),
            quota: has_quota(queue) || throttled_ns != 0,
        };
        outlier(next, previous, turns, &wait);
    }
    Some(())
}

#[inline(always)]
fn add(buckets: &mut [u64; BUCKETS], bucket: usize) {
    // The compiler knows that the bucket is in bounds and would leave the check out, which the verifier needs.
    if let Some(waits) = buckets.get_mut(core::hint::black_box(bucket)) {
        *waits += 1;
    }
}

/// Remembers who had the CPU until now.
#[inline(always)]
fn note_turn(turns: &mut Turns, previous: KernelPtr, clock_ns: u64) {
    let since_ns = turns.since_ns;
    turns.since_ns = clock_ns;
    let held_ns = clock_ns.wrapping_sub(since_ns);
    // The first turn began before the program was attached.
    if since_ns == 0 || held_ns > IMPLAUSIBLE_NS {
        return;
    }
    let pid: u32 = previous.load(&TASK_TGID);
    let latest = turns.latest;
    for back in 0..MERGE_BACK as u64 {
        let slice = slice_mut(turns, latest.wrapping_sub(back));
        // One that was never used began at 0, which is too long ago.
        if slice.pid == pid && clock_ns.wrapping_sub(slice.first_ns) < SLICE_SPAN_NS {
            slice.held_ns += held_ns;
            slice.last_ns = clock_ns;
            return;
        }
    }
    turns.latest = latest.wrapping_add(1);
    *slice_mut(turns, latest.wrapping_add(1)) = Slice {
        first_ns: since_ns,
        last_ns: clock_ns,
        held_ns,
        cgroup_id: cgroup_id(previous),
        pid,
        kernel_thread: u32::from(previous.load::<u32>(&TASK_FLAGS) & KERNEL_THREAD != 0),
        comm: comm(previous),
    };
}

#[inline(always)]
fn slice_mut(turns: &mut Turns, number: u64) -> &mut Slice {
    // SAFETY: the mask keeps it in bounds, for the verifier too.
    unsafe {
        turns
            .slices
            .get_unchecked_mut(number as usize & (SLICES - 1))
    }
}

/// For how long this queue (or one above it) was throttled since one of its tasks last had this CPU; 0 when that is not known.
#[inline(always)]
fn throttled_since(turns: &mut Turns, queue: KernelPtr) -> u64 {
    if !known([&CFS_RQ_THROTTLED_TIME]) {
        return 0;
    }
    let throttled_ns: u64 = queue.load(&CFS_RQ_THROTTLED_TIME);
    if throttled_ns == 0 {
        return 0;
    }
    // Through memory, after which it is a number to the verifier, with which one may reckon.
    turns.queue = queue.address();
    // SAFETY: a slot of this CPU, valid while the program runs.
    let address = unsafe { core::ptr::read_volatile(&raw const turns.queue) };
    // Queues are allocated in powers of two of some hundred bytes.
    let place = (address >> 9 ^ address >> 16) as usize & (THROTTLES - 1);
    let Some(before) = turns.throttles.get_mut(core::hint::black_box(place)) else {
        return 0;
    };
    let since = if before.queue == address {
        throttled_ns.saturating_sub(before.throttled_ns)
    } else {
        0
    };
    *before = Throttle {
        queue: address,
        throttled_ns,
    };
    since
}

/// Whether the cgroup of this queue has a quota of its own (`RUNTIME_INF` is none).
#[inline(always)]
fn has_quota(queue: KernelPtr) -> bool {
    known([&CFS_RQ_GROUP, &GROUP_QUOTA])
        && queue.follow(&CFS_RQ_GROUP).load::<u64>(&GROUP_QUOTA) != u64::MAX
}

struct Outlier {
    queued_ns: u64,
    wait_ns: u64,
    throttled_ns: u64,
    quota: bool,
}

#[inline(always)]
fn outlier(next: KernelPtr, previous: KernelPtr, turns: &mut Turns, wait: &Outlier) {
    let now_ns = now_ns();
    if !is_told(next, turns, wait.wait_ns, now_ns) {
        count(Kind::RunQueueLatency, |counters| counters.suppressed += 1);
        return;
    }
    emit_in_place(
        Lane::Bulk,
        now_ns,
        |record: *mut RunQueueLatency, header| {
            // SAFETY: room for one record, of which every byte is written here.
            let record = unsafe {
                (&raw mut (*record).header).write(header);
                (&raw mut (*record).task).write(describe(next));
                (&raw mut (*record).wait_ns).write(wait.wait_ns);
                (&raw mut (*record).previous_pid).write(previous.load(&TASK_TGID));
                (&raw mut (*record).quota).write(u32::from(wait.quota));
                (&raw mut (*record).previous_comm).write(comm(previous));
                (&raw mut (*record).throttled_ns).write(wait.throttled_ns);
                let oldest_ns = oldest(turns);
                (&raw mut (*record).forgotten_ns)
                    .write(oldest_ns.saturating_sub(wait.queued_ns).min(wait.wait_ns));
                zero(&raw mut (*record).idle_ns);
                zero(&raw mut (*record).others_ns);
                zero(&raw mut (*record).culprits);
                &mut *record
            };
            attribute(turns, wait.queued_ns, record);
        },
    );
}

/// So many outliers a second are told; of a watched cgroup as many again; and beyond that one that is twice as long as any before it.
#[inline(always)]
fn is_told(next: KernelPtr, turns: &mut Turns, wait_ns: u64, now_ns: u64) -> bool {
    let second = now_ns / 1_000_000_000;
    if turns.second != second {
        turns.second = second;
        turns.longest_ns = 0;
    }
    let exceeds = wait_ns / 2 > turns.longest_ns;
    if wait_ns > turns.longest_ns {
        turns.longest_ns = wait_ns;
    }
    if admitted(Kind::RunQueueLatency.number(), now_ns, OUTLIERS_PER_SECOND) {
        return true;
    }
    let watched = watched_slot(next).is_some();
    exceeds || (watched && admitted(WATCHED_OUTLIERS, now_ns, OUTLIERS_PER_SECOND))
}

/// When the oldest remembered slice began.
#[inline(always)]
fn oldest(turns: &mut Turns) -> u64 {
    let after_latest = turns.latest.wrapping_add(1);
    let oldest = slice_mut(turns, after_latest);
    if oldest.last_ns != 0 {
        return oldest.first_ns;
    }
    // Not once round yet: the first slice is number 1.
    slice_mut(turns, 1).first_ns
}

/// Adds up who had the CPU since then, latest first. Sums stay in the record: in registers, each would be another case to the verifier.
#[inline(always)]
fn attribute(turns: &mut Turns, since_ns: u64, record: &mut RunQueueLatency) {
    let latest = turns.latest;
    for back in 0..SLICES as u64 {
        let slice = slice_mut(turns, latest.wrapping_sub(back));
        if slice.last_ns <= since_ns {
            continue;
        }
        let held_ns = slice.held_since(since_ns);
        if held_ns == 0 {
            continue;
        }
        if slice.pid == 0 {
            record.idle_ns += held_ns;
        } else if !credit(&mut record.culprits, slice, held_ns) {
            record.others_ns += held_ns;
        }
    }
}

/// False when there is no room for one more process.
#[inline(always)]
fn credit(culprits: &mut [Culprit; CULPRITS], slice: &Slice, held_ns: u64) -> bool {
    for culprit in culprits {
        if culprit.held_ns == 0 {
            culprit.held_ns = held_ns;
            culprit.cgroup_id = slice.cgroup_id;
            culprit.pid = slice.pid;
            culprit.kernel_thread = slice.kernel_thread;
            // SAFETY: both names lie at a multiple of 8 bytes.
            unsafe { copy_comm(&raw const slice.comm, &raw mut culprit.comm) };
            return true;
        }
        if culprit.pid == slice.pid {
            culprit.held_ns += held_ns;
            return true;
        }
    }
    false
}
