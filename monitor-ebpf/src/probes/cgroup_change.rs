//! A cgroup was made, renamed or removed.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::Kind;
use monitor_common::probes::cgroup_change::{CgroupChange, MADE, PATH_LEN, REMOVED, RENAMED};

use crate::emit::{Lane, emit_in_place, has_share, now_ns, zero};
use crate::offsets::{CGROUP_NODE, CGROUP_ROOT, CGROUP_ROOT_HIERARCHY, KernelPtr, NODE_ID};
use crate::settings::refuse_if_asked;
use crate::task::describe_current;

/// `cgroup_mkdir(cgrp, path)`
#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_made(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::CgroupChange);
    changed(&ctx, MADE);
    0
}

/// `cgroup_rename(cgrp, path)`
#[btf_tracepoint(function = "cgroup_rename")]
fn cgroup_renamed(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::CgroupChange);
    changed(&ctx, RENAMED);
    0
}

/// `cgroup_rmdir(cgrp, path)`
#[btf_tracepoint(function = "cgroup_rmdir")]
fn cgroup_removed(ctx: BtfTracePointContext) -> i32 {
    refuse_if_asked(Kind::CgroupChange);
    changed(&ctx, REMOVED);
    0
}

#[inline(always)]
fn changed(ctx: &BtfTracePointContext, change: u32) {
    let cgroup = KernelPtr::new(ctx.arg(0));
    let path: *const c_void = ctx.arg(1);
    let who = describe_current();
    let now_ns = now_ns();
    if !has_share(Kind::CgroupChange, Lane::Bulk, &who, now_ns) {
        return;
    }
    let cgroup_id: u64 = cgroup.follow(&CGROUP_NODE).load(&NODE_ID);
    let hierarchy: u32 = cgroup.follow(&CGROUP_ROOT).load(&CGROUP_ROOT_HIERARCHY);
    emit_in_place(Lane::Bulk, now_ns, |record: *mut CgroupChange, header| {
        // SAFETY: room for one record, of which every byte is written here; the helper checks the address of the path, and its
        // answer counts the NUL.
        unsafe {
            (&raw mut (*record).header).write(header);
            (&raw mut (*record).task).write(who);
            (&raw mut (*record).cgroup_id).write(cgroup_id);
            (&raw mut (*record).change).write(change);
            (&raw mut (*record).hierarchy).write(hierarchy);
            (&raw mut (*record).padding).write(0);
            let into = &raw mut (*record).path;
            zero(into);
            let read = bpf_probe_read_kernel_str(into.cast::<c_void>(), PATH_LEN as u32, path);
            let length = match u32::try_from(read) {
                Ok(read) if read < PATH_LEN as u32 => read.saturating_sub(1),
                // As long as there is room for, so probably cut; or not readable.
                _ => PATH_LEN as u32,
            };
            (&raw mut (*record).path_len).write(length);
        }
    });
}
