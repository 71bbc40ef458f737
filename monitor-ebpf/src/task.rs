//! What every event says of a task, read from its `task_struct`.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_task_btf,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use monitor_common::Task;
use monitor_common::probes::run_queue_latency::CgroupFilter;

use crate::emit::Lane;
use crate::maps::{CGROUP_FILTER, CGROUPS_WATCHED, WATCHED, WATCHED_SLOTS};
use crate::offsets::{
    CGROUP_NODE, CREDENTIALS_UID, CSS_SET_CGROUP, KernelPtr, MM_RSS, MM_RSS_STRIDE, NODE_ID,
    TASK_CGROUPS, TASK_COMM, TASK_CREDENTIALS, TASK_LEADER, TASK_MM, TASK_PARENT, TASK_PID,
    TASK_START, TASK_TGID, known,
};
use crate::settings::{CURRENT_TASK_TYPED, DAEMON_PID};

/// Who it is.
#[inline(always)]
pub(crate) fn describe(task: KernelPtr) -> Task {
    Task {
        pid: task.load(&TASK_TGID),
        tid: task.load(&TASK_PID),
        start_time_ns: task.follow(&TASK_LEADER).load(&TASK_START),
        cgroup_id: cgroup_id(task),
        comm: comm(task),
    }
}

/// Who the current task is. Its typed pointer needs 5.11; before, by helpers and checked reads.
#[inline(always)]
pub(crate) fn describe_current() -> Task {
    if CURRENT_TASK_TYPED.load() != 0
        && known([&TASK_TGID, &TASK_PID, &TASK_LEADER, &TASK_START, &TASK_COMM])
    {
        // SAFETY: the helper takes nothing and returns a task that the verifier knows to be one.
        let task = unsafe { bpf_get_current_task_btf() };
        return describe(KernelPtr::new(task.cast_const().cast()));
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: the helpers take nothing and return numbers.
    let (task, cgroup_id) = unsafe { (bpf_get_current_task(), bpf_get_current_cgroup_id()) };
    let task = KernelPtr::new(task as *const u8);
    let leader = KernelPtr::new(task.load_checked::<u64>(&TASK_LEADER, 0) as *const u8);
    Task {
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        start_time_ns: leader.load_checked(&TASK_START, 0),
        cgroup_id,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Who a task is of which only its address and thread id were noted. It may have ended since: then only the id is told.
#[inline(always)]
pub(crate) fn describe_noted(address: u64, tid: u32) -> Task {
    let task = KernelPtr::new(address as *const u8);
    let mut who = Task {
        pid: 0,
        tid,
        start_time_ns: 0,
        cgroup_id: 0,
        comm: [0; 16],
    };
    if address == 0 || task.load_checked::<u32>(&TASK_PID, 0) != tid {
        return who;
    }
    who.pid = task.load_checked(&TASK_TGID, 0);
    who.start_time_ns = task
        .follow_checked(&TASK_LEADER, 0)
        .load_checked(&TASK_START, 0);
    who.comm = task.load_checked(&TASK_COMM, 0);
    if known([&TASK_CGROUPS, &CSS_SET_CGROUP, &CGROUP_NODE, &NODE_ID]) {
        who.cgroup_id = task
            .follow_checked(&TASK_CGROUPS, 0)
            .follow_checked(&CSS_SET_CGROUP, 0)
            .follow_checked(&CGROUP_NODE, 0)
            .load_checked(&NODE_ID, 0);
    }
    who
}

/// Its name. Two loads, since it is text in the structure itself.
#[inline(always)]
pub(crate) fn comm(task: KernelPtr) -> [u8; 16] {
    let words: [u64; 2] = [task.load_past(&TASK_COMM, 0), task.load_past(&TASK_COMM, 8)];
    // SAFETY: both are 16 bytes of which every value is valid.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) }
}

/// Id of its cgroup v2; 0 when unknown.
#[inline(always)]
pub(crate) fn cgroup_id(task: KernelPtr) -> u64 {
    if !known([&TASK_CGROUPS, &CSS_SET_CGROUP, &CGROUP_NODE, &NODE_ID]) {
        return 0;
    }
    task.follow(&TASK_CGROUPS)
        .follow(&CSS_SET_CGROUP)
        .follow(&CGROUP_NODE)
        .load(&NODE_ID)
}

/// Whether any cgroup is watched. A load of its own: looking one up costs a switch 8 ns.
#[inline(always)]
pub(crate) fn any_watched() -> bool {
    // SAFETY: written by userspace alone, as a whole.
    unsafe { core::ptr::read_volatile(&raw const CGROUPS_WATCHED) != 0 }
}

/// Where the figures of the task's cgroup are counted; none for a cgroup that nobody watches.
#[inline(always)]
pub(crate) fn watched_slot(task: KernelPtr) -> Option<u32> {
    if any_watched() {
        slot_of(cgroup_id(task))
    } else {
        None
    }
}

/// Where a cgroup's figures are counted, likewise.
#[inline(always)]
pub(crate) fn slot_of(cgroup_id: u64) -> Option<u32> {
    let filter = CGROUP_FILTER.get(0)?;
    let (word, bit) = CgroupFilter::place(cgroup_id);
    // The compiler knows the word to be in bounds and would leave the check out, which the verifier needs.
    let word = filter.bits.get(core::hint::black_box(word))?;
    if word & bit == 0 {
        return None;
    }
    // SAFETY: the value is copied at once.
    unsafe { WATCHED_SLOTS.get(cgroup_id).copied() }
}

/// Process id of its parent.
#[inline(always)]
pub(crate) fn parent_pid(task: KernelPtr) -> u32 {
    task.follow(&TASK_PARENT).load(&TASK_TGID)
}

/// The ring for what happens to this process: urgent for the daemon's own children and for watched processes.
#[inline(always)]
pub(crate) fn lane(pid: u32, parent_pid: u32) -> Lane {
    // SAFETY: the value is not read, so that it may be replaced meanwhile.
    let watched = || unsafe { WATCHED.get(pid) }.is_some();
    if parent_pid == DAEMON_PID.load() || watched() {
        Lane::Urgent
    } else {
        Lane::Bulk
    }
}

/// Resident pages of a process by kind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Resident {
    pub(crate) file: u64,
    pub(crate) anon: u64,
    pub(crate) shmem: u64,
}

/// Resident pages; zeros for a kernel thread, a zombie, or a kernel whose counters are elsewhere.
#[inline(always)]
pub(crate) fn resident(task: KernelPtr) -> Resident {
    if !known([&TASK_MM, &MM_RSS, &MM_RSS_STRIDE]) {
        return Resident::default();
    }
    let mm = task.follow(&TASK_MM);
    if mm.is_null() {
        return Resident::default();
    }
    resident_in(mm)
}

/// Resident pages of an address space. The kernel must have its counters.
#[inline(always)]
pub(crate) fn resident_in(mm: KernelPtr) -> Resident {
    // The order of MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES has been the same since 4.5.
    Resident {
        file: pages(mm, 0),
        anon: pages(mm, 1),
        shmem: pages(mm, 3),
    }
}

/// Pages of a process that were swapped out; 0 where [`resident`] knows nothing either.
#[inline(always)]
pub(crate) fn swapped(task: KernelPtr) -> u64 {
    if !known([&TASK_MM, &MM_RSS, &MM_RSS_STRIDE]) {
        return 0;
    }
    let mm = task.follow(&TASK_MM);
    if mm.is_null() { 0 } else { pages(mm, 2) }
}

/// One counter of pages. It can be below zero for a moment, since the CPUs add to it in batches.
#[inline(always)]
fn pages(mm: KernelPtr, index: usize) -> u64 {
    let stride = MM_RSS_STRIDE.load() as usize;
    let counter: i64 = if stride == size_of::<i64>() {
        // Plain atomics, before 6.2: their verifier does not look through an array of a typedef.
        mm.load_checked(&MM_RSS, index * stride)
    } else {
        mm.load_past(&MM_RSS, index * stride)
    };
    counter.max(0).cast_unsigned()
}

/// Its real user; `u32::MAX` when unknown.
#[inline(always)]
pub(crate) fn uid(task: KernelPtr) -> u32 {
    if known([&TASK_CREDENTIALS, &CREDENTIALS_UID]) {
        task.follow(&TASK_CREDENTIALS).load(&CREDENTIALS_UID)
    } else {
        u32::MAX
    }
}
