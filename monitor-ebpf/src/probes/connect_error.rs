//! A call of `connect` that failed at once. Attached only while somebody asks, since it runs at the end of every system call.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::connect_error::{ADDRESS_LEN, ConnectError, is_failure};

use crate::emit::{Lane, emit_in_place, has_share, now_ns, zero};
use crate::offsets::{
    KernelPtr, REGISTERS_CALL, REGISTERS_SECOND, REGISTERS_STATE, REGISTERS_STEP, REGISTERS_THIRD,
    TASK_CALL_STATUS, known,
};
use crate::settings::{SENDING_CALLS, refuse_if_asked};
use crate::task::describe_current;

/// `TS_COMPAT` of `x86_64`, in a thread's status
const COMPATIBLE: u32 = 2;
/// `PSR_MODE32_BIT | PSR_MODE_MASK` of aarch64, and what of it a program of 32 bits has set
const MODE: u64 = 0x1f;
const MODE_32: u64 = 0x10;

/// `sys_exit(regs, ret)`
#[btf_tracepoint(function = "sys_exit")]
fn connect_error(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::ConnectError);
    let result: i64 = ctx.arg(1);
    // Nearly every call ends here.
    if result >= 0 {
        return 0;
    }
    let registers = KernelPtr::new(ctx.arg(0));
    let call: u32 = registers.load(&REGISTERS_CALL);
    if call == SENDING_CALLS.load()[0] && is_failure(result) && !is_32_bit(registers) {
        failed(registers, result.unsigned_abs() as u32);
    }
    0
}

/// Whether the call is one of 32 bits, whose number means another call and whose registers hold other things.
#[inline(always)]
fn is_32_bit(registers: KernelPtr) -> bool {
    if known([&TASK_CALL_STATUS]) {
        // SAFETY: the helper takes nothing and returns an address.
        let task = KernelPtr::new(unsafe { bpf_get_current_task() } as *const u8);
        task.load_checked::<u32>(&TASK_CALL_STATUS, 0) & COMPATIBLE != 0
    } else {
        registers.load::<u64>(&REGISTERS_STATE) & MODE == MODE_32
    }
}

#[inline(always)]
fn failed(registers: KernelPtr, error: u32) {
    // Where registers have numbers, the first is the result by now.
    let step = if known([&REGISTERS_STEP]) {
        REGISTERS_STEP.load() as usize
    } else {
        0
    };
    let address: u64 = registers.load_past(&REGISTERS_SECOND, step);
    let length: u64 = registers.load_past(&REGISTERS_THIRD, 2 * step);
    // An `int`: the upper half is anything.
    let length = length & 0xffff_ffff;
    let length = if length < ADDRESS_LEN as u64 {
        length
    } else {
        ADDRESS_LEN as u64
    };
    let who = describe_current();
    let now_ns = now_ns();
    if !has_share(Kind::ConnectError, Lane::Bulk, &who, now_ns) {
        return;
    }
    emit_in_place(Lane::Bulk, now_ns, |record: *mut ConnectError, header| {
        // SAFETY: room for one record, of which every byte is written here; at most as many bytes are read as the array has, and the
        // helper checks the address in the process.
        unsafe {
            (&raw mut (*record).header).write(header);
            (&raw mut (*record).task).write(who);
            (&raw mut (*record).error).write(error);
            let into = &raw mut (*record).address;
            zero(into);
            let read = bpf_probe_read_user(
                into.cast::<c_void>(),
                length as u32,
                address as *const c_void,
            );
            let length = if read == 0 { length as u16 } else { 0 };
            (&raw mut (*record).address_len).write(length);
            let family = if length < 2 {
                0
            } else {
                u16::from_ne_bytes([(*into)[0], (*into)[1]])
            };
            (&raw mut (*record).family).write(family);
        }
    });
}
