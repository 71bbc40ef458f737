//! A process replaced its program.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::process_exec::ProcessExec;

use crate::emit::{emit, now_ns};
use crate::offsets::KernelPtr;
use crate::settings::refuse_if_asked;
use crate::task::{describe, lane, parent_pid};

/// `sched_process_exec(task, old_pid, bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ProcessExec);
    try_process_exec(&ctx);
    0
}

fn try_process_exec(ctx: &BtfTracePointContext) {
    let task = KernelPtr::new(ctx.arg(0));
    let parent_pid = parent_pid(task);
    let who = describe(task);
    emit(lane(who.pid, parent_pid), now_ns(), |header| ProcessExec {
        header,
        task: who,
        parent_pid,
        padding: 0,
    });
}
