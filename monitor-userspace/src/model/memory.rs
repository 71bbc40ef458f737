//! Who has the memory of the host, and what would come back of it.

use serde::{Deserialize, Serialize};

use super::ProcessKey;

/// Those who have most memory, in the order of what they have; bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Processes; at most [`Claims::PROCESSES`].
    pub processes: Vec<MemoryClaim>,
    /// Cgroups with all their processes, those of [`Claims::processes`] among them; at most [`Claims::CGROUPS`].
    pub cgroups: Vec<CgroupClaim>,
}

impl Claims {
    /// Most processes that are listed.
    pub const PROCESSES: usize = 48;
    /// Most cgroups that are listed.
    pub const CGROUPS: usize = 16;
}

/// The memory of a process, bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryClaim {
    /// Which.
    pub process: ProcessKey,
    /// Its name.
    pub comm: String,
    /// Its cgroup; 0 where it is not known.
    #[serde(default)]
    pub cgroup_id: u64,
    /// Resident anonymous memory; what it shares with its children since a fork counts for each.
    pub anon: u64,
    /// Resident shared memory, which others may have too.
    pub shmem: u64,
    /// Swapped out.
    pub swap: u64,
    /// What the kernel's OOM killer is told to add, -1000 (never) to 1000.
    #[serde(default)]
    pub oom_score_adj: i32,
}

impl MemoryClaim {
    /// Anonymous memory, resident or swapped out: what is its own, but for pages shared since a fork.
    pub const fn own(&self) -> u64 {
        self.anon.saturating_add(self.swap)
    }
}

/// The memory of all processes of a cgroup (not of those below it), bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupClaim {
    /// Which.
    pub cgroup_id: u64,
    /// How many processes.
    pub processes: u32,
    /// Anonymous memory, resident or swapped out, of all together.
    pub own: u64,
    /// The shared memory of the one that has most: the others are likely to have the same.
    pub shmem: u64,
    /// The lowest `oom_score_adj` among them.
    #[serde(default)]
    pub oom_score_adj: i32,
}

/// What of a process's memory is shared, from its page tables (`/proc/PID/smaps_rollup`); bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryShare {
    /// Which.
    pub process: ProcessKey,
    /// What comes back when it alone ends: pages that nobody else has, and swap.
    pub alone: u64,
    /// Its part of what comes back when all who share with it end too.
    pub together: u64,
}
