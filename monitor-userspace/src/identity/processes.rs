//! Processes by PID and start time: a bounded table, fed by kernel events, else read from `/proc`.
//!
//! What an event told is taken; what was only inherited at a fork, or told in part, is read at the first look, if the process is still
//! there. A live entry is read again now and then, because users and cgroups change without an event here. The command line that an
//! exec told is not read again unless the name has changed: that read alone can wait for memory of the process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cgroups::CgroupIdentity;
use super::pace::{Budget, Recent};
use super::read::{self, Reading};
use super::table::{Bounds, Table};
use super::users::Users;
use crate::host::cgroupfs::CgroupFs;
use crate::model::{ProcessKey, Time};

/// How long what is known of a live process is good.
const REFRESH_AFTER: Duration = Duration::from_secs(10);
/// How long a process that was not there is not looked for again.
const MISS_SPAN: Duration = Duration::from_secs(2);
/// Processes that are remembered as not there, at least.
const MISSES: usize = 4096;
/// Processes read a second, at most; one takes some fifty microseconds.
const READS_PER_SECOND: u32 = 500;
/// `TASK_COMM_LEN` is 16; `/proc` shows up to 64 bytes for kernel threads.
const COMM_MAX: usize = 64;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The user id that it runs as (real), in the host's user namespace.
    pub uid: Option<u32>,
    /// The user's name in the host's `/etc/passwd`.
    pub user: Option<Arc<str>>,
    /// Its command line, arguments ended by NUL; shared with what it was inherited from. 4 KiB at most.
    pub argv: Arc<[u8]>,
    /// There was more of it.
    pub argv_cut: bool,
    /// Its v2 cgroup; zero when unknown.
    pub cgroup_id: u64,
    /// Its parent's process id.
    pub parent_pid: u32,
    /// Its name.
    pub comm: String,
    /// On a host with v1 hierarchies, the first of them that names a unit or a container, if v2 has it in its root.
    pub legacy: Option<Arc<CgroupIdentity>>,
}

/// What an exec event tells.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The user id that it runs as (real), in the host's user namespace; none when the event does not tell.
    pub uid: Option<u32>,
    /// Arguments ended by NUL.
    pub argv: &'a [u8],
    /// There was more of it than the event holds.
    pub argv_cut: bool,
    /// Its v2 cgroup; zero when unknown.
    pub cgroup_id: u64,
    /// Its parent's process id; zero when unknown.
    pub parent_pid: u32,
    /// Its name, ended by NUL or by its length.
    pub comm: &'a [u8],
}

#[derive(Debug)]
struct Known {
    identity: ProcessIdentity,
    /// When to read it again.
    due: Time,
    /// An exec event told the command line, of this process or of the one that it was forked from.
    argv_told: bool,
}

/// Processes that are known.
#[derive(Debug)]
pub struct Processes {
    tree: Option<Arc<CgroupFs>>,
    table: Table<ProcessKey, Known>,
    users: Users,
    misses: Recent<ProcessKey>,
    budget: Budget,
    unresolved: u64,
}

impl Processes {
    /// An empty table. `passwd` names the users: `/etc/passwd`.
    pub fn new(tree: Option<Arc<CgroupFs>>, passwd: &Path, bounds: Bounds) -> Self {
        Self {
            tree,
            table: Table::new(bounds, |known: &Known| {
                known.identity.argv.len() + known.identity.comm.len()
            }),
            users: Users::of(passwd),
            misses: Recent::new(MISSES, MISS_SPAN),
            budget: Budget::new(READS_PER_SECOND),
            unresolved: 0,
        }
    }

    /// A process runs another program now.
    pub fn exec(&mut self, key: ProcessKey, exec: &Exec<'_>, at: Time) {
        let known = self.table.peek(key);
        // A program may have been moved between its fork and now; out of a container nothing is ever moved.
        let legacy = known.and_then(|known| known.identity.legacy.clone());
        let legacy = legacy.filter(|cgroup| cgroup.place.container.is_some());
        let parent_pid = match known {
            Some(known) if exec.parent_pid == 0 => known.identity.parent_pid,
            _ => exec.parent_pid,
        };
        // Nearly no exec changes the real user.
        let uid = exec
            .uid
            .or_else(|| known.and_then(|known| known.identity.uid));
        let (argv, cut) = read::cut_argv(exec.argv.to_vec());
        let identity = ProcessIdentity {
            uid,
            user: uid.and_then(|uid| self.users.name(uid, at)),
            argv: argv.into(),
            argv_cut: cut || exec.argv_cut,
            cgroup_id: exec.cgroup_id,
            parent_pid,
            comm: text_of(exec.comm),
            legacy,
        };
        // What the event could not tell is read when somebody asks.
        let whole = !identity.argv_cut && !identity.argv.is_empty();
        let due = if whole && uid.is_some() && !self.may_be_legacy(exec.cgroup_id) {
            at.after(REFRESH_AFTER)
        } else {
            at
        };
        self.misses.forget(&key);
        let argv_told = whole;
        let known = Known {
            identity,
            due,
            argv_told,
        };
        self.table.put(key, known, at);
    }

