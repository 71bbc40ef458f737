//! Guards that act in the kernel, at the crossing: memory ceilings of processes and cgroups, and fork limits of cgroups.
//!
//! The program behind memory ceilings is attached while there is at least one, and detached with the last. A guard either enforces
//! (the kernel kills whoever crosses it) or only reports; [`Guards::hold_fire`] turns all of them into ones that only report, and back.
//! Leaves out who may have a guard: that is for the configuration, and policy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use monitor_common::Kind;
use thiserror::Error;

use super::counters::take_map;
use super::programs::{Programs, SwitchError};
use crate::model::ProcessKey;

/// Words of a `monitor_common::probes::memory_ceiling::Ceiling`: pages, start, crossed, seen, and two numbers of 4 bytes.
type CeilingWords = [u64; 5];
/// Words of a `monitor_common::probes::fork_storm::ForkLimit`.
type ForkWords = [u32; 2];

pub(super) struct Maps {
    processes: HashMap<MapData, u32, CeilingWords>,
    cgroups: HashMap<MapData, u64, CeilingWords>,
    cgroup_count: Array<MapData, u32>,
    forks: HashMap<MapData, u64, ForkWords>,
}

impl Maps {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            processes: take_map(object, "PROCESS_CEILINGS")?.try_into()?,
            cgroups: take_map(object, "CGROUP_CEILINGS")?.try_into()?,
            cgroup_count: take_map(object, "CGROUP_CEILING_COUNT")?.try_into()?,
            forks: take_map(object, "FORK_LIMITS")?.try_into()?,
        })
    }
}

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarded {
    /// Resident memory of this process.
    ProcessMemory(ProcessKey),
    /// Memory charged to this cgroup of the memory controller: the inode number of its folder in that hierarchy.
    CgroupMemory(u64),
    /// Processes and threads that members of this cgroup v2 make.
    Forks(u64),
}

/// A guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Bytes, or forks a second.
    pub limit: u64,
    /// Whether whoever crosses it is killed.
    pub enforce: bool,
}

/// Why a guard is not armed.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Its probe cannot be attached.
    #[error(transparent)]
    Probe(#[from] SwitchError),
    /// The kernel's table does not take it.
    #[error(
        "the guard cannot be put into the kernel's table (it holds 1024 processes and 1024 cgroups, 256 fork limits): {0}"
    )]
    Map(#[from] MapError),
    /// It would act on the daemon, or on all there is.
    #[error(
        "cgroup {0} holds the daemon itself: a fork limit there could kill it or whoever must repair the host"
    )]
    Ourselves(u64),
}

struct State {
    maps: Maps,
    armed: BTreeMap<Guarded, Guard>,
    hold_fire: bool,
}

/// Arms and disarms guards. All clones are of the same set.
#[derive(Clone)]
pub struct Guards {
    state: Arc<Mutex<State>>,
    programs: Programs,
}

impl std::fmt::Debug for Guards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guards")
            .field("armed", &self.lock().armed)
            .finish_non_exhaustive()
    }
}

