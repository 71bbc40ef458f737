//! Who has the host's memory, who takes more of it, and what would come back of whom. Bounded by what a sample holds.

use std::collections::HashMap;
use std::time::Duration;

use super::super::float;
use super::victim::Candidate;
use crate::detectors::subject_of;
use crate::model::{
    CgroupClaim, Claims, MemoryClaim, MemoryShare, ProcessKey, ProcessUsage, Service, Subject,
    Time, World,
};

/// Two tables this close together tell nothing of growth.
const TOO_CLOSE: Duration = Duration::from_millis(4);
/// After claims, the plain table is not needed for so long.
const FRESH: Duration = Duration::from_secs(5);
/// `oom_score_adj` of those that are never to be killed.
const NEVER: i32 = -1000;

#[derive(Clone, Debug)]
struct Entry {
    claim: MemoryClaim,
    /// Bytes a second, of late.
    growth: f64,
}

/// A share, and what the process had when it was read.
#[derive(Clone, Copy, Debug)]
struct Shared {
    share: MemoryShare,
    had: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: HashMap<ProcessKey, Entry>,
    cgroups: HashMap<u64, CgroupClaim>,
    shares: HashMap<ProcessKey, Shared>,
    /// When the last table was read.
    at: Option<Time>,
    /// When the last one was that says more than what is resident.
    claimed: Option<Time>,
}

fn has(claim: &MemoryClaim) -> u64 {
    claim.own().saturating_add(claim.shmem)
}

impl Ledger {
    /// The plain table: all that is known where nobody reads more, and while there is plenty.
    pub(super) fn processes(&mut self, table: &[ProcessUsage], at: Time) {
        if self
            .claimed
            .is_some_and(|claimed| at.since(claimed) < FRESH)
        {
            return;
        }
        let claim = |usage: &ProcessUsage| MemoryClaim {
            process: usage.process,
            comm: usage.comm.clone(),
            cgroup_id: 0,
            anon: usage.resident,
            shmem: 0,
            swap: 0,
            oom_score_adj: 0,
        };
        self.cgroups.clear();
        self.take(
            table.iter().map(claim).collect(),
            at,
            self.claimed.is_some(),
        );
        self.claimed = None;
    }

    pub(super) fn claims(&mut self, claims: &Claims, at: Time) {
        self.cgroups = claims
            .cgroups
            .iter()
            .map(|claim| (claim.cgroup_id, *claim))
            .collect();
        // What is resident does not compare with what is claimed.
        self.take(claims.processes.clone(), at, self.claimed.is_none());
        self.claimed = Some(at);
    }

    fn take(&mut self, table: Vec<MemoryClaim>, at: Time, anew: bool) {
        let elapsed = self.at.map(|last| at.since(last));
        let close = elapsed.is_some_and(|elapsed| elapsed < TOO_CLOSE);
        let before = std::mem::take(&mut self.entries);
        let growth = |claim: &MemoryClaim| {
            let known = before.get(&claim.process);
            let was = known.map_or(0.0, |entry| entry.growth);
            let Some(elapsed) = elapsed.filter(|_| !anew && !close) else {
                return was;
            };
            // Who was not among the largest before has come to be since, or was small.
            let had = known.map_or(0, |entry| has(&entry.claim));
            let now = float(has(claim).saturating_sub(had)) / elapsed.as_secs_f64().max(0.001);
            if known.is_some() {
                f64::midpoint(was, now).max(now / 2.0)
            } else {
                now
            }
        };
        self.entries = table
            .into_iter()
            .map(|claim| {
                let growth = growth(&claim);
                (claim.process, Entry { claim, growth })
            })
            .collect();
        if !close {
            self.at = Some(at);
        }
        self.shares
            .retain(|process, _| self.entries.contains_key(process));
    }

    pub(super) fn shares(&mut self, shares: &[MemoryShare]) {
        for share in shares {
            if let Some(entry) = self.entries.get(&share.process) {
                let had = has(&entry.claim);
                let share = *share;
                self.shares.insert(share.process, Shared { share, had });
            }
        }
    }

    /// Whether this process is not among those that have memory, by a table of after `since`.
    pub(super) fn is_gone(&self, process: ProcessKey, since: Time) -> bool {
        let newer = self.at.is_some_and(|at| at > since);
        newer && !self.entries.contains_key(&process)
    }

