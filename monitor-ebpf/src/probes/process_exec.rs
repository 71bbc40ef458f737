//! A process replaced its program.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::process_exec::{ARGV_LEN, ProcessExec};

use crate::emit::{emit_in_place, has_share, now_ns, zero};
use crate::offsets::{KernelPtr, MM_ARGUMENTS, MM_ARGUMENTS_END, TASK_MM, known};
use crate::settings::refuse_if_asked;
use crate::task::{describe, lane, parent_pid, uid};

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
    let lane = lane(who.pid, parent_pid);
    let now_ns = now_ns();
    if !has_share(Kind::ProcessExec, lane, &who, now_ns) {
        return;
    }
    emit_in_place(lane, now_ns, |record: *mut ProcessExec, header| {
        // SAFETY: room for one record, of which every byte is written here or in `arguments`.
        unsafe {
            (&raw mut (*record).header).write(header);
            (&raw mut (*record).task).write(who);
            (&raw mut (*record).parent_pid).write(parent_pid);
            (&raw mut (*record).uid).write(uid(task));
        }
        arguments(task, record);
    });
}

/// The arguments, from the stack of the new program, where the kernel has just put them.
#[inline(always)]
fn arguments(task: KernelPtr, record: *mut ProcessExec) {
    // SAFETY: as above. The words before the argv are written by the caller, so that none is left from an earlier record.
    unsafe {
        zero(&raw mut (*record).argv);
        (&raw mut (*record).argv_total).write(0);
        (&raw mut (*record).argv_len).write(0);
    }
    if !known([&TASK_MM, &MM_ARGUMENTS, &MM_ARGUMENTS_END]) {
        return;
    }
    let mm = task.follow(&TASK_MM);
    if mm.is_null() {
        return;
    }
    let start: u64 = mm.load(&MM_ARGUMENTS);
    let total = mm.load::<u64>(&MM_ARGUMENTS_END).wrapping_sub(start);
    let length = if total < ARGV_LEN as u64 {
        total
    } else {
        ARGV_LEN as u64
    };
    // SAFETY: at most as many bytes as the array has; the helper checks the address in the process.
    unsafe {
        let into = (&raw mut (*record).argv).cast::<c_void>();
        if bpf_probe_read_user(into, length as u32, start as *const c_void) == 0 {
            (&raw mut (*record).argv_total).write(total.min(u64::from(u32::MAX)) as u32);
            (&raw mut (*record).argv_len).write(length as u32);
        }
    }
}
