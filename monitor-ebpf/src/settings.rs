//! The globals, beside the offsets, that userspace sets before loading. Their names are in `monitor_common::counters::settings`.

use aya_ebpf::Global;
use monitor_common::Kind;
use monitor_common::counters;
use monitor_common::probes::packet_drop::REASONS;

#[unsafe(no_mangle)]
pub(crate) static DAEMON_PID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static RUN_QUEUE_THRESHOLD_NS: Global<u64> = Global::new(20_000_000);
#[unsafe(no_mangle)]
pub(crate) static RECLAIM_THRESHOLD_NS: Global<u64> = Global::new(1_000_000);
#[unsafe(no_mangle)]
pub(crate) static BLOCK_THRESHOLD_NS: Global<u64> = Global::new(100_000_000);
#[unsafe(no_mangle)]
pub(crate) static REQUEST_AFTER_QUEUE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static SLOW_REQUEST_NS: Global<u64> = Global::new(1_000_000_000);
#[unsafe(no_mangle)]
pub(crate) static ARRIVALS_ARE_SEGMENTS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static EXIT_TELLS_GROUP: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CURRENT_TASK_TYPED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(crate) static CGROUP_EVENTS_PER_SECOND: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
pub(crate) static FORKS_PER_SECOND: Global<u32> = Global::new(1_000);
#[unsafe(no_mangle)]
pub(crate) static FUTEX: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
pub(crate) static FUTEX_WAITV: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
pub(crate) static SENDING_CALLS: Global<[u32; counters::SENDING_CALLS]> =
    Global::new([u32::MAX; counters::SENDING_CALLS]);
#[unsafe(no_mangle)]
pub(crate) static MEMORY_SUBSYSTEM: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
pub(crate) static DROP_ARGUMENTS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static DROP_CLASSES: Global<[u8; REASONS]> = Global::new([0; REASONS]);
#[unsafe(no_mangle)]
pub(crate) static DAEMON_NETWORK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static REFUSED: Global<u32> = Global::new(0);

/// The [`monitor_common::DropClass`] of a kernel's reason, as a number. The reason must be below [`REASONS`].
#[inline(always)]
pub(crate) fn drop_class(reason: usize) -> u16 {
    // SAFETY: within the table, which a global is and nothing else.
    let class = unsafe {
        (&raw const DROP_CLASSES)
            .cast::<u8>()
            .add(reason)
            .read_volatile()
    };
    u16::from(class)
}

/// Where the tests ask for it, a load that no verifier accepts; otherwise nothing, since the verifier drops the branch.
#[inline(always)]
pub(crate) fn refuse_if_asked(kind: Kind) {
    if REFUSED.load() & (1 << kind.number()) != 0 {
        // SAFETY: never runs; a program that could reach it does not load.
        unsafe { core::ptr::read_volatile(core::ptr::dangling::<u64>()) };
    }
}
