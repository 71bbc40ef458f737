//! How long disks take for their requests, and whose the slow and the failed ones are.
//!
//! A request is noted when a scheduler gets it (its maker runs then), stamped when its driver gets it, and measured when its last
//! part is done. It is found again by its address, in a pair of places that the address leads to: a third one displaces another,
//! which then counts as untimed. Places are written without a lock: who runs into another that uses the same place at the same
//! instant reads a wrong time or name. A request that ends in an interrupt of this very program, on the same CPU, is missed: the kernel
//! runs no program within itself.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::block_io::{
    BlockIo, DISK_LEN, DiskFigures, Issued, Operation, PAIRS, SLOW_PER_SECOND, UNKNOWN,
    URGENT_PER_SECOND, device, is_failure, pair,
};
use monitor_common::probes::run_queue_latency::{HISTOGRAM, bucket};

use crate::emit::{Lane, admitted, count, emit_in_place, has_share, now_ns};
use crate::maps::{BLOCK_DONE, DISK_FIGURES, DISKS_LEFT_OUT, ISSUED, NO_FIGURES};
use crate::offsets::{
    BIO_GROUP, BLKCG_CGROUP, CGROUP_NODE, CGROUP_ROOT, CGROUP_ROOT_HIERARCHY, DISK_MAJOR,
    DISK_MINOR, DISK_NAME, GROUP_BLKCG, KernelPtr, NODE_ID, QUEUE_DISK, REQUEST_BIO, REQUEST_BYTES,
    REQUEST_DISK, REQUEST_FLAGS, REQUEST_QUEUE, REQUEST_SECTOR, REQUEST_START, known,
};
use crate::settings::{BLOCK_THRESHOLD_NS, REQUEST_AFTER_QUEUE, refuse_if_asked};
use crate::task::describe_noted;

/// `block_rq_insert(rq)`, until 5.10 `(q, rq)`: a scheduler gets the request.
#[btf_tracepoint(function = "block_rq_insert")]
fn block_insert(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::BlockIo);
    let request = request_of(&ctx);
    // One that its driver gave back is inserted again, by the kernel.
    if let Some(place) = place_of(request)
        && !is_noted(place, request)
    {
        note(place, request, request.load(&REQUEST_START), 0);
    }
    0
}

/// `block_rq_issue(rq)`, until 5.10 `(q, rq)`: its driver gets the request.
#[btf_tracepoint(function = "block_rq_issue")]
fn block_issue(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::BlockIo);
    let request = request_of(&ctx);
    let device = device_of(disk_of(request));
    if device != 0
        && let Some(place) = place_of(request)
    {
        let now_ns = now_ns();
        if is_noted(place, request) {
            // Whoever runs now does it for another.
            place.since_ns = now_ns;
            place.device = device;
        } else {
            note(place, request, now_ns, device);
        }
    }
    0
}

/// `block_rq_requeue(rq)`, until 5.10 `(q, rq)`: its driver gives it back.
#[btf_tracepoint(function = "block_rq_requeue")]
fn block_requeue(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::BlockIo);
    let request = request_of(&ctx);
    if let Some(place) = place_of(request)
        && place.request == request.address()
    {
        place.since_ns = request.load(&REQUEST_START);
        place.device = 0;
    }
    0
}

/// `block_rq_complete(rq, error, nr_bytes)`: some of it, or the rest, is done.
#[btf_tracepoint(function = "block_rq_complete")]
fn block_complete(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::BlockIo);
    // Nothing to tell; or no disk (questions to a controller), or no room for one more, which is counted.
    let _ = try_block_complete(&ctx);
    0
}

#[inline(always)]
fn try_block_complete(ctx: &BtfTracePointContext) -> Option<()> {
    let request = KernelPtr::new(ctx.arg(0));
    let status: i32 = ctx.arg(1);
    let bytes: u32 = ctx.arg(2);
    let left: u32 = request.load(&REQUEST_BYTES);
    let flags: u32 = request.load(&REQUEST_FLAGS);
    let is_last = bytes >= left;
    let issued = look_up(request, is_last)?;
    let device = match issued.device {
        0 => device_of(disk_of(request)),
        device => device,
    };
    if device == 0 {
        return None;
    }
    let figures = figures_of(device)?;
    let failed = is_failure(status, flags);
    let mut done = Done {
        operation: Operation::of(flags) as u32,
        status,
        bytes,
        padding: 0,
        issued,
        device_ns: UNKNOWN,
        queued_ns: UNKNOWN,
        now_ns: now_ns(),
    };
    let operation = done.operation as usize & 3;
    // SAFETY: the mask keeps it in bounds, for the verifier too.
    unsafe {
        *figures.bytes.get_unchecked_mut(operation) += u64::from(bytes);
        if failed {
            *figures.errors.get_unchecked_mut(operation) += 1;
        }
    }
    if is_last && issued.device != 0 {
        measure(figures, request, &mut done);
    } else if is_last && (left != 0 || done.operation == Operation::Flush as u32) {
        // Not those that only brought a flush about: they end once more when that is over, without being given to the driver.
        figures.untimed += 1;
    }
    let threshold_ns = BLOCK_THRESHOLD_NS.load();
    let over = |time_ns: u64| time_ns != UNKNOWN && time_ns >= threshold_ns;
    if !failed && !over(done.device_ns) && !over(done.queued_ns) {
        return None;
    }
    let lane = if failed && admitted(Kind::BlockIo.number(), done.now_ns, URGENT_PER_SECOND) {
        Lane::Urgent
    } else if may_tell(figures, done.now_ns) {
        Lane::Bulk
    } else {
        count(Kind::BlockIo, |counters| counters.suppressed += 1);
        return None;
    };
    // Taken through memory: each of its values is a case to older verifiers, and all cases of all of them would be followed from here on.
    let scratch = BLOCK_DONE.get_ptr_mut(0)?;
    // SAFETY: a slot of this CPU, valid while the program runs.
    let done = unsafe {
        forget(&raw const done, scratch);
        &*scratch
    };
    tell(request, done, lane);
    Some(())
}

