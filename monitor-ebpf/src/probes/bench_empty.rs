//! A program that does nothing, for measuring what any program at `sched_switch` costs.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

/// `sched_switch(preempt, prev, next)`
#[btf_tracepoint(function = "sched_switch")]
fn bench_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}
