//! Programs that do nothing, for measuring what any program costs there.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// `sched_switch(preempt, prev, next)`
#[btf_tracepoint(function = "sched_switch")]
fn bench_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// `inet_sock_set_state(sk, oldstate, newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn bench_empty_state(_: BtfTracePointContext) -> i32 {
    0
}
