//! Who: from a cgroup's id and a process to unit, container, pod, user and command line, also for what lived only for a moment.
//!
//! Consumes what kernel events tell of cgroups and processes (typed arguments, not the events themselves), and asks the host about what was
//! there before: `/proc`, the cgroup tree, `/etc/passwd`. Emits [`Identity`]. For the hot thread: everything is bounded in memory, in
//! reads a call, and in reads a second; nothing waits for anybody but the kernel.
//!
//! Left out: names, images and labels of containers, which only the runtimes' sockets tell; NSS.

pub mod argv;
pub mod cgroup;
pub mod cgroups;
pub mod processes;
pub mod sockets;

mod pace;
mod read;
mod table;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use argv::render_argv;
pub use cgroups::{CgroupIdentity, Cgroups};
pub use processes::{Exec, ProcessIdentity, Processes};
pub use sockets::{Holders, Sockets};
pub use table::Bounds;
pub use users::Users;

use monitor_common::Event;
use monitor_common::probes::cgroup_change::REMOVED;
use monitor_common::probes::process_exec::UID_UNKNOWN;

use crate::host::cgroupfs::CgroupFs;
use crate::model::who::{Identity, Place, Process};
use crate::model::{ProcessKey, Time};

/// How long what has ended stays known.
pub const GRACE: Duration = Duration::from_mins(1);

/// Cgroups that are kept.
pub const CGROUPS: Bounds = Bounds {
    entries: 8192,
    bytes: 4 << 20,
    grace: GRACE,
};

/// Processes that are kept.
pub const PROCESSES: Bounds = Bounds {
    entries: 16_384,
    bytes: 16 << 20,
    grace: GRACE,
};

/// What a table holds, and what was lost at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Entries now.
    pub entries: usize,
    /// Bytes that the entries hold beside themselves.
    pub bytes: usize,
    /// Entries that had to go before their time, since the start.
    pub evicted: u64,
    /// Look-ups that found nothing, since the start.
    pub unresolved: u64,
    /// Reads of the host that were due, and were left out because there were too many in that second.
    pub deferred: u64,
}

/// Sizes and losses of all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WhoStats {
    /// Of the cgroups.
    pub cgroups: TableStats,
    /// Of the processes.
    pub processes: TableStats,
}

/// Everything that is known of who does something.
#[derive(Debug)]
pub struct Who {
    cgroups: Cgroups,
    processes: Processes,
    sockets: Sockets,
}

impl Who {
    /// With the cgroup tree of this host; without one (said in the log), units and containers are known from v1 and from events alone.
    pub fn open() -> Self {
        let tree = CgroupFs::open().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the cgroup v2 tree: units and containers of what runs already may stay unknown");
            None
        });
        if let Some(tree) = &tree
            && !tree.by_handle()
        {
            tracing::info!(
                "the kernel opens no cgroup by its id (needs Linux 5.5 and CAP_DAC_READ_SEARCH): the tree is walked instead"
            );
        }
        Self::with(tree.map(Arc::new), CGROUPS, PROCESSES)
    }

    /// With a tree and bounds of the caller's.
    pub fn with(tree: Option<Arc<CgroupFs>>, cgroups: Bounds, processes: Bounds) -> Self {
        Self {
            cgroups: Cgroups::new(tree.clone(), cgroups),
            processes: Processes::new(tree.clone(), Path::new("/etc/passwd"), processes),
            sockets: Sockets::new(tree),
        }
    }

    /// Takes what a kernel event tells of beginnings.
    pub fn begins(&mut self, event: &Event, at: Time) {
        match event {
            Event::ProcessExec(exec) => {
                let said = Exec {
                    uid: (exec.uid != UID_UNKNOWN).then_some(exec.uid),
                    argv: exec.argv(),
                    argv_cut: exec.argv_cut(),
                    cgroup_id: exec.task.cgroup_id,
                    parent_pid: exec.parent_pid,
                    comm: &exec.task.comm,
                };
                self.exec(ProcessKey::from_task(&exec.task), &said, at);
            }
            Event::ProcessFork(fork) if fork.parent_start_time_ns != 0 => {
                let parent = ProcessKey::at_start(fork.parent_pid, fork.parent_start_time_ns);
                let cgroup_id = fork.task.cgroup_id;
                let cgroup_id = (cgroup_id != 0).then_some(cgroup_id);
                self.fork(ProcessKey::from_task(&fork.task), parent, cgroup_id, at);
            }
            // Ids of v1 hierarchies are numbers of another count, and would be taken for these.
            Event::CgroupChange(cgroup) if cgroup.hierarchy == 0 && cgroup.change != REMOVED => {
                if let Some(path) = cgroup.path() {
                    self.cgroup_made(cgroup.cgroup_id, path, at);
                }
            }
            _ => {}
        }
    }

    /// Takes what a kernel event tells of ends. Who shows the event does so before, because what has ended is not looked for any more.
    pub fn ends(&mut self, event: &Event, at: Time) {
        match event {
            Event::ProcessExit(exit) => self.exit(ProcessKey::from_task(&exit.task), at),
            Event::CgroupChange(cgroup) if cgroup.hierarchy == 0 && cgroup.change == REMOVED => {
                self.cgroup_removed(cgroup.cgroup_id, at);
            }
            _ => {}
        }
    }

    /// A cgroup was made: see [`Cgroups::made`].
    pub fn cgroup_made(&mut self, id: u64, path: &[u8], at: Time) {
        self.cgroups.made(id, path, at);
    }

    /// A cgroup was removed: see [`Cgroups::removed`].
    pub fn cgroup_removed(&mut self, id: u64, at: Time) {
        self.cgroups.removed(id, at);
    }

    /// A process runs another program: see [`Processes::exec`].
    pub fn exec(&mut self, key: ProcessKey, exec: &Exec<'_>, at: Time) {
        self.processes.exec(key, exec, at);
    }

    /// A process was forked: see [`Processes::fork`].
    pub fn fork(
        &mut self,
        child: ProcessKey,
        parent: ProcessKey,
        cgroup_id: Option<u64>,
        at: Time,
    ) {
        self.processes.fork(child, parent, cgroup_id, at);
    }

    /// A process has ended: see [`Processes::exit`].
    pub fn exit(&mut self, key: ProcessKey, at: Time) {
        self.processes.exit(key, at);
    }

    /// Who this process is. `cgroup_id` is the one that the event tells; zero when it tells none: then it is the process's own.
    pub fn of(&mut self, key: ProcessKey, cgroup_id: u64, at: Time) -> Identity {
        let process = self.processes.get(key, at);
        let own = process.map_or(0, |process| process.cgroup_id);
        let id = if cgroup_id == 0 { own } else { cgroup_id };
        let cgroup = self.cgroups.get(id, at);
        let mut identity = at_cgroup(cgroup.as_deref());
        let Some(process) = process else {
            return identity;
        };
        if let Some(legacy) = &process.legacy
            && !identity.place.is_known()
        {
            identity = at_cgroup(Some(legacy));
        }
        let mut argv = render_argv(&process.argv);
        if process.argv_cut && !argv.ends_with('…') {
            argv.push('…');
        }
        identity.process = Some(Process {
            key,
            parent_pid: process.parent_pid,
            uid: process.uid,
            comm: process.comm.clone(),
        });
        identity.user = process.user.as_deref().map(str::to_owned);
        identity.argv = (!argv.is_empty()).then_some(argv);
        identity
    }

    /// Who has the socket of this inode open: see [`Sockets::holders`]. Reads much of `/proc`: never for the hot thread.
    pub fn of_socket(&mut self, inode: u64, cgroup_id: u64, at: Time) -> Option<Holders> {
        self.sockets.holders(inode, cgroup_id, at)
    }

    /// What this cgroup is, for events that name no process.
    pub fn of_cgroup(&mut self, cgroup_id: u64, at: Time) -> Identity {
        at_cgroup(self.cgroups.get(cgroup_id, at).as_deref())
    }

    /// Where this cgroup is, without copying it.
    pub fn cgroup(&mut self, cgroup_id: u64, at: Time) -> Option<Arc<CgroupIdentity>> {
        self.cgroups.get(cgroup_id, at)
    }

    /// Drops what has been over for longer than its grace time; a bounded number of entries a call.
    pub fn collect(&mut self, at: Time) {
        self.cgroups.collect(at);
        self.processes.collect(at);
    }

    /// Sizes and losses, for metrics.
    pub fn stats(&self) -> WhoStats {
        WhoStats {
            cgroups: self.cgroups.stats(),
            processes: self.processes.stats(),
        }
    }
}

