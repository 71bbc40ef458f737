//! The process table, a record for each thread.

use core::ffi::c_void;

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use monitor_common::probes::task_snapshot::{FLAG_KERNEL_THREAD, FLAG_LEADER, TaskSnapshot};
use monitor_common::{Header, Kind};

use crate::offsets::{
    KernelPtr, SIGNAL_DEAD_CPU_TIME, SIGNAL_DEAD_MAJOR_FAULTS, SIGNAL_DEAD_MINOR_FAULTS,
    SIGNAL_DEAD_READ_BYTES, SIGNAL_DEAD_WRITE_BYTES, SIGNAL_OOM_SCORE_ADJ, TASK_CPU_TIME,
    TASK_FLAGS, TASK_INVOLUNTARY_SWITCHES, TASK_MAJOR_FAULTS, TASK_MINOR_FAULTS, TASK_READ_BYTES,
    TASK_RUN_DELAY, TASK_SIGNAL, TASK_STATE, TASK_VOLUNTARY_SWITCHES, TASK_WRITE_BYTES, known,
};
use crate::settings::refuse_if_asked;
use crate::task::{Resident, describe, parent_pid, resident, swapped, uid};

/// `PF_KTHREAD`
const KERNEL_THREAD: u32 = 0x0020_0000;

/// `struct bpf_iter__task`: each member is 8 bytes by definition of the interface.
#[repr(C)]
struct Context {
    meta: *const *mut seq_file,
    task: *const u8,
}

// aya-ebpf has no macro for iterators.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn task_snapshot(ctx: *const Context) -> i32 {
    refuse_if_asked(Kind::TaskSnapshot);
    // SAFETY: the kernel calls it with such a context.
    try_task_snapshot(unsafe { &*ctx });
    0
}

fn try_task_snapshot(ctx: &Context) {
    let task = KernelPtr::new(ctx.task);
    // At the end of the walk there is none.
    if task.is_null() {
        return;
    }
    let who = describe(task);
    let leads = who.pid == who.tid;
    let mut flags = 0;
    if leads {
        flags |= FLAG_LEADER;
    }
    if task.load::<u32>(&TASK_FLAGS) & KERNEL_THREAD != 0 {
        flags |= FLAG_KERNEL_THREAD;
    }
    let pages = if leads {
        resident(task)
    } else {
        Resident::default()
    };
    let signal = task.follow(&TASK_SIGNAL);
    // What the thread has, and for a leader what the ended threads of the process had.
    let with_dead = |own, dead| {
        let mut sum: u64 = if known([own]) { task.load(own) } else { 0 };
        if leads && known([dead]) {
            sum += signal.load::<u64>(dead);
        }
        sum
    };
    let record = TaskSnapshot {
        // One file is one moment: the reader puts the time in.
        header: Header::of::<TaskSnapshot>(0, 0),
        task: who,
        flags,
        parent_pid: if leads { parent_pid(task) } else { 0 },
        cpu_ns: with_dead(&TASK_CPU_TIME, &SIGNAL_DEAD_CPU_TIME),
        run_delay_ns: if known([&TASK_RUN_DELAY]) {
            task.load(&TASK_RUN_DELAY)
        } else {
            0
        },
        rss_pages: pages.anon + pages.file + pages.shmem,
        anon_pages: pages.anon,
        minor_faults: with_dead(&TASK_MINOR_FAULTS, &SIGNAL_DEAD_MINOR_FAULTS),
        major_faults: with_dead(&TASK_MAJOR_FAULTS, &SIGNAL_DEAD_MAJOR_FAULTS),
        read_bytes: with_dead(&TASK_READ_BYTES, &SIGNAL_DEAD_READ_BYTES),
        write_bytes: with_dead(&TASK_WRITE_BYTES, &SIGNAL_DEAD_WRITE_BYTES),
        state: if known([&TASK_STATE]) {
            task.load(&TASK_STATE)
        } else {
            0
        },
        uid: uid(task),
        switches: if known([&TASK_VOLUNTARY_SWITCHES, &TASK_INVOLUNTARY_SWITCHES]) {
            task.load::<u64>(&TASK_VOLUNTARY_SWITCHES)
                .wrapping_add(task.load(&TASK_INVOLUNTARY_SWITCHES))
        } else {
            0
        },
        shmem_pages: pages.shmem,
        swap_pages: if leads { swapped(task) } else { 0 },
        oom_score_adj: if leads && known([&SIGNAL_OOM_SCORE_ADJ]) {
            i32::from(signal.load::<i16>(&SIGNAL_OOM_SCORE_ADJ))
        } else {
            0
        },
        padding: 0,
    };
    // A record that does not fit is asked for again by the kernel, in the next piece of the file.
    // SAFETY: `meta` begins with the file, and the record is as long as said.
    unsafe {
        bpf_seq_write(
            *ctx.meta,
            core::ptr::from_ref(&record).cast::<c_void>(),
            size_of::<TaskSnapshot>() as u32,
        );
    }
}
