//! The end of everything in a cgroup that is a process's own: asked to leave, and then killed until nothing is left.
//!
//! `cgroup.kill` (5.14) ends it at once, whatever is born meanwhile. Where there is none, it is frozen first (v2 since 5.2, the freezer of v1), so that
//! nothing is born while one after the other is killed; without a freezer that is done until nothing is left.

use std::time::{Duration, Instant};

use super::cgroup::{Cgroup, Hierarchy, failed, place};
use super::signals::Held;
use super::{HostError, Opened as _, clock, procfs, whole};
use crate::model::{Time, Whole};

/// Where a process may have a cgroup of its own.
const TREES: [Hierarchy; 5] = [
    Hierarchy::V2,
    Hierarchy::V1("freezer"),
    Hierarchy::V1("pids"),
    Hierarchy::V1("memory"),
    Hierarchy::V1("cpu"),
];
/// How long what was killed may take to be gone.
const DYING: Duration = Duration::from_secs(10);
/// Between two looks.
const SOON: Duration = Duration::from_millis(1);

/// What was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When the first signal was sent.
    pub acted: Time,
    /// How many processes were in it then.
    pub processes: usize,
    /// How many of them had to be killed.
    pub killed: usize,
    /// The folder of the cgroup.
    pub folder: std::path::PathBuf,
}

/// Ends all of it. An error before anything was signalled changes nothing; [`HostError::Undying`] and the like come after.
pub fn end(whole: &Whole, grace: Duration, protected: &[&str]) -> Result<Ended, HostError> {
    let held = whole::open(whole)?;
    let (tree, cgroup) = find(whole, protected)?;
    let processes = cgroup.processes()?.len();
    let acted = clock::now();
    let mut killed = 0;
    if !grace.is_zero() {
        each(tree, &cgroup, &|held| held.terminate())?;
    }
    if !empty_within(&cgroup, grace)? {
        killed = cgroup.processes()?.len();
        // Who of them is protected may have entered since.
        whole::members(whole, protected).or_else(|error| match error {
            // The process itself has left, and others have not.
            HostError::Gone(_) => Ok(Vec::new()),
            error => Err(error),
        })?;
        kill(tree, &cgroup)?;
    }
    held.release_memory();
    // It leaves its cgroup a moment before it has ended. If it has left for another one, it still runs when this is read back.
    let _ended = held.wait(DYING)?;
    Ok(Ended {
        acted,
        processes,
        killed,
        folder: cgroup.path().to_owned(),
    })
}

/// Whether nothing is left in the cgroup of a process that has ended.
pub fn is_empty(folder: &std::path::Path) -> bool {
    Cgroup::open(folder).map_or(true, |cgroup| {
        cgroup.processes().is_ok_and(|pids| pids.is_empty())
    })
}

fn find(whole: &Whole, protected: &[&str]) -> Result<(Hierarchy, Cgroup), HostError> {
    let mut shared = None;
    for tree in TREES {
        match whole::own_cgroup(whole, tree, protected) {
            Ok(Some(cgroup)) => return Ok((tree, cgroup)),
            Ok(None) => {}
            Err(error @ HostError::Untouched(_)) => shared = shared.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(shared.unwrap_or_else(|| {
        HostError::Untouched(format!(
            "{} [{}] has no cgroup of its own: kill_process ends it alone",
            whole.comm, whole.process.pid
        ))
    }))
}

fn kill(tree: Hierarchy, cgroup: &Cgroup) -> Result<(), HostError> {
    let (file, on, off) = match tree {
        Hierarchy::V2 => match cgroup.write("cgroup.kill", "1") {
            Ok(()) => {
                // It may be frozen in another hierarchy, too.
                each(tree, cgroup, &|held| {
                    held.release_memory();
                    Ok(())
                })?;
                return gone(cgroup);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                ("cgroup.freeze", "1", "0")
            }
            Err(error) => return Err(failed(cgroup.path(), "end what is in it", error)),
        },
        Hierarchy::V1(_) => ("freezer.state", "FROZEN", "THAWED"),
    };
    let deadline = Instant::now() + DYING;
    let mut result = Ok(());
    while result.is_ok() && Instant::now() < deadline && !cgroup.processes()?.is_empty() {
        let _no_freezer_here = cgroup.write(file, on);
        result = each(tree, cgroup, &|held| {
            held.kill()?;
            held.release_memory();
            Ok(())
        });
        // What the freezer of v1 holds dies when it is let go.
        let _no_freezer_here = cgroup.write(file, off);
        std::thread::sleep(SOON);
    }
    result.and_then(|()| gone(cgroup))
}

/// Signals each process in it. What has ended meanwhile, or has left the cgroup, is passed over.
fn each(
    tree: Hierarchy,
    cgroup: &Cgroup,
    signal: &dyn Fn(&Held) -> Result<(), HostError>,
) -> Result<(), HostError> {
    for pid in cgroup.processes()? {
        // Opened first, looked up after: what is in it then is what is held.
        let Some(held) = procfs::stat(pid).and_then(|stat| Held::open(stat.key).ok()) else {
            continue;
        };
        if !place(tree, pid).is_some_and(|path| path.starts_with(cgroup.path())) {
            continue;
        }
        match signal(&held) {
            Ok(()) | Err(HostError::Gone(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn empty_within(cgroup: &Cgroup, within: Duration) -> Result<bool, HostError> {
    let deadline = Instant::now() + within;
    loop {
        if cgroup.processes()?.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(SOON);
    }
}

fn gone(cgroup: &Cgroup) -> Result<(), HostError> {
    if empty_within(cgroup, DYING)? {
        return Ok(());
    }
    let hangs = std::io::Error::other(
        "what is in it does not die of SIGKILL; it may hang in the kernel (see /proc/PID/stack of the processes in cgroup.procs)",
    );
    Err(failed(cgroup.path(), "end what is in it", hangs))
}