    /// What of one process comes back when it alone ends, and whether its page tables were looked at.
    fn alone(&self, claim: &MemoryClaim) -> (u64, bool) {
        match self.shares.get(&claim.process) {
            // What it took since is most likely its own.
            Some(Shared { share, had }) => {
                let since = has(claim).saturating_sub(*had);
                (share.alone.saturating_add(since).min(has(claim)), true)
            }
            None => (claim.own(), false),
        }
    }

    /// What comes back when all of a cgroup end.
    fn together(&self, cgroup: &CgroupClaim) -> (u64, bool) {
        let (mut back, mut listed, mut exact) = (0_u64, 0_u64, false);
        let members = self.entries.values();
        for Entry { claim, .. } in members.filter(|entry| entry.claim.cgroup_id == cgroup.cgroup_id)
        {
            listed = listed.saturating_add(claim.own());
            let part = match self.shares.get(&claim.process) {
                Some(Shared { share, had }) => {
                    exact = true;
                    let since = has(claim).saturating_sub(*had);
                    share.together.saturating_add(since).min(has(claim))
                }
                None => claim.own(),
            };
            back = back.saturating_add(part);
        }
        back = back.saturating_add(cgroup.own.saturating_sub(listed));
        // A part of the shared memory stands in each share that was read.
        if !exact {
            back = back.saturating_add(cgroup.shmem);
        }
        (back, exact)
    }

    /// All whose end could be thought of: services as a whole where their cgroup is known, and processes.
    pub(super) fn candidates(&self, world: &World) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = self
            .cgroups
            .values()
            .filter_map(|cgroup| {
                let service = world.service_of_cgroup(cgroup.cgroup_id)?;
                self.whole(cgroup, service, world)
            })
            .collect();
        let processes = self.entries.values().filter_map(|entry| {
            let claim = &entry.claim;
            let service = world.service_of(claim.process);
            let of_cgroup = world.service_of_cgroup(claim.cgroup_id);
            let named = world.groups.contains_key(&claim.comm);
            // A part of a service goes with the whole of it, but where it has a name of its own.
            let part = of_cgroup.is_some() && self.cgroups.contains_key(&claim.cgroup_id);
            if (part && (service.is_some() || !named))
                || service.is_some_and(|service| service.in_action)
                || untouchable(claim.process, claim.oom_score_adj, world)
            {
                return None;
            }
            let (relief, exact) = self.alone(claim);
            let subject = subject_of(world, claim.process, &claim.comm);
            Some(Candidate {
                consented: consented(&subject, world),
                restarts: service.is_some(),
                subject,
                process: claim.process,
                comm: claim.comm.clone(),
                processes: 1,
                has: has(claim),
                relief,
                exact,
                growth: entry.growth,
                oom_score_adj: claim.oom_score_adj,
                stalled: 0,
            })
        });
        all.extend(processes);
        // The order of a table is none: the same signals must give the same choice.
        all.sort_by_key(|candidate| (candidate.process.pid, candidate.processes));
        all
    }

    fn whole(&self, cgroup: &CgroupClaim, service: &Service, world: &World) -> Option<Candidate> {
        let process = service.process?;
        let members = || {
            let entries = self.entries.values();
            entries.filter(|entry| entry.claim.cgroup_id == cgroup.cgroup_id)
        };
        let untouchable = untouchable(process, cgroup.oom_score_adj, world)
            || members().any(|entry| world.protected_pids.contains(&entry.claim.process.pid));
        if service.in_action || untouchable {
            return None;
        }
        let (relief, exact) = self.together(cgroup);
        let subject = Subject::service(&service.name);
        Some(Candidate {
            consented: consented(&subject, world),
            restarts: true,
            subject,
            process,
            comm: service.name.clone(),
            processes: cgroup.processes,
            has: cgroup.own.saturating_add(cgroup.shmem),
            relief,
            exact,
            growth: members().map(|entry| entry.growth).sum(),
            oom_score_adj: cgroup.oom_score_adj,
            stalled: 0,
        })
    }
}

fn consented(subject: &Subject, world: &World) -> bool {
    subject
        .configured_name()
        .is_some_and(|name| world.expendable.contains(name))
}

fn untouchable(process: ProcessKey, oom_score_adj: i32, world: &World) -> bool {
    oom_score_adj <= NEVER || world.protected_pids.contains(&process.pid)
}
