//! The last thread of a process ended.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::{Kind, Task};

use crate::emit::{emit, has_share, now_ns};
use crate::maps::{ENDED, Ended};
use crate::offsets::{
    KernelPtr, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, SIGNAL_LIVE, TASK_EXIT_CODE, TASK_LEADER,
    TASK_SIGNAL,
};
use crate::settings::{EXIT_TELLS_GROUP, refuse_if_asked};
use crate::task::{describe, lane, parent_pid};

/// `SIGNAL_GROUP_EXIT`: the process ends as a whole, and its status is that of the group.
const GROUP_EXIT: u32 = 4;

/// `sched_process_exit(task)`, since 6.16 `(task, group_dead)`
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ProcessExit);
    try_process_exit(&ctx);
    0
}

fn try_process_exit(ctx: &BtfTracePointContext) {
    let task = KernelPtr::new(ctx.arg(0));
    let signal = task.follow(&TASK_SIGNAL);
    if EXIT_TELLS_GROUP.load() != 0 {
        if ctx.arg::<u8>(1) == 0 {
            return;
        }
    } else if signal.load::<i32>(&SIGNAL_LIVE) != 0 {
        return;
    }
    let leader = task.follow(&TASK_LEADER);
    let who = describe(leader);
    if EXIT_TELLS_GROUP.load() == 0 && already_reported(&who) {
        return;
    }
    let status = if signal.load::<u32>(&SIGNAL_FLAGS) & GROUP_EXIT != 0 {
        signal.load(&SIGNAL_GROUP_EXIT_CODE)
    } else {
        leader.load(&TASK_EXIT_CODE)
    };
    let parent_pid = parent_pid(leader);
    // SAFETY: the helper takes nothing and returns a number.
    let boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    let lane = lane(who.pid, parent_pid);
    let now_ns = now_ns();
    if !has_share(Kind::ProcessExit, lane, &who, now_ns) {
        return;
    }
    emit(lane, now_ns, |header| ProcessExit {
        header,
        task: who,
        parent_pid,
        status,
        lifetime_ns: boot_ns.saturating_sub(who.start_time_ns),
    });
}

/// Two last threads that leave at once both see no thread alive: the second of them is held back.
fn already_reported(who: &Task) -> bool {
    let key = Ended {
        start_time_ns: who.start_time_ns,
        pid: u64::from(who.pid),
    };
    ENDED.insert(key, 0, u64::from(BPF_NOEXIST)).is_err()
}
