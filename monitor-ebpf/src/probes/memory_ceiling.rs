//! A process or a cgroup took more memory than its ceiling allows. Attached only while a ceiling is armed.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_send_signal};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::offsets::ABSENT;
use monitor_common::probes::memory_ceiling::{
    CGROUP_AGAIN_NS, Ceiling, KILLED, MemoryCeiling, OBSERVED, REFUSED, SCOPE_CGROUP,
    SCOPE_PROCESS, SPARED, to_blame,
};

use crate::emit::{Lane, admitted, emit, now_ns};
use crate::maps::{CGROUP_CEILING_COUNT, CGROUP_CEILINGS, PROCESS_CEILINGS};
use crate::offsets::{
    CGROUP_NODE, CSS_SET_SUBSYSTEMS, KernelPtr, MEMORY_CGROUP_USAGE, NODE_ID, SUBSYSTEM_CGROUP,
    TASK_CGROUPS, TASK_LEADER, TASK_MM, TASK_START, known,
};
use crate::settings::{DAEMON_PID, MEMORY_SUBSYSTEM, refuse_if_asked};
use crate::task::{describe_current, resident_in};

const SIGKILL: u32 = 9;
const TICK_NS: u64 = 10_000_000;
/// Crossings that nobody is killed for although somebody should be are reported this often a second and CPU: they are judged again at
/// the next page, whoever takes it.
const MISSES_PER_SECOND: u64 = 10;

/// `rss_stat(mm, member)`, with a third argument before 6.2
#[btf_tracepoint(function = "rss_stat")]
fn memory_ceiling(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::MemoryCeiling);
    let mm = KernelPtr::new(ctx.arg(0));
    of_process(mm);
    if CGROUP_CEILING_COUNT.get(0).is_some_and(|count| *count != 0) {
        of_cgroup(mm);
    }
    0
}

#[inline(always)]
fn of_process(mm: KernelPtr) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(ceiling) = PROCESS_CEILINGS.get_ptr_mut(pid) else {
        return;
    };
    // SAFETY: the entry stays valid while the program runs; two threads that cross at once both report it.
    let ceiling = unsafe { &mut *ceiling };
    if ceiling.crossed_ns != 0 {
        return;
    }
    let pages = resident_in(mm);
    let used = pages.file + pages.anon + pages.shmem;
    let grows = used > ceiling.seen_pages;
    ceiling.seen_pages = used;
    if used <= ceiling.pages || !grows {
        return;
    }
    let task = current();
    // A fork or exec builds another address space than its own; and the id may mean another process by now.
    if task.load_checked::<u64>(&TASK_MM, 0) != mm.address() {
        return;
    }
    let start_ns: u64 = task
        .follow_checked(&TASK_LEADER, 0)
        .load_checked(&TASK_START, 0);
    if start_ns / TICK_NS != ceiling.start_ticks {
        return;
    }
    let now_ns = now_ns();
    let verdict = judge(ceiling, now_ns, true);
    report(verdict, now_ns, |header| MemoryCeiling {
        header,
        task: describe_current(),
        limit_pages: ceiling.pages,
        used_pages: used,
        resident_pages: used,
        memory_cgroup_id: 0,
        scope: SCOPE_PROCESS,
        verdict,
    });
}

#[inline(always)]
fn of_cgroup(mm: KernelPtr) {
    if MEMORY_SUBSYSTEM.load() == ABSENT
        || !known([
            &TASK_CGROUPS,
            &CSS_SET_SUBSYSTEMS,
            &SUBSYSTEM_CGROUP,
            &CGROUP_NODE,
            &NODE_ID,
            &MEMORY_CGROUP_USAGE,
        ])
    {
        return;
    }
    let task = current();
    let index = MEMORY_SUBSYSTEM.load() as usize * size_of::<u64>();
    let subsystem = task
        .follow_checked(&TASK_CGROUPS, 0)
        .follow_checked(&CSS_SET_SUBSYSTEMS, index);
    let cgroup_id: u64 = subsystem
        .follow_checked(&SUBSYSTEM_CGROUP, 0)
        .follow_checked(&CGROUP_NODE, 0)
        .load_checked(&NODE_ID, 0);
    let Some(ceiling) = CGROUP_CEILINGS.get_ptr_mut(cgroup_id) else {
        return;
    };
    // SAFETY: as for a process.
    let ceiling = unsafe { &mut *ceiling };
    // A `struct mem_cgroup` begins with its subsystem state.
    let used: u64 = subsystem.load_checked(&MEMORY_CGROUP_USAGE, 0);
    let grows = used > ceiling.seen_pages;
    ceiling.seen_pages = used;
    let own = task.load_checked::<u64>(&TASK_MM, 0) == mm.address();
    if used <= ceiling.pages || !grows || !own {
        return;
    }
    let now_ns = now_ns();
    if ceiling.crossed_ns != 0 && now_ns.wrapping_sub(ceiling.crossed_ns) < CGROUP_AGAIN_NS {
        return;
    }
    let pages = resident_in(mm);
    let resident = pages.file + pages.anon + pages.shmem;
    let verdict = judge(ceiling, now_ns, to_blame(resident, ceiling.pages));
    report(verdict, now_ns, |header| MemoryCeiling {
        header,
        task: describe_current(),
        limit_pages: ceiling.pages,
        used_pages: used,
        resident_pages: resident,
        memory_cgroup_id: cgroup_id,
        scope: SCOPE_CGROUP,
        verdict,
    });
}

/// Kills the current process where that is wanted, and notes the crossing; not when the signal was refused or the process is not to
/// blame, so that the next page tries again: a small neighbour must not win time for the culprit.
#[inline(always)]
fn judge(ceiling: &mut Ceiling, now_ns: u64, blamed: bool) -> u32 {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let verdict = if ceiling.enforce == 0 {
        OBSERVED
    } else if !blamed || pid == DAEMON_PID.load() {
        SPARED
    // SAFETY: the helper signals the current process, and refuses init and kernel threads.
    } else if unsafe { bpf_send_signal(SIGKILL) } == 0 {
        KILLED
    } else {
        REFUSED
    };
    if verdict != REFUSED && verdict != SPARED {
        ceiling.crossed_ns = now_ns;
    }
    verdict
}

#[inline(always)]
fn report(verdict: u32, now_ns: u64, fill: impl FnOnce(monitor_common::Header) -> MemoryCeiling) {
    let missed = verdict == REFUSED || verdict == SPARED;
    if missed && !admitted(Kind::MemoryCeiling.number(), now_ns, MISSES_PER_SECOND) {
        return;
    }
    emit(Lane::Urgent, now_ns, fill);
}

#[inline(always)]
fn current() -> KernelPtr {
    // SAFETY: the helper takes nothing and returns a number.
    KernelPtr::new(unsafe { bpf_get_current_task() } as *const u8)
}