/// Copies a record, a word at a time, so that nothing is known of it any more.
///
/// # Safety
///
/// Both must be valid.
#[inline(always)]
unsafe fn forget(from: *const Done, to: *mut Done) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    for word in 0..size_of::<Done>() / 8 {
        // SAFETY: within both, by the caller's word.
        unsafe { to.add(word).write_volatile(from.add(word).read()) };
    }
}

/// A request that ended, or a part of one.
#[repr(C)]
pub(crate) struct Done {
    operation: u32,
    status: i32,
    bytes: u32,
    padding: u32,
    issued: Issued,
    device_ns: u64,
    queued_ns: u64,
    now_ns: u64,
}

/// What was noted of it, zeros when nothing was; its place is free after its last part.
#[inline(always)]
fn look_up(request: KernelPtr, is_last: bool) -> Option<Issued> {
    let place = place_of(request)?;
    if place.request != request.address() {
        return Some(Issued::default());
    }
    let issued = *place;
    if is_last {
        place.request = 0;
        place.device = 0;
    }
    Some(issued)
}

/// Takes its times, now that its last part is done.
#[inline(always)]
fn measure(figures: &mut DiskFigures, request: KernelPtr, done: &mut Done) {
    done.device_ns = done.now_ns.saturating_sub(done.issued.since_ns);
    let operation = done.operation as usize & 3;
    // SAFETY: the masks keep them in bounds, for the verifier too.
    unsafe {
        let at = operation * HISTOGRAM + bucket_of(done.device_ns, &raw mut figures.scratch);
        *figures.device.get_unchecked_mut(at & (4 * HISTOGRAM - 1)) += 1;
        *figures.device_ns.get_unchecked_mut(operation) += done.device_ns;
    }
    let made_ns: u64 = request.load(&REQUEST_START);
    if made_ns == 0 {
        figures.unqueued += 1;
        return;
    }
    done.queued_ns = done.issued.since_ns.saturating_sub(made_ns);
    figures.queued_ns += done.queued_ns;
    // SAFETY: as above.
    unsafe {
        let at = bucket_of(done.queued_ns, &raw mut figures.scratch);
        *figures.queued.get_unchecked_mut(at) += 1;
    }
}

/// The bucket, taken through memory: after that it is just a number to the verifier, and not as many cases as there are buckets.
///
/// # Safety
///
/// The place must be valid.
#[inline(always)]
unsafe fn bucket_of(time_ns: u64, scratch: *mut u64) -> usize {
    // SAFETY: by the caller's word.
    unsafe {
        scratch.write_volatile(bucket(time_ns) as u64);
        scratch.read_volatile() as usize & (HISTOGRAM - 1)
    }
}

/// So many slow requests of a disk a second are told.
#[inline(always)]
fn may_tell(figures: &mut DiskFigures, now_ns: u64) -> bool {
    if now_ns.wrapping_sub(figures.told_since_ns) >= 1_000_000_000 {
        figures.told_since_ns = now_ns;
        figures.told = 0;
    }
    figures.told += 1;
    figures.told <= SLOW_PER_SECOND
}

#[inline(always)]
fn tell(request: KernelPtr, done: &Done, lane: Lane) {
    let disk = disk_of(request);
    let who = describe_noted(done.issued.task, done.issued.tid);
    if !has_share(Kind::BlockIo, lane, &who, done.now_ns) {
        return;
    }
    emit_in_place(lane, done.now_ns, |record: *mut BlockIo, header| {
        // SAFETY: room for one record, of which every byte is written here.
        unsafe {
            (&raw mut (*record).header).write(header);
            (&raw mut (*record).task).write(who);
            (&raw mut (*record).sector).write(request.load(&REQUEST_SECTOR));
            (&raw mut (*record).device_ns).write(done.device_ns);
            (&raw mut (*record).queued_ns).write(done.queued_ns);
            (&raw mut (*record).charged_cgroup_id).write(charged_cgroup(request));
            (&raw mut (*record).bytes).write(done.bytes);
            (&raw mut (*record).status).write(done.status);
            (&raw mut (*record).major).write(disk.load(&DISK_MAJOR));
            (&raw mut (*record).minor).write(disk.load(&DISK_MINOR));
            (&raw mut (*record).operation).write(done.operation);
            (&raw mut (*record).padding).write(0);
            name_of(disk, &raw mut (*record).disk);
        }
    });
}

