//! Who has the memory: the largest processes and cgroups, from one read of the task iterator; from `/proc` where that is off, which
//! then knows only what is resident.

use std::cmp::Reverse;
use std::collections::HashMap;

use monitor_common::probes::task_snapshot::{FLAG_KERNEL_THREAD, FLAG_LEADER, TaskSnapshot};

use crate::host::procfs;
use crate::kernel::Snapshot;
use crate::model::{CgroupClaim, Claims, MemoryClaim, ProcessKey};

/// Where they are read from.
#[derive(Debug)]
pub(super) struct Table {
    snapshot: Option<Snapshot>,
    /// Kept, so that it is made resident once.
    buffer: Vec<TaskSnapshot>,
}

/// Threads that there is room for from the start.
const ROOM: usize = 4096;

impl Table {
    pub(super) fn new(snapshot: Option<Snapshot>) -> Self {
        let room = if snapshot.is_some() { ROOM } else { 0 };
        Self {
            snapshot,
            buffer: Vec::with_capacity(room),
        }
    }

    /// None when it cannot be read now; it is tried again at the next look.
    pub(super) fn read(&mut self) -> Option<Claims> {
        let all = match &mut self.snapshot {
            Some(snapshot) => {
                snapshot.read(&mut self.buffer).ok()?;
                of_threads(&self.buffer, procfs::page_size())
            }
            None => of_files()?,
        };
        Some(largest(all))
    }
}

fn of_threads(threads: &[TaskSnapshot], page_size: u64) -> Vec<MemoryClaim> {
    let leads = |thread: &&TaskSnapshot| {
        thread.flags & FLAG_LEADER != 0 && thread.flags & FLAG_KERNEL_THREAD == 0
    };
    let bytes = |pages: u64| pages.saturating_mul(page_size);
    let claims = threads.iter().filter(leads).map(|leader| MemoryClaim {
        process: ProcessKey::from_task(&leader.task),
        comm: leader.task.comm().to_owned(),
        cgroup_id: leader.task.cgroup_id,
        anon: bytes(leader.anon_pages),
        shmem: bytes(leader.shmem_pages),
        swap: bytes(leader.swap_pages),
        oom_score_adj: leader.oom_score_adj,
    });
    claims.collect()
}

fn of_files() -> Option<Vec<MemoryClaim>> {
    let processes = procfs::processes().ok()?;
    let claims = processes.into_iter().map(|stat| MemoryClaim {
        process: stat.key,
        comm: stat.comm,
        cgroup_id: 0,
        anon: stat.resident_pages.saturating_mul(procfs::page_size()),
        shmem: 0,
        swap: 0,
        oom_score_adj: 0,
    });
    Some(claims.collect())
}

/// The largest of all, and the cgroups of all.
fn largest(mut all: Vec<MemoryClaim>) -> Claims {
    let mut cgroups: HashMap<u64, CgroupClaim> = HashMap::new();
    for claim in all.iter().filter(|claim| claim.cgroup_id != 0) {
        let of = cgroups.entry(claim.cgroup_id).or_insert(CgroupClaim {
            cgroup_id: claim.cgroup_id,
            oom_score_adj: claim.oom_score_adj,
            ..CgroupClaim::default()
        });
        of.processes += 1;
        of.own = of.own.saturating_add(claim.own());
        of.shmem = of.shmem.max(claim.shmem);
        of.oom_score_adj = of.oom_score_adj.min(claim.oom_score_adj);
    }
    let size = |claim: &MemoryClaim| claim.own().saturating_add(claim.shmem);
    all.sort_unstable_by_key(|claim| Reverse(size(claim)));
    all.truncate(Claims::PROCESSES);
    all.retain(|claim| size(claim) > 0);
    let mut cgroups: Vec<CgroupClaim> = cgroups.into_values().collect();
    cgroups.sort_unstable_by_key(|claim| {
        (
            Reverse(claim.own.saturating_add(claim.shmem)),
            claim.cgroup_id,
        )
    });
    cgroups.truncate(Claims::CGROUPS);
    Claims {
        processes: all,
        cgroups,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pid: u32, cgroup_id: u64, anon: u64, shmem: u64) -> MemoryClaim {
        MemoryClaim {
            process: ProcessKey {
                pid,
                start_ticks: 1,
            },
            comm: "postgres".to_owned(),
            cgroup_id,
            anon,
            shmem,
            swap: 5,
            oom_score_adj: if pid == 3 { -900 } else { 0 },
        }
    }

    #[test]
    fn a_cgroup_is_counted_whole_and_its_shared_memory_once() {
        let mut all: Vec<_> = (0..100).map(|pid| claim(pid, 7, 10, 4_000)).collect();
        all.push(claim(200, 8, 9_000, 0));
        let claims = largest(all);
        assert_eq!(claims.processes.len(), Claims::PROCESSES);
        assert_eq!(
            claims.processes.first().map(|claim| claim.process.pid),
            Some(200)
        );
        let postgres = claims.cgroups.iter().find(|claim| claim.cgroup_id == 7);
        let whole = CgroupClaim {
            cgroup_id: 7,
            processes: 100,
            own: 1_500,
            shmem: 4_000,
            oom_score_adj: -900,
        };
        assert_eq!(postgres, Some(&whole));
    }

    #[test]
    fn without_the_iterator_the_table_comes_from_files() {
        let claims = Table::new(None).read().expect("it reads");
        let own = std::process::id();
        assert!(claims.processes.len() <= Claims::PROCESSES);
        assert!(claims.cgroups.is_empty());
        assert!(
            claims
                .processes
                .iter()
                .any(|claim| claim.process.pid == own)
                || claims.processes.len() == Claims::PROCESSES
        );
    }
}
