//! Where a watched cgroup's threads wait. Attached only while somebody asks.

use aya_ebpf::bindings::{BPF_ANY, task_struct};
use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::off_cpu::{OffCpu, Wait, classify};

use crate::emit::{Lane, emit, has_share, now_ns};
use crate::maps::{CGROUP_WAITS, WAITERS, Waiter};
use crate::offsets::{
    KernelPtr, REGISTERS_SYSCALL, TASK_IN_IOWAIT, TASK_INVOLUNTARY_SWITCHES, TASK_PID, TASK_STATE,
    TASK_VOLUNTARY_SWITCHES, known,
};
use crate::settings::{FUTEX, FUTEX_WAITV, RUN_QUEUE_THRESHOLD_NS, refuse_if_asked};
use crate::task::{describe, watched_slot};

/// `TASK_DEAD`
const DEAD: u32 = 0x80;

/// `sched_switch(preempt, prev, next)`, since 5.18 also `prev_state`
#[btf_tracepoint(function = "sched_switch")]
fn off_cpu(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::OffCpu);
    let preempted = ctx.arg::<u64>(0) & 0xff != 0;
    if !preempted {
        leaves(&ctx);
    }
    let _ = returns(&ctx);
    0
}

/// The task that leaves the CPU goes to sleep, unless it is only put off.
#[inline(always)]
fn leaves(ctx: &BtfTracePointContext) {
    let previous = KernelPtr::new(ctx.arg(1));
    let state: u32 = previous.load(&TASK_STATE);
    // The dead do not return, and would leave their entries to whoever has their number next.
    if state == 0 || state & DEAD != 0 {
        return;
    }
    let Some(slot) = watched_slot(previous) else {
        return;
    };
    let syscall = if known([&REGISTERS_SYSCALL]) {
        // SAFETY: the helper takes a task that the verifier knows to be one.
        let registers = unsafe { bpf_task_pt_regs(ctx.arg::<*mut task_struct>(1)) };
        KernelPtr::new(registers as *const u8).load::<i64>(&REGISTERS_SYSCALL)
    } else {
        -1
    };
    let futexes = [i64::from(FUTEX.load()), i64::from(FUTEX_WAITV.load())];
    let wait = classify(state, previous.bit(&TASK_IN_IOWAIT), syscall, futexes);
    let waiter = Waiter {
        since_ns: now_ns(),
        syscall,
        switches: switches(previous),
        wait: wait as u32,
        slot,
    };
    // No room: this wait is not counted.
    let _ = WAITERS.insert(previous.load::<u32>(&TASK_PID), waiter, u64::from(BPF_ANY));
}

/// How often the thread was switched away from.
#[inline(always)]
fn switches(task: KernelPtr) -> u64 {
    task.load::<u64>(&TASK_VOLUNTARY_SWITCHES)
        .wrapping_add(task.load(&TASK_INVOLUNTARY_SWITCHES))
}

#[inline(always)]
fn returns(ctx: &BtfTracePointContext) -> Option<()> {
    let next = KernelPtr::new(ctx.arg(2));
    let slot = watched_slot(next)?;
    let tid: u32 = next.load(&TASK_PID);
    // SAFETY: only the CPU that the thread is on writes the entry, and the value is copied at once.
    let waiter = unsafe { WAITERS.get(tid).copied() }?;
    let _ = WAITERS.remove(tid);
    // It has run in between, while the program was detached or the thread elsewhere; or the slot is another cgroup's by now.
    if waiter.switches != switches(next) || waiter.slot != slot {
        return None;
    }
    let now_ns = now_ns();
    let wait_ns = now_ns.saturating_sub(waiter.since_ns);
    let totals = CGROUP_WAITS.get_ptr_mut(slot)?;
    // The compiler knows the number to be in bounds and would leave the check out, which the verifier needs.
    let kind = core::hint::black_box(waiter.wait) as usize;
    // SAFETY: a slot of this CPU, valid while the program runs.
    let totals = unsafe { &mut *totals };
    *totals.waits.get_mut(kind)? += 1;
    *totals.wait_ns.get_mut(kind)? += wait_ns;
    let told = kind == Wait::Io as usize || kind == Wait::Lock as usize;
    if !told || wait_ns < RUN_QUEUE_THRESHOLD_NS.load() {
        return None;
    }
    let who = describe(next);
    if !has_share(Kind::OffCpu, Lane::Bulk, &who, now_ns) {
        return None;
    }
    emit(Lane::Bulk, now_ns, |header| OffCpu {
        header,
        task: who,
        wait_ns,
        syscall: waiter.syscall,
        wait: waiter.wait,
        padding: 0,
    });
    Some(())
}
