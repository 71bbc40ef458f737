//! The kernel chose a victim for lack of memory.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::oom_kill::{CAUSE_UNKNOWN, CAUSE_WITHIN_NS, OomKill};

use crate::emit::{Lane, emit, now_ns};
use crate::maps::RECLAIMING;
use crate::offsets::{KernelPtr, SIGNAL_OOM_SCORE_ADJ, TASK_SIGNAL, known};
use crate::settings::refuse_if_asked;
use crate::task::{describe, resident};

/// `mark_victim(task, uid)`, before 6.8 `mark_victim(pid)`, which userspace does not attach to.
#[btf_tracepoint(function = "mark_victim")]
fn oom_kill(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::OomKill);
    try_oom_kill(&ctx);
    0
}

fn try_oom_kill(ctx: &BtfTracePointContext) {
    let victim = KernelPtr::new(ctx.arg(0));
    let oom_score_adj = if known([&TASK_SIGNAL, &SIGNAL_OOM_SCORE_ADJ]) {
        i32::from(
            victim
                .follow(&TASK_SIGNAL)
                .load::<i16>(&SIGNAL_OOM_SCORE_ADJ),
        )
    } else {
        0
    };
    let pages = resident(victim);
    let now_ns = now_ns();
    let cause = cause(now_ns);
    emit(Lane::Urgent, now_ns, |header| OomKill {
        header,
        task: describe(victim),
        anon_pages: pages.anon,
        file_pages: pages.file,
        shmem_pages: pages.shmem,
        trigger_pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        oom_score_adj,
        trigger_comm: bpf_get_current_comm().unwrap_or_default(),
        cause,
        padding: 0,
    });
}

/// Whoever gets to the OOM killer has tried to reclaim first: for the host, or for the cgroup whose limit it met.
#[inline(always)]
fn cause(now_ns: u64) -> u32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this thread writes the entry, and the value is copied at once.
    match unsafe { RECLAIMING.get(tid).copied() } {
        Some(reclaim) if now_ns.wrapping_sub(reclaim.since_ns) < CAUSE_WITHIN_NS => reclaim.scope,
        _ => CAUSE_UNKNOWN,
    }
}
