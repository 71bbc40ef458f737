//! What the daemon does for itself: it must not die of the pressure that it is there to relieve, nor wait behind the process that it
//! is to end. Services that it starts do not inherit any of it.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::setpriority_process;

/// `oom_score_adj` of the daemon: nearly never the kernel's victim, but not beyond its reach.
const OOM_SCORE_ADJ: &str = "-900";
/// Niceness of the hot thread: before ordinary work, behind real-time tasks.
const NICE: i32 = -15;

/// Keeps the pages that are in use in memory, and the kernel's OOM killer away. What is refused is only said: the daemon works
/// without it.
pub fn stay_alive() {
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

/// Puts the calling thread before ordinary work.
pub fn hurry() {
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
