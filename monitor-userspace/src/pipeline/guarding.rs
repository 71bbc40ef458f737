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
use crate::host::service_cgroup::{Place, ServiceCgroup};
use crate::kernel::{CgroupWatch, Guard, Guarded, Guards};
use crate::model::ProcessKey;
use crate::record::{Entry, Journal};

/// Where the memory controller's hierarchy is: alone, or as one of v1's.
const MEMORY_ROOTS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// Where v2's is: alone, or beside v1.
const V2_ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

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
    pub(super) fn configure(&self, rules: Vec<GuardRule>, dry_run: bool) {
        if self.guards.is_none() && !rules.is_empty() {
            tracing::error!("no guard is armed: there are no kernel programs");
        }
        let mut state = self.lock();
        if state.rules == rules && state.dry_run == dry_run {
            return;
        }
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
        let armed = self
            .lock()
            .armed
            .values()
            .flatten()
            .any(|(guarded, guard)| *guarded == Guarded::Forks(cgroup_id) && guard.enforce);
        if !armed {
            return;
        }
        let found = CgroupFs::open().ok().flatten().and_then(|tree| {
            let Lookup::Found(path) = tree.path_of(cgroup_id) else {
                return None;
            };
            let path = tree.mount().join(path.trim_start_matches('/'));
            ServiceCgroup::at(&Place {
                path,
                id: cgroup_id,
            })
        });
        let Some(cgroup) = found else {
            tracing::warn!(
                cgroup_id,
                "a fork storm cannot be ended as a whole: its cgroup is gone, or is another user's; its forking processes are killed one by one"
            );
            return;
        };
        match cgroup.end() {
            Ok(true) => {
                tracing::warn!(cgroup_id, "a fork storm was ended with all of its cgroup");
                let entry = Entry::StormEnded { cgroup_id };
                let (now, wall) = (clock::now(), clock::unix_nanos());
                if let Err(error) = self.journal.append(now, wall, vec![entry]) {
                    tracing::error!(cgroup_id, %error, "the end of a fork storm is not in the journal");
                }
            }
            Ok(false) => {}
            Err(error) => tracing::error!(cgroup_id, %error, "a fork storm is not ended"),
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
            self.arm(state, &rule, guarded);
        }
    }

    fn arm_cgroups(&self, state: &mut State) {
        for rule in state.rules.clone() {
            let Target::Cgroup(path) = &rule.target else {
                continue;
            };
            let found = find(rule.kind, path).map(|id| match rule.kind {
                GuardKind::MemoryCeiling => Guarded::CgroupMemory(id),
                GuardKind::ForkStorm => Guarded::Forks(id),
            });
            let armed = state.armed.get(&rule.target).into_iter().flatten();
            let same_kind = |guarded: &Guarded| {
                matches!(guarded, Guarded::Forks(_)) == (rule.kind == GuardKind::ForkStorm)
            };
            let before: Vec<Guarded> = armed
                .map(|(guarded, _)| *guarded)
                .filter(same_kind)
                .collect();
            if found.as_slice() == before.as_slice() {
                if found.is_none() {
                    Self::waits(state, &rule);
                }
                continue;
            }
            for guarded in before {
                self.disarm_one(state, &rule.target, guarded);
            }
            match found {
                Some(guarded) => self.arm(state, &rule, guarded),
                None => Self::waits(state, &rule),
            }
        }
    }

    fn waits(state: &mut State, rule: &GuardRule) {
        let why = "waits: there is no such cgroup yet";
        Self::complain(state, rule, Some(why.to_owned()));
    }

    /// First as one that only reports, which shows whether it can be armed at all; then the intent; then in earnest. Where the intent
    /// cannot be written, it stays at reporting.
    fn arm(&self, state: &mut State, rule: &GuardRule, guarded: Guarded) {
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
        let enforce = !state.dry_run;
        let entry = Entry::Guarded {
            guard: rule.kind.name().to_owned(),
            target: target.clone(),
            limit: guard.limit,
            enforce,
        };
        let written = self
            .journal
            .append(clock::now(), clock::unix_nanos(), vec![entry])
            .and_then(|()| self.journal.sync());
        let mut complaint = None;
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

/// The number of a cgroup, if it is there: that of its folder.
fn find(kind: GuardKind, path: &Path) -> Option<u64> {
    let (roots, file) = match kind {
        GuardKind::MemoryCeiling => (MEMORY_ROOTS, ["memory.usage_in_bytes", "memory.current"]),
        GuardKind::ForkStorm => (V2_ROOTS, ["cgroup.events", "cgroup.type"]),
    };
    let below = path.strip_prefix("/").unwrap_or(path);
    let folders = roots.iter().map(|root| Path::new(root).join(below));
    std::iter::once(PathBuf::from(path))
        .chain(folders)
        .filter(|folder| file.iter().any(|file| folder.join(file).exists()))
        .find_map(|folder| std::fs::metadata(folder).ok())
        .map(|folder| folder.ino())
}
