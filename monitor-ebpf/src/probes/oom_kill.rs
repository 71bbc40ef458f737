//! The kernel chose a victim for lack of memory.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::oom_kill::OomKill;

use crate::emit::{Lane, emit, now_ns};
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
    emit(Lane::Urgent, now_ns(), |header| OomKill {
        header,
        task: describe(victim),
        anon_pages: pages.anon,
        file_pages: pages.file,
        shmem_pages: pages.shmem,
        trigger_pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        oom_score_adj,
    });
}