fn at_cgroup(cgroup: Option<&CgroupIdentity>) -> Identity {
    Identity {
        place: cgroup.map_or_else(Place::default, |cgroup| cgroup.place.clone()),
        cgroup: cgroup.map(|cgroup| cgroup.path.clone()),
        ..Identity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ProcessKey = ProcessKey {
        pid: 0x4000_0000,
        start_ticks: 1,
    };

    #[test]
    fn a_short_lived_process_in_a_short_lived_container_is_told_of() {
        let id = "3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a";
        let at = Time::from_nanos(0);
        let mut who = Who::with(None, CGROUPS, PROCESSES);
        let path = format!("/system.slice/docker-{id}.scope");
        who.cgroup_made(77, path.as_bytes(), at);
        let exec = Exec {
            uid: Some(0),
            argv: b"curl\0http://x/?a b\0",
            argv_cut: false,
            cgroup_id: 77,
            parent_pid: 3,
            comm: b"curl",
        };
        who.exec(KEY, &exec, at);
        who.exit(KEY, at);
        who.cgroup_removed(77, at);
        let found = who.of(KEY, 0, at);
        assert_eq!(found.describe(), "docker 3f2a9c0b1d2e");
        assert_eq!(found.argv.as_deref(), Some("curl 'http://x/?a b'"));
        assert_eq!(
            (found.user.as_deref(), found.cgroup),
            (Some("root"), Some(path))
        );
        assert_eq!(found.process.expect("told").parent_pid, 3);
        assert_eq!(who.of_cgroup(77, at).describe(), "docker 3f2a9c0b1d2e");
        assert_eq!(who.of_cgroup(78, at), Identity::default());
        let later = at.after(GRACE * 2);
        who.collect(later);
        assert_eq!(who.of(KEY, 77, later), Identity::default());
        let stats = who.stats();
        assert_eq!((stats.cgroups.entries, stats.processes.entries), (0, 0));
    }

    #[test]
    fn the_cgroup_of_the_event_counts_more_than_the_one_last_seen() {
        let at = Time::from_nanos(0);
        let mut who = Who::with(None, CGROUPS, PROCESSES);
        who.cgroup_made(1, b"/system.slice/a.service", at);
        who.cgroup_made(2, b"/system.slice/b.service", at);
        let exec = Exec {
            uid: Some(12_345),
            argv: b"a\0",
            argv_cut: false,
            cgroup_id: 1,
            parent_pid: 1,
            comm: b"a",
        };
        who.exec(KEY, &exec, at);
        assert_eq!(who.of(KEY, 0, at).describe(), "a.service");
        assert_eq!(who.of(KEY, 2, at).describe(), "b.service");
    }
}
