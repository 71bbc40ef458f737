//! A process had to free memory itself before it was given any: for the host, or for the limit of its cgroup.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use monitor_common::Kind;
use monitor_common::probes::direct_reclaim::{DirectReclaim, Reclaim, SCOPE_CGROUP, SCOPE_HOST};

use crate::emit::{Lane, emit, has_share, now_ns};
use crate::maps::{RECLAIM_TOTALS, RECLAIMING};
use crate::settings::{RECLAIM_THRESHOLD_NS, refuse_if_asked};
use crate::task::describe_current;

/// `mm_vmscan_direct_reclaim_begin(order, gfp_flags)`
#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_begin")]
fn direct_reclaim_begin(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DirectReclaim);
    begun(&ctx, SCOPE_HOST);
    0
}

/// `mm_vmscan_memcg_reclaim_begin(order, gfp_flags)`
#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_begin")]
fn memcg_reclaim_begin(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DirectReclaim);
    begun(&ctx, SCOPE_CGROUP);
    0
}

/// `mm_vmscan_direct_reclaim_end(nr_reclaimed)`
#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_end")]
fn direct_reclaim_end(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DirectReclaim);
    // No start: it began before the program was attached, or was evicted.
    let _ = ended(&ctx, SCOPE_HOST);
    0
}

/// `mm_vmscan_memcg_reclaim_end(nr_reclaimed)`
#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_end")]
fn memcg_reclaim_end(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::DirectReclaim);
    let _ = ended(&ctx, SCOPE_CGROUP);
    0
}

#[inline(always)]
fn begun(ctx: &BtfTracePointContext, scope: u32) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let reclaim = Reclaim {
        since_ns: now_ns(),
        scope,
        under_way: 1,
    };
    if let Err(error) = RECLAIMING.insert(tid, reclaim, u64::from(BPF_ANY)) {
        debug!(
            ctx,
            "a stall in direct reclaim of thread {} is not timed: error {}", tid, error
        );
    }
}

#[inline(always)]
fn ended(ctx: &BtfTracePointContext, scope: u32) -> Option<()> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let reclaim = RECLAIMING.get_ptr_mut(tid)?;
    // SAFETY: only this thread writes the entry.
    let reclaim = unsafe { &mut *reclaim };
    if reclaim.under_way == 0 || reclaim.scope != scope {
        return None;
    }
    // It stays, since an OOM kill asks what was reclaimed last.
    reclaim.under_way = 0;
    let since_ns = reclaim.since_ns;
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
    let who = describe_current();
    if !has_share(Kind::DirectReclaim, Lane::Bulk, &who, now_ns) {
        return None;
    }
    emit(Lane::Bulk, now_ns, |header| DirectReclaim {
        header,
        task: who,
        stall_ns,
        reclaimed_pages: ctx.arg(0),
        scope,
        padding: 0,
    });
    Some(())
}
