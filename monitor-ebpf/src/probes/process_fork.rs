//! A process (not a thread) was made.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::process_fork::ProcessFork;

use crate::emit::{Lane, emit, has_share, now_ns};
use crate::offsets::{KernelPtr, TASK_LEADER, TASK_PARENT, TASK_PID, TASK_START, TASK_TGID};
use crate::settings::refuse_if_asked;
use crate::task::{describe, parent_pid};

/// `sched_process_fork(parent, child)`
#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ProcessFork);
    try_process_fork(&ctx);
    0
}

fn try_process_fork(ctx: &BtfTracePointContext) {
    let child = KernelPtr::new(ctx.arg(1));
    let is_thread = child.load::<u32>(&TASK_PID) != child.load::<u32>(&TASK_TGID);
    if is_thread {
        return;
    }
    let who = describe(child);
    let now_ns = now_ns();
    if !has_share(Kind::ProcessFork, Lane::Bulk, &who, now_ns) {
        return;
    }
    emit(Lane::Bulk, now_ns, |header| ProcessFork {
        header,
        task: who,
        parent_pid: parent_pid(child),
        padding: 0,
        // Not the task that called: with CLONE_PARENT, the parent is another.
        parent_start_time_ns: child
            .follow(&TASK_PARENT)
            .follow(&TASK_LEADER)
            .load(&TASK_START),
    });
}