/// Copies the disk's name, a word at a time (see `emit::zero`).
#[inline(always)]
#[expect(
    clippy::cast_ptr_alignment,
    reason = "it lies at a multiple of 8 bytes of the record"
)]
unsafe fn name_of(disk: KernelPtr, into: *mut [u8; DISK_LEN]) {
    let words = into.cast::<u64>();
    for word in 0..DISK_LEN / 8 {
        // SAFETY: within the record, by the caller's word.
        unsafe { words.add(word).write(disk.load_past(&DISK_NAME, word * 8)) };
    }
}

/// Id of the cgroup v2 that the request is charged to; 0 when unknown, or when the controller is at v1.
#[inline(always)]
fn charged_cgroup(request: KernelPtr) -> u64 {
    if !known([
        &REQUEST_BIO,
        &BIO_GROUP,
        &GROUP_BLKCG,
        &BLKCG_CGROUP,
        &CGROUP_ROOT,
        &CGROUP_ROOT_HIERARCHY,
        &CGROUP_NODE,
        &NODE_ID,
    ]) {
        return 0;
    }
    let bio = request.follow(&REQUEST_BIO);
    let cgroup = bio
        .follow(&BIO_GROUP)
        .follow(&GROUP_BLKCG)
        .follow(&BLKCG_CGROUP);
    if cgroup
        .follow(&CGROUP_ROOT)
        .load::<u32>(&CGROUP_ROOT_HIERARCHY)
        != 0
    {
        return 0;
    }
    cgroup.follow(&CGROUP_NODE).load(&NODE_ID)
}

/// The request in the program's arguments.
#[inline(always)]
fn request_of(ctx: &BtfTracePointContext) -> KernelPtr {
    // Kept apart: as one load at an address that depends, no verifier takes it.
    if REQUEST_AFTER_QUEUE.load() != 0 {
        KernelPtr::new(core::hint::black_box(ctx.arg(1)))
    } else {
        KernelPtr::new(core::hint::black_box(ctx.arg(0)))
    }
}

/// Its disk; null for a queue without one.
#[inline(always)]
fn disk_of(request: KernelPtr) -> KernelPtr {
    if known([&QUEUE_DISK]) {
        request.follow(&REQUEST_QUEUE).follow(&QUEUE_DISK)
    } else {
        request.follow(&REQUEST_DISK)
    }
}

/// Number of a disk; 0 without one.
#[inline(always)]
fn device_of(disk: KernelPtr) -> u32 {
    device(disk.load(&DISK_MAJOR), disk.load(&DISK_MINOR))
}

/// Its place in the table, or the one that it may take.
#[inline(always)]
fn place_of(request: KernelPtr) -> Option<&'static mut Issued> {
    let table = ISSUED.get_ptr_mut(0)?;
    // The distance from its queue stands for the address: the verifier lets nobody reckon with an address itself.
    let queue = request.follow(&REQUEST_QUEUE);
    let at = pair(request.address().wrapping_sub(queue.address())) & (PAIRS - 1);
    // SAFETY: the map lives as long as the program, and the mask keeps it in bounds, for the verifier too.
    let [first, second] = unsafe { (*table).get_unchecked_mut(at) };
    let address = request.address();
    if first.request == address {
        return Some(first);
    }
    if second.request == address || (first.device != 0 && second.device == 0) {
        return Some(second);
    }
    Some(first)
}

/// Whether it was noted in this life, and not in one that ended unseen (it was merged into another).
#[inline(always)]
fn is_noted(place: &Issued, request: KernelPtr) -> bool {
    place.request == request.address() && place.since_ns == request.load::<u64>(&REQUEST_START)
}

/// Writes down whose it is, and when and where it went.
#[inline(always)]
fn note(place: &mut Issued, request: KernelPtr, now_ns: u64, device: u32) {
    place.request = 0;
    place.since_ns = now_ns;
    // SAFETY: the helper takes nothing and returns a number.
    place.task = unsafe { bpf_get_current_task() };
    place.tid = bpf_get_current_pid_tgid() as u32;
    place.device = device;
    place.request = request.address();
}

/// What this CPU has counted of the disk; none when there are too many disks.
#[inline(always)]
fn figures_of(device: u32) -> Option<&'static mut DiskFigures> {
    if let Some(figures) = DISK_FIGURES.get_ptr_mut(device) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        return Some(unsafe { &mut *figures });
    }
    let zeros = NO_FIGURES.get(0)?;
    // Another CPU may have been faster.
    let _ = DISK_FIGURES.insert(device, zeros, u64::from(BPF_NOEXIST));
    if let Some(figures) = DISK_FIGURES.get_ptr_mut(device) {
        // SAFETY: as above.
        return Some(unsafe { &mut *figures });
    }
    if let Some(left_out) = DISKS_LEFT_OUT.get_ptr_mut(0) {
        // SAFETY: a slot of this CPU, valid while the program runs.
        unsafe { *left_out += 1 };
    }
    None
}