    /// A process was forked: it is what its parent is, until it is known better. `cgroup_id`, if the event tells it, is the child's.
    pub fn fork(
        &mut self,
        child: ProcessKey,
        parent: ProcessKey,
        cgroup_id: Option<u64>,
        at: Time,
    ) {
        // Known already: by its exec, which overtook the fork on the urgent ring, or by a look into `/proc`. Both are newer.
        // One that has ended had the same number in the same hundredth of a second.
        if self.table.peek(child).is_some() && !self.table.has_ended(child, at) {
            return;
        }
        if self.table.peek(parent).is_none() {
            self.get(parent, at);
        }
        let Some(known) = self.table.peek(parent) else {
            return;
        };
        let identity = ProcessIdentity {
            parent_pid: parent.pid,
            cgroup_id: cgroup_id.unwrap_or(known.identity.cgroup_id),
            ..known.identity.clone()
        };
        let child_known = Known {
            identity,
            due: at,
            argv_told: known.argv_told,
        };
        self.misses.forget(&child);
        self.table.put(child, child_known, at);
    }

    /// A process has ended. It stays known for the grace time.
    pub fn exit(&mut self, key: ProcessKey, at: Time) {
        self.table.end(key, at);
    }

    /// This very process, read from `/proc` if need be; none when it is not known and not there, or too many were asked for.
    pub fn get(&mut self, key: ProcessKey, at: Time) -> Option<&ProcessIdentity> {
        match self.table.get(key) {
            Some((known, ended)) => {
                if !ended && at >= known.due && self.budget.take(at) {
                    self.refresh(key, at);
                }
            }
            None => self.find(key, at),
        }
        self.table.peek(key).map(|known| &known.identity)
    }

    fn find(&mut self, key: ProcessKey, at: Time) {
        self.unresolved += 1;
        if self.misses.has(&key, at) || self.table.has_ended(key, at) || !self.budget.take(at) {
            return;
        }
        let Some(reading) = read::process(key, self.tree.as_deref(), |_| true) else {
            self.misses.note(key, at);
            return;
        };
        self.unresolved -= 1;
        let known = self.merge(reading, None, at);
        self.table.put(key, known, at);
    }

    fn refresh(&mut self, key: ProcessKey, at: Time) {
        let Some(known) = self.table.peek(key) else {
            return;
        };
        let (told, comm) = (known.argv_told, known.identity.comm.as_str());
        let wants_argv = |now: &str| !told || now != comm;
        match read::process(key, self.tree.as_deref(), wants_argv) {
            Some(reading) => {
                let before = self.table.peek(key).map(|known| known.identity.clone());
                let mut merged = self.merge(reading, before.as_ref(), at);
                merged.argv_told =
                    told && before.is_some_and(|had| had.comm == merged.identity.comm);
                self.table.put(key, merged, at);
            }
            None => {
                self.table.end(key, at);
            }
        }
    }

    /// What was read, with what it leaves open out of what was known.
    fn merge(&mut self, reading: Reading, before: Option<&ProcessIdentity>, at: Time) -> Known {
        let (argv, argv_cut) = match (reading.argv, before) {
            (Some((argv, cut)), _) => (argv.into(), cut),
            (None, Some(before)) => (Arc::clone(&before.argv), before.argv_cut),
            (None, None) => (Arc::default(), false),
        };
        let cgroup_id = match reading.cgroup_id {
            0 => before.map_or(0, |before| before.cgroup_id),
            id => id,
        };
        let identity = ProcessIdentity {
            uid: Some(reading.uid),
            user: self.users.name(reading.uid, at),
            argv,
            argv_cut,
            cgroup_id,
            parent_pid: reading.parent_pid,
            comm: reading.comm,
            legacy: reading.legacy,
        };
        Known {
            identity,
            due: at.after(REFRESH_AFTER),
            argv_told: false,
        }
    }

    /// Whether only a v1 hierarchy can tell where such a process is.
    fn may_be_legacy(&self, cgroup_id: u64) -> bool {
        let tree = self.tree.as_ref();
        tree.is_some_and(|tree| tree.has_v1() && (cgroup_id == 0 || cgroup_id == tree.root_id()))
    }

    /// Drops what has been over for longer than the grace time.
    pub fn collect(&mut self, at: Time) {
        self.table.collect(at);
    }

    /// Processes that are known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sizes and what was lost.
    pub fn stats(&self) -> super::TableStats {
        super::TableStats {
            entries: self.table.len(),
            bytes: self.table.bytes(),
            evicted: self.table.evicted(),
            unresolved: self.unresolved,
            deferred: self.budget.refused(),
        }
    }
}

fn text_of(comm: &[u8]) -> String {
    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    let comm = comm.get(..COMM_MAX).unwrap_or(comm);
    String::from_utf8_lossy(comm).into_owned()
}

#[cfg(test)]
mod tests;
