//! What the daemon does for itself: it must not die of the pressure that it is there to relieve, nor wait behind the process that it
//! is to end. Services that it starts do not inherit any of it.

#![expect(
    unsafe_code,
    reason = "the allocator's settings and the real-time class have no wrappers"
)]

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::setpriority_process;

/// `oom_score_adj` of the daemon: nearly never the kernel's victim, but not beyond its reach.
const OOM_SCORE_ADJ: &str = "-900";
/// Niceness of the hot thread: before ordinary work, behind real-time tasks.
const NICE: i32 = -15;

/// Stack and heap that a thread of the way to an act has resident from its start, bytes.
const STACK: usize = 192 << 10;
const HEAP: usize = 2 << 20;
/// ... in pieces, so that they come from the heap and stay there.
const PIECE: usize = 64 << 10;

/// Keeps the pages that are in use in memory, and the kernel's OOM killer away. What is refused is only said: the daemon works
/// without it.
pub fn stay_alive() {
    keep_memory();
    // On fault: what is never touched is not made resident.
    if let Err(error) =
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    {
        tracing::info!(%error, "own memory is not locked: it can be swapped out under pressure (needs CAP_IPC_LOCK)");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ) {
        tracing::info!(%error, "not protected from the kernel's OOM killer (needs CAP_SYS_RESOURCE; or OOMScoreAdjust= in the unit)");
    }
}

/// The allocator keeps what it once had, also large pieces: under a storm, the next allocation must not need a page.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    {
        let kept = [
            (libc::M_TRIM_THRESHOLD, 64 << 20),
            (libc::M_MMAP_THRESHOLD, 4 << 20),
        ];
        for (which, value) in kept {
            // SAFETY: it takes two numbers, and is called before there are other threads that allocate much.
            unsafe {
                libc::mallopt(which, value);
            }
        }
    }
}

/// Touches stack and heap of the calling thread, so that they are resident (and locked) before they are needed.
fn warm_up() {
    #[expect(
        clippy::large_stack_arrays,
        reason = "to touch the stack is what it is for"
    )]
    let stack = [0_u8; STACK];
    std::hint::black_box(&stack);
    let pieces: Vec<Vec<u8>> = (0..HEAP / PIECE).map(|_| vec![1; PIECE]).collect();
    std::hint::black_box(&pieces);
}

/// Puts the calling thread before all ordinary work: it looks after the host's memory, needs little time, and is of no use late. Where
/// it may not be real-time, it gets the priority of [`hurry`].
pub fn come_first() {
    warm_up();
    if let Err(error) = rush(true) {
        tracing::debug!(%error, "the memory thread is not real-time (needs CAP_SYS_NICE, and where the CPU controller of cgroup v1 is used, cpu.rt_runtime_us)");
        renice();
    }
}

/// Makes the calling thread real-time, or no longer. Its nice value stays.
pub fn rush(on: bool) -> std::io::Result<()> {
    let (class, sched_priority) = if on {
        (libc::SCHED_RR, 1)
    } else {
        (libc::SCHED_OTHER, 0)
    };
    let first = libc::sched_param { sched_priority };
    let class = class | libc::SCHED_RESET_ON_FORK;
    // SAFETY: it reads one structure of ours; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, class, &raw const first) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Puts the calling thread before ordinary work.
pub fn hurry() {
    warm_up();
    renice();
}

fn renice() {
    #[expect(clippy::disallowed_methods, reason = "it is this very thread")]
    let set = setpriority_process(None, NICE);
    if let Err(error) = set {
        tracing::info!(%error, "the hot thread has no priority over other work (needs CAP_SYS_NICE)");
    }
}

/// A process that was just started is as good a victim for the OOM killer as any: it must not inherit our protection.
pub fn expose(pid: u32) {
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0") {
        tracing::debug!(pid, %error, "cannot reset oom_score_adj of a service");
    }
}
