//! Which guards are armed in the kernel: those that the configuration names, for services that run and cgroups that exist.
//!
//! The kernel acts on them by itself, so consent and intent come first: a guard kills only where the configuration says so, never in a
//! dry run, and only once its arming stands in the journal. Also names services' cgroups to the kernel's figures.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::guard::{GuardKind, GuardRule, Target};
use crate::host::cgroupfs::{CgroupFs, Lookup};
use crate::host::clock;
use crate::host::procfs;
use crate::host::service_cgroup::{Place, ServiceCgroup};
use crate::kernel::{CgroupWatch, Guard, Guarded, Guards};
use crate::model::ProcessKey;
use crate::record::{Entry, Journal};

/// Where the memory controller's hierarchy is: alone, or as one of v1's.
const MEMORY_ROOTS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// Where v2's is: alone, or beside v1.
const V2_ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// Most processes, and most cgroups, that are looked through for protected ones.
const LOOKED_THROUGH: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Guarding {
    guards: Option<Guards>,
    cgroups: Option<CgroupWatch>,
    journal: Arc<Journal>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<GuardRule>,
    dry_run: bool,
    /// Names of processes that are never ended, other than services'.
    protected: Vec<String>,
    /// Services that run: main process and cgroup.
    running: BTreeMap<String, (ProcessKey, u64)>,
    /// Cgroups whose figures are kept: each start of a service has one of its own.
    watched: BTreeMap<String, u64>,
    armed: BTreeMap<Target, Vec<(Guarded, Guard)>>,
    complaints: BTreeMap<(GuardKind, Target), String>,
}

