//! A load on the bulk ring, for measuring.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::probes::bench_load::{BenchLoad, MOST};
use monitor_common::{Kind, Task};

use crate::emit::{Lane, emit, now_ns};
use crate::maps::{BENCH, BENCH_MADE};
use crate::settings::refuse_if_asked;

/// `sys_enter(regs, id)`
#[btf_tracepoint(function = "sys_enter")]
fn bench_load(_ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::BenchLoad);
    let _ = try_bench_load();
    0
}

fn try_bench_load() -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    let [wanted, records] = *BENCH.get(0)?;
    if pid != wanted {
        return None;
    }
    let made = BENCH_MADE.get_ptr_mut(0)?;
    for number in 0..MOST {
        if number >= records {
            break;
        }
        // SAFETY: a slot of this CPU, valid while the program runs.
        let sequence = unsafe {
            *made += 1;
            *made
        };
        emit(Lane::Bulk, now_ns(), |header| BenchLoad {
            header,
            task: Task {
                pid,
                tid: pid_tgid as u32,
                start_time_ns: 0,
                cgroup_id: 0,
                comm: [0; 16],
            },
            sequence,
        });
    }
    Some(())
}