impl Guards {
    pub(super) fn new(maps: Maps, programs: Programs) -> Self {
        let state = State {
            maps,
            armed: BTreeMap::new(),
            hold_fire: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            programs,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a guard, or changes one; a memory ceiling that was crossed may be crossed again.
    pub fn arm(&self, guarded: Guarded, guard: Guard) -> Result<(), GuardError> {
        if let Guarded::Forks(cgroup_id) = guarded
            && own_cgroup().is_some_and(|own| own == cgroup_id)
        {
            return Err(GuardError::Ourselves(cgroup_id));
        }
        let probe = match guarded {
            Guarded::Forks(_) => Kind::ForkStorm,
            Guarded::ProcessMemory(_) | Guarded::CgroupMemory(_) => Kind::MemoryCeiling,
        };
        self.programs.attach(probe)?;
        let mut state = self.lock();
        let put = state.put(guarded, guard);
        if put.is_ok() {
            state.armed.insert(guarded, guard);
        }
        let armed = put.and_then(|()| state.count_cgroups());
        self.detach_unused(&state);
        Ok(armed?)
    }

    /// The program that looks at every page is attached no longer than somebody has a ceiling.
    fn detach_unused(&self, state: &State) {
        let is_ceiling = |guarded: &Guarded| !matches!(guarded, Guarded::Forks(_));
        if !state.armed.keys().any(is_ceiling) {
            self.programs.detach(Kind::MemoryCeiling);
        }
    }

    /// Takes a guard back; nothing changes where there is none.
    pub fn disarm(&self, guarded: Guarded) {
        let mut state = self.lock();
        state.take_out(guarded);
        self.detach_unused(&state);
    }

    /// While on, nothing is killed: guards only report.
    pub fn hold_fire(&self, on: bool) {
        let mut state = self.lock();
        if state.hold_fire == on {
            return;
        }
        state.hold_fire = on;
        let armed: Vec<_> = state
            .armed
            .iter()
            .map(|(of, guard)| (*of, *guard))
            .collect();
        for (guarded, guard) in armed {
            if let Err(error) = state.put(guarded, guard) {
                tracing::error!(?guarded, %error, "a guard in the kernel cannot be changed");
            }
        }
    }

    /// Whether guards only report, for now.
    pub fn holds_fire(&self) -> bool {
        self.lock().hold_fire
    }

    /// What is armed.
    pub fn armed(&self) -> BTreeMap<Guarded, Guard> {
        self.lock().armed.clone()
    }
}

impl State {
    fn put(&mut self, guarded: Guarded, guard: Guard) -> Result<(), MapError> {
        let enforce = guard.enforce && !self.hold_fire;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let pages = guard.limit / page;
        match guarded {
            Guarded::ProcessMemory(process) => {
                let words = [pages, process.start_ticks, 0, u64::MAX, number(enforce)];
                self.maps.processes.insert(process.pid, words, 0)
            }
            Guarded::CgroupMemory(cgroup_id) => {
                let words = [pages, 0, 0, u64::MAX, number(enforce)];
                self.maps.cgroups.insert(cgroup_id, words, 0)
            }
            Guarded::Forks(cgroup_id) => {
                let per_second = u32::try_from(guard.limit).unwrap_or(u32::MAX);
                let words = [per_second, u32::from(enforce)];
                self.maps.forks.insert(cgroup_id, words, 0)
            }
        }
    }

    fn take_out(&mut self, guarded: Guarded) {
        if self.armed.remove(&guarded).is_none() {
            return;
        }
        let removed = match guarded {
            Guarded::ProcessMemory(process) => self.maps.processes.remove(&process.pid),
            Guarded::CgroupMemory(cgroup_id) => self.maps.cgroups.remove(&cgroup_id),
            Guarded::Forks(cgroup_id) => self.maps.forks.remove(&cgroup_id),
        };
        if let Err(error) = removed.and_then(|()| self.count_cgroups()) {
            tracing::error!(?guarded, %error, "a guard in the kernel cannot be taken back");
        }
    }

    fn count_cgroups(&mut self) -> Result<(), MapError> {
        let cgroups = self
            .armed
            .keys()
            .filter(|guarded| matches!(guarded, Guarded::CgroupMemory(_)));
        let count = u32::try_from(cgroups.count()).unwrap_or(u32::MAX);
        self.maps.cgroup_count.set(0, count, 0)
    }
}

/// The two numbers of 4 bytes at the end of a ceiling, the second of which is always 0, as one of 8.
fn number(enforce: bool) -> u64 {
    let [a, b, c, d] = u32::from(enforce).to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

/// Id of the daemon's own cgroup v2, where it can be told.
fn own_cgroup() -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(|root| std::path::Path::new(root).join(path))
        .filter(|folder| folder.join("cgroup.procs").exists())
        .find_map(|folder| std::fs::metadata(folder).ok())
        .map(|folder| folder.ino())
}
