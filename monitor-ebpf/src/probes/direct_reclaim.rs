//! A process had to free memory itself before it was given any.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use monitor_common::Kind;
use monitor_common::probes::direct_reclaim::DirectReclaim;

use crate::emit::{Lane, emit, now_ns};
use crate::maps::{RECLAIM_TOTALS, RECLAIMING};
use crate::settings::{RECLAIM_THRESHOLD_NS, refuse_if_asked};
use crate::task::describe_current;

/// `mm_vmscan_direct_reclaim_begin(order, gfp_flags)`
#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_begin")]
fn direct_reclaim_begin(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DirectReclaim);
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Err(error) = RECLAIMING.insert(tid, now_ns(), u64::from(BPF_ANY)) {
        debug!(
            &ctx,
            "a stall in direct reclaim of thread {} is not timed: error {}", tid, error
        );
    }
    0
}

/// `mm_vmscan_direct_reclaim_end(nr_reclaimed)`
#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_end")]
fn direct_reclaim_end(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DirectReclaim);
    // No start: it began before the program was attached, or was evicted.
    let _ = try_direct_reclaim_end(&ctx);
    0
}

fn try_direct_reclaim_end(ctx: &BtfTracePointContext) -> Option<()> {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this thread writes the entry, and the value is copied at once.
    let since_ns = unsafe { RECLAIMING.get(tid).copied() }?;
    let _ = RECLAIMING.remove(tid);
    let now_ns = now_ns();
    let stall_ns = now_ns.saturating_sub(since_ns);
    if let Some(totals) = RECLAIM_TOTALS.get_ptr_mut(0) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        let totals = unsafe { &mut *totals };
        totals.stalls += 1;
        totals.stall_ns += stall_ns;
    }
    if stall_ns < RECLAIM_THRESHOLD_NS.load() {
        return None;
    }
    emit(Lane::Bulk, now_ns, |header| DirectReclaim {
        header,
        task: describe_current(),
        stall_ns,
        reclaimed_pages: ctx.arg(0),
    });
    Some(())
}
