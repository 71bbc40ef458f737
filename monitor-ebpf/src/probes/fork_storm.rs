//! A cgroup forks faster than its limit; where a guard is armed, whoever goes beyond it is killed as it forks.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_send_signal;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::fork_storm::{ForkStorm, ForkWindow};

use crate::emit::{Lane, emit, now_ns};
use crate::maps::{FORK_LIMITS, FORKS};
use crate::offsets::KernelPtr;
use crate::settings::{DAEMON_PID, FORKS_PER_SECOND, refuse_if_asked};
use crate::task::{cgroup_id, describe};

const SIGKILL: u32 = 9;

/// `sched_process_fork(parent, child)`, in the context of the parent
#[btf_tracepoint(function = "sched_process_fork")]
fn fork_storm(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ForkStorm);
    // No room for another cgroup: its forks are not counted, which the LRU table makes impossible in practice.
    let _ = try_fork_storm(&ctx);
    0
}

fn try_fork_storm(ctx: &BtfTracePointContext) -> Option<()> {
    let parent = KernelPtr::new(ctx.arg(0));
    let cgroup = cgroup_id(parent);
    let now_ns = now_ns();
    let Some(window) = FORKS.get_ptr_mut(cgroup) else {
        let first = ForkWindow {
            began_ns: now_ns,
            forks: 1,
            killed: 0,
        };
        let _ = FORKS.insert(cgroup, first, u64::from(BPF_ANY));
        return None;
    };
    // SAFETY: the entry stays valid while the program runs. CPUs that count at the same time may lose a fork to each other, and
    // then the limit is crossed one fork later.
    let window = unsafe { &mut *window };
    let forks = window.count(now_ns);
    // Plain numbers instead of an `Option`: its unused half would be an unset register to the verifier.
    let (limit, guard) = match FORK_LIMITS.get_ptr(cgroup) {
        // SAFETY: the entry stays valid while the program runs.
        Some(guard) => unsafe { ((*guard).per_second, 1 + (*guard).enforce) },
        None => (FORKS_PER_SECOND.load(), 0),
    };
    if forks <= limit {
        return None;
    }
    if guard == 2 && (bpf_get_current_pid_tgid() >> 32) as u32 != DAEMON_PID.load() {
        // SAFETY: the helper signals the current process, which is the one that forks; it refuses init and kernel threads.
        if unsafe { bpf_send_signal(SIGKILL) } == 0 {
            window.killed = window.killed.saturating_add(1);
        }
    }
    if forks == limit.saturating_add(1) {
        emit(Lane::Urgent, now_ns, |header| ForkStorm {
            header,
            task: describe(parent),
            forks,
            limit,
            window_ns: window.began_ns,
            killed: window.killed,
            guard,
        });
    }
    Some(())
}