impl Guarding {
    /// Without a kernel half, nothing is guarded, and that is said when something should be.
    pub(super) fn new(
        guards: Option<Guards>,
        cgroups: Option<CgroupWatch>,
        journal: Arc<Journal>,
    ) -> Self {
        Self {
            guards,
            cgroups,
            journal,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the configuration wants from now on.
    pub(super) fn configure(&self, rules: Vec<GuardRule>, dry_run: bool, protected: &[String]) {
        if self.guards.is_none() && !rules.is_empty() {
            tracing::error!("no guard is armed: there are no kernel programs");
        }
        let mut state = self.lock();
        if state.rules == rules && state.dry_run == dry_run && state.protected == protected {
            return;
        }
        state.protected = protected.to_vec();
        state.rules = rules;
        state.dry_run = dry_run;
        state.complaints.clear();
        let armed: Vec<Target> = state.armed.keys().cloned().collect();
        for target in armed {
            self.disarm(&mut state, &target);
        }
        let running: Vec<String> = state.running.keys().cloned().collect();
        for service in running {
            self.arm_service(&mut state, &service);
        }
        self.arm_cgroups(&mut state);
    }

    /// A service runs as this process.
    pub(super) fn started(&self, service: &str, process: ProcessKey, cgroup_id: u64) {
        let mut state = self.lock();
        state
            .running
            .insert(service.to_owned(), (process, cgroup_id));
        self.arm_service(&mut state, service);
        let before = state.watched.insert(service.to_owned(), cgroup_id);
        if let Some(before) = before.filter(|before| *before != cgroup_id) {
            self.unwatch(before);
        }
        if let Some(cgroups) = self.cgroups.as_ref().filter(|_| cgroup_id != 0)
            && let Err(error) = cgroups.watch(cgroup_id)
        {
            tracing::warn!(%service, %error, "no figures of its own");
        }
    }

    /// It does not run any more; `for_good` when it is not to run again either.
    pub(super) fn ended(&self, service: &str, for_good: bool) {
        let mut state = self.lock();
        self.disarm(&mut state, &Target::Service(service.to_owned()));
        state.running.remove(service);
        if for_good && let Some(cgroup_id) = state.watched.remove(service) {
            self.unwatch(cgroup_id);
        }
    }

    /// The kernel has killed whoever forked beyond the limit, but a fork that is killed leaves its child: all of the cgroup goes at once.
    pub(super) fn end_storm(&self, cgroup_id: u64) {
        let target = {
            let state = self.lock();
            let of_it = |(guarded, guard): &(Guarded, Guard)| {
                *guarded == Guarded::Forks(cgroup_id) && guard.enforce
            };
            let mut armed = state.armed.iter();
            let found = armed.find(|(_, armed)| armed.iter().any(of_it));
            found.map(|(target, _)| target.clone())
        };
        let (Some(target), Some(guards)) = (target, &self.guards) else {
            return;
        };
        let folder = CgroupFs::open().ok().flatten().and_then(|tree| {
            let Lookup::Found(path) = tree.path_of(cgroup_id) else {
                return None;
            };
            Some(tree.mount().join(path.trim_start_matches('/')))
        });
        let cgroup = folder.and_then(|path| {
            let holds = self.precious(&target, &path);
            if let Some(holds) = holds {
                tracing::error!(%target, "a fork storm is not ended as a whole: {holds}");
                return None;
            }
            ServiceCgroup::at(&Place {
                path,
                id: cgroup_id,
            })
        });
        let Some(cgroup) = cgroup else {
            tracing::warn!(
                %target,
                "a fork storm cannot be ended as a whole: its cgroup is gone, is another user's, or holds what is protected; its forking processes are killed one by one"
            );
            return;
        };
        // Nothing acts while the journal cannot be written.
        let entry = Entry::StormEnding {
            target: target.to_string(),
            cgroup_id,
        };
        let written = self
            .journal
            .announce(clock::now(), clock::unix_nanos(), entry);
        if guards.holds_fire() || written.is_err() {
            tracing::error!(%target, "a fork storm is not ended: nothing may act");
            return;
        }
        match cgroup.end() {
            Ok(true) => {
                tracing::warn!(%target, "a fork storm was ended with all of its cgroup");
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%target, %error, "a fork storm is not ended"),
        }
    }

    /// What must not be ended with a cgroup that is named by its path. Services are the configuration's own, and not covered by names.
    fn precious(&self, target: &Target, folder: &Path) -> Option<String> {
        match target {
            Target::Service(_) => None,
            Target::Cgroup(_) => precious(folder, &self.lock().protected),
        }
    }

    fn unwatch(&self, cgroup_id: u64) {
        if let Some(cgroups) = &self.cgroups
            && let Err(error) = cgroups.unwatch(cgroup_id)
        {
            tracing::debug!(cgroup_id, %error, "its figures stay");
        }
    }

    /// Looks for cgroups that have come, gone, or been made anew.
    pub(super) fn look(&self) {
        let mut state = self.lock();
        self.arm_cgroups(&mut state);
    }

    fn arm_service(&self, state: &mut State, service: &str) {
        let target = Target::Service(service.to_owned());
        self.disarm(state, &target);
        let Some((process, cgroup_id)) = state.running.get(service).copied() else {
            return;
        };
        let of_it = state.rules.iter().filter(|rule| rule.target == target);
        for rule in of_it.cloned().collect::<Vec<_>>() {
            let guarded = match rule.kind {
                GuardKind::MemoryCeiling => Guarded::ProcessMemory(process),
                GuardKind::ForkStorm if cgroup_id == 0 => {
                    let why = "is not armed: the service has no cgroup of its own";
                    Self::complain(state, &rule, Some(why.to_owned()));
                    continue;
                }
                GuardKind::ForkStorm => Guarded::Forks(cgroup_id),
            };
            self.arm(state, &rule, guarded, None);
        }
    }

    fn arm_cgroups(&self, state: &mut State) {
        for rule in state.rules.clone() {
            let Target::Cgroup(path) = &rule.target else {
                continue;
            };
            let found = find(rule.kind, path).map(|(folder, id)| {
                let guarded = match rule.kind {
                    GuardKind::MemoryCeiling => Guarded::CgroupMemory(id),
                    GuardKind::ForkStorm => Guarded::Forks(id),
                };
                (guarded, precious(&folder, &state.protected))
            });
            let same_kind = |guarded: &Guarded| {
                matches!(guarded, Guarded::Forks(_)) == (rule.kind == GuardKind::ForkStorm)
            };
            let armed = state.armed.get(&rule.target).into_iter().flatten();
            let before: Vec<(Guarded, bool)> = armed
                .filter(|(guarded, _)| same_kind(guarded))
                .map(|(guarded, guard)| (*guarded, guard.enforce))
                .collect();
            let wanted = found
                .as_ref()
                .map(|(guarded, holds)| (*guarded, !state.dry_run && holds.is_none()));
            if wanted.is_some() && wanted.as_slice() == before.as_slice() {
                continue;
            }
            for (guarded, _) in before {
                self.disarm_one(state, &rule.target, guarded);
            }
            match found {
                Some((guarded, holds)) => self.arm(state, &rule, guarded, holds),
                None => Self::waits(state, &rule),
            }
        }
    }

    fn waits(state: &mut State, rule: &GuardRule) {
        let why = "waits: there is no such cgroup yet";
        Self::complain(state, rule, Some(why.to_owned()));
    }

    /// First as one that only reports, which shows whether it can be armed at all; then the intent; then in earnest. Where the intent
    /// cannot be written, or where it `holds` what must not be ended, it stays at reporting.
    fn arm(&self, state: &mut State, rule: &GuardRule, guarded: Guarded, holds: Option<String>) {
        let Some(guards) = &self.guards else { return };
        let target = rule.target.to_string();
        let mut guard = Guard {
            limit: rule.limit,
            enforce: false,
        };
        if let Err(error) = guards.arm(guarded, guard) {
            Self::complain(state, rule, Some(format!("is not armed: {error}")));
            return;
        }
        let enforce = !state.dry_run && holds.is_none();
        let entry = Entry::Guarded {
            guard: rule.kind.name().to_owned(),
            target: target.clone(),
            limit: guard.limit,
            enforce,
        };
        let written = self
            .journal
            .announce(clock::now(), clock::unix_nanos(), entry);
        let mut complaint = holds.map(|holds| format!("only reports: {holds}"));
        match written {
            Err(error) => {
                let why = "only reports: its arming cannot be written into the journal";
                complaint = Some(format!("{why} ({error})"));
            }
            Ok(()) if enforce => {
                guard.enforce = true;
                if let Err(error) = guards.arm(guarded, guard) {
                    guard.enforce = false;
                    complaint = Some(format!("only reports: {error}"));
                }
            }
            Ok(()) => {}
        }
        Self::complain(state, rule, complaint);
        tracing::debug!(guard = rule.kind.name(), %target, limit = guard.limit, enforce = guard.enforce, "armed in the kernel");
        let armed = state.armed.entry(rule.target.clone()).or_default();
        armed.push((guarded, guard));
    }

    /// Says once what keeps a guard from what it should be, and shows it until it is over.
    fn complain(state: &mut State, rule: &GuardRule, why: Option<String>) {
        let key = (rule.kind, rule.target.clone());
        let Some(why) = why else {
            state.complaints.remove(&key);
            return;
        };
        let text = format!("guard {} on {} {why}", rule.kind.name(), rule.target);
        if state.complaints.insert(key, text.clone()).as_ref() != Some(&text) {
            tracing::error!("{text}");
        }
    }

    /// What keeps guards from what they should be.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.lock().complaints.values().cloned().collect()
    }

    fn disarm(&self, state: &mut State, target: &Target) {
        let Some(guards) = &self.guards else { return };
        for (guarded, _) in state.armed.remove(target).unwrap_or_default() {
            guards.disarm(guarded);
        }
    }

    fn disarm_one(&self, state: &mut State, target: &Target, guarded: Guarded) {
        if let Some(guards) = &self.guards {
            guards.disarm(guarded);
        }
        if let Some(armed) = state.armed.get_mut(target) {
            armed.retain(|(other, _)| *other != guarded);
        }
    }
}

/// A cgroup's folder and number, if it is there.
fn find(kind: GuardKind, path: &Path) -> Option<(PathBuf, u64)> {
    let (roots, file) = match kind {
        GuardKind::MemoryCeiling => (MEMORY_ROOTS, ["memory.usage_in_bytes", "memory.current"]),
        GuardKind::ForkStorm => (V2_ROOTS, ["cgroup.events", "cgroup.type"]),
    };
    let below = path.strip_prefix("/").unwrap_or(path);
    let folders = roots.iter().map(|root| Path::new(root).join(below));
    std::iter::once(PathBuf::from(path))
        .chain(folders)
        .filter(|folder| file.iter().any(|file| folder.join(file).exists()))
        .find_map(|folder| {
            let id = std::fs::metadata(&folder).ok()?.ino();
            Some((folder, id))
        })
}

/// The first process in a cgroup, or below it, that must not be ended: the daemon, one it came from, or one of a protected name. What is
/// too large to be looked through counts as if it held one.
fn precious(folder: &Path, protected: &[String]) -> Option<String> {
    let own = procfs::own_line();
    let mut folders = vec![folder.to_owned()];
    let (mut seen, mut processes) = (0, 0);
    while let Some(folder) = folders.pop() {
        seen += 1;
        let members = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|pid| pid.parse::<u32>().ok()) {
            processes += 1;
            if own.contains(&pid) {
                return Some(format!("the daemon, or what started it, is in it [{pid}]"));
            }
            let comm = procfs::stat(pid).map(|stat| stat.comm);
            if let Some(comm) = comm.filter(|comm| protected.contains(comm)) {
                return Some(format!("{comm} [{pid}] is in it, which is protected"));
            }
        }
        if seen > LOOKED_THROUGH || processes > LOOKED_THROUGH {
            return Some(format!(
                "it has more than {LOOKED_THROUGH} processes or cgroups"
            ));
        }
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(
            below
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    None
}
