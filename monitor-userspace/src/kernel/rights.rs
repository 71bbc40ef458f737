//! What the daemon must be allowed, checked before the kernel says no in its own words.

use std::os::unix::fs::MetadataExt;

use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

use super::KernelError;

/// Inode number of the initial PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Refuses where nothing can work, or where process ids would mean other processes than the kernel's.
pub(super) fn check() -> Result<(), KernelError> {
    let held =
        rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    // CAP_SYS_ADMIN holds the rights that 5.8 split off into the other two.
    let wanted = [
        ("CAP_BPF", CapabilitySet::BPF),
        ("CAP_PERFMON", CapabilitySet::PERFMON),
        ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
    ];
    if !held.contains(CapabilitySet::SYS_ADMIN) {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(_, right)| !held.contains(*right))
            .map(|(name, _)| *name)
            .collect();
        return Err(KernelError::Rights {
            missing: missing.join(" and "),
        });
    }
    let namespace = std::fs::metadata("/proc/self/ns/pid").map(|file| file.ino());
    if namespace.is_ok_and(|inode| inode != INITIAL_PID_NAMESPACE) {
        return Err(KernelError::PidNamespace);
    }
    // Before 5.11, maps count against the limit of locked memory. Where it cannot be raised, loading says so.
    let _ = rustix::process::setrlimit(
        Resource::Memlock,
        Rlimit {
            current: None,
            maximum: None,
        },
    );
    Ok(())
}

/// The lockdown mode in force, if it is one that can forbid kernel programs.
pub(super) fn lockdown() -> Option<String> {
    let modes = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mode = modes.split_once('[')?.1.split_once(']')?.0;
    (mode != "none").then(|| mode.to_owned())
}
