//! Somebody sent a process a signal that ends processes.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::process_signal::{ProcessSignal, REPORTED};

use crate::emit::{emit, has_share, now_ns};
use crate::offsets::KernelPtr;
use crate::settings::refuse_if_asked;
use crate::task::{describe, lane, parent_pid};

/// `signal_generate(sig, info, task, group, result)`
#[btf_tracepoint(function = "signal_generate")]
fn process_signal(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ProcessSignal);
    try_process_signal(&ctx);
    0
}

fn try_process_signal(ctx: &BtfTracePointContext) {
    let signal: u32 = ctx.arg(0);
    if signal > 63 || REPORTED >> signal & 1 == 0 {
        return;
    }
    let task = KernelPtr::new(ctx.arg(2));
    let who = describe(task);
    let lane = lane(who.pid, parent_pid(task));
    let now_ns = now_ns();
    if !has_share(Kind::ProcessSignal, lane, &who, now_ns) {
        return;
    }
    emit(lane, now_ns, |header| ProcessSignal {
        header,
        task: who,
        signal,
        result: ctx.arg(4),
        sender_pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        padding: 0,
        sender_comm: bpf_get_current_comm().unwrap_or_default(),
    });
}
