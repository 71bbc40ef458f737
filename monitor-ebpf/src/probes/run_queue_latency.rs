//! How long a runnable task waited for a CPU: one program at `sched_switch`, no map look-up for the stamp.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::run_queue_latency::{
    IMPLAUSIBLE_NS, OUTLIERS_PER_SECOND, RunQueueLatency, bucket,
};

use crate::emit::{Lane, admitted, count, emit, now_ns};
use crate::maps::RUN_QUEUE_HISTOGRAM;
use crate::offsets::{
    CFS_RQ_RQ, KernelPtr, RQ_CLOCK, TASK_CFS_RQ, TASK_LAST_QUEUED, TASK_PID, TASK_TGID,
};
use crate::settings::{RUN_QUEUE_THRESHOLD_NS, refuse_if_asked};
use crate::task::{comm, describe};

/// `sched_switch(preempt, prev, next)`, since 5.18 also `prev_state`
#[btf_tracepoint(function = "sched_switch")]
fn run_queue_latency(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::RunQueueLatency);
    try_run_queue_latency(&ctx);
    0
}

#[inline(always)]
fn try_run_queue_latency(ctx: &BtfTracePointContext) {
    let next = KernelPtr::new(ctx.arg(2));
    let queued_ns: u64 = next.load(&TASK_LAST_QUEUED);
    // The idle task never queues, and a task the scheduler gave back the CPU at once has no stamp.
    if queued_ns == 0 || next.load::<u32>(&TASK_PID) == 0 {
        return;
    }
    let clock_ns: u64 = next.follow(&TASK_CFS_RQ).follow(&CFS_RQ_RQ).load(&RQ_CLOCK);
    // Negative waits wrap round to huge ones.
    let wait_ns = clock_ns.wrapping_sub(queued_ns);
    if wait_ns > IMPLAUSIBLE_NS {
        count(Kind::RunQueueLatency, |counters| counters.implausible += 1);
        return;
    }
    if let Some(buckets) = RUN_QUEUE_HISTOGRAM.get_ptr_mut(0) {
        // The compiler knows that the bucket is in bounds and would leave the check out, which the verifier needs.
        let bucket = core::hint::black_box(bucket(wait_ns));
        // SAFETY: a slot of this CPU, valid while the program runs.
        if let Some(waits) = unsafe { &mut *buckets }.get_mut(bucket) {
            *waits += 1;
        }
    }
    if wait_ns > RUN_QUEUE_THRESHOLD_NS.load() {
        outlier(ctx, next, wait_ns);
    }
}

fn outlier(ctx: &BtfTracePointContext, next: KernelPtr, wait_ns: u64) {
    let now_ns = now_ns();
    if !admitted(Kind::RunQueueLatency, now_ns, OUTLIERS_PER_SECOND) {
        count(Kind::RunQueueLatency, |counters| counters.suppressed += 1);
        return;
    }
    let previous = KernelPtr::new(ctx.arg(1));
    emit(Lane::Bulk, now_ns, |header| RunQueueLatency {
        header,
        task: describe(next),
        wait_ns,
        previous_pid: previous.load(&TASK_TGID),
        padding: 0,
        previous_comm: comm(previous),
    });
}
