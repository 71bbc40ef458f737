//! What belongs to a process: what is in its service's own cgroup, or else its descendants. What is protected never does: then nothing is
//! done to any of it.
//!
//! A child whose parent has ended has another parent in `/proc`, and is no descendant any more: such a stranger in a process's cgroup makes that
//! cgroup not its own, and it is left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::cgroup::{Cgroup, Hierarchy};
use super::procfs::{self, Stat};
use super::signals::Held;
use super::{HostError, Opened as _};
use crate::model::Whole;

/// The process, held, if it is still the one that was meant.
pub fn open(whole: &Whole) -> Result<Held, HostError> {
    let held = Held::open(whole.process)?;
    match held.name() {
        Some(found) if whole.named && found != whole.comm => Err(HostError::Renamed {
            process: whole.process,
            found,
            meant: whole.comm.clone(),
        }),
        _ => Ok(held),
    }
}

/// The service's own cgroup; none when it has none. One that is not where it was is another.
fn service(whole: &Whole) -> Result<Option<Cgroup>, HostError> {
    if whole.cgroup_id == 0 {
        return Ok(None);
    }
    let found = Cgroup::of(Hierarchy::V2, whole.process.pid)?;
    match found {
        Some(found) if found.id() == whole.cgroup_id => Ok(Some(found)),
        Some(found) => Err(HostError::OtherCgroup(found.path().to_owned())),
        None => Err(HostError::Gone(whole.process)),
    }
}

/// All that belongs to it, itself included. An error where something among it is protected.
pub fn members(whole: &Whole, protected: &[&str]) -> Result<Vec<Stat>, HostError> {
    let found: Vec<Stat> = match service(whole)? {
        Some(cgroup) => {
            let pids = cgroup.processes()?;
            pids.into_iter().filter_map(procfs::stat).collect()
        }
        None => descendants(whole)?,
    };
    let own = procfs::own_line();
    for stat in &found {
        let pid = stat.key.pid;
        if pid <= 2 || own.contains(&pid) {
            let why = format!(
                "{} [{pid}] belongs to {} [{}]: init, a kernel thread, the monitor and what it came from are never touched",
                stat.comm, whole.comm, whole.process.pid
            );
            return Err(HostError::Untouched(why));
        }
        let by_name = protected.contains(&stat.comm.as_str()) || whole.spared.contains(&stat.comm);
        if whole.named && by_name {
            let why = format!(
                "{} [{pid}] belongs to {} [{}], and is protected",
                stat.comm, whole.comm, whole.process.pid
            );
            return Err(HostError::Untouched(why));
        }
    }
    Ok(found)
}

fn descendants(whole: &Whole) -> Result<Vec<Stat>, HostError> {
    let all = procfs::processes().map_err(|source| HostError::System {
        what: "list the processes".to_owned(),
        source,
    })?;
    let mut children: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    let mut found = Vec::new();
    for stat in all {
        if stat.key == whole.process {
            found.push(stat);
        } else {
            children.entry(stat.parent).or_default().push(stat);
        }
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|stat| stat.key.pid) {
        found.extend(children.remove(&parent).unwrap_or_default());
        next += 1;
    }
    if found.is_empty() {
        return Err(HostError::Gone(whole.process));
    }
    Ok(found)
}

/// The cgroup that is its alone in this hierarchy; none when there is no such hierarchy, or it is in its root. An error where it shares it.
pub fn own_cgroup(
    whole: &Whole,
    hierarchy: Hierarchy,
    protected: &[&str],
) -> Result<Option<Cgroup>, HostError> {
    if hierarchy == Hierarchy::V2
        && let Some(cgroup) = service(whole)?
    {
        members(whole, protected)?;
        return Ok(Some(cgroup));
    }
    let Some(cgroup) = Cgroup::of(hierarchy, whole.process.pid)? else {
        return Ok(None);
    };
    // Only a root has neither the one file (v2) nor is without the other (v1).
    let root = match hierarchy {
        Hierarchy::V2 => !cgroup.has("cgroup.events"),
        Hierarchy::V1(_) => cgroup.has("cgroup.sane_behavior"),
    };
    if root {
        return Ok(None);
    }
    // First what is in it, then whose it is: what is born in between is not looked at, and is its own.
    let inside = cgroup.processes()?;
    let own = members(whole, protected)?;
    let own: BTreeSet<u32> = own.iter().map(|stat| stat.key.pid).collect();
    let stranger = inside.into_iter().filter(|pid| !own.contains(pid));
    match stranger.filter_map(procfs::stat).find(|stat| !stat.exiting) {
        Some(stranger) => Err(HostError::Untouched(format!(
            "the cgroup {} is not of {} [{}] alone: {} [{}] is in it, too",
            cgroup.path().display(),
            whole.comm,
            whole.process.pid,
            stranger.comm,
            stranger.key.pid
        ))),
        None => Ok(Some(cgroup)),
    }
}
