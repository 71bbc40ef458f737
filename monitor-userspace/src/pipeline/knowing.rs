//! Who did something: fed by kernel events on their way to the core, asked when an incident is written down.
//!
//! Decides nothing, so that what it says does not matter to a replay.

use monitor_common::Event;
use monitor_common::probes::cgroup_change::REMOVED;
use monitor_common::probes::process_exec::UID_UNKNOWN;

use crate::identity::{Exec, Who, WhoStats};
use crate::model::{Identity, Incident, ProcessKey, Time};

/// See the module.
#[derive(Debug)]
pub(super) struct Knowing {
    who: Who,
}

impl Knowing {
    pub(super) fn new() -> Self {
        Self { who: Who::open() }
    }

    /// Takes what an event says of processes and cgroups.
    pub(super) fn feed(&mut self, event: &Event, at: Time) {
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
                self.who.exec(ProcessKey::from_task(&exec.task), &said, at);
            }
            Event::ProcessFork(fork) if fork.parent_start_time_ns != 0 => {
                let parent = ProcessKey::at_start(fork.parent_pid, fork.parent_start_time_ns);
                let child = ProcessKey::from_task(&fork.task);
                self.who.fork(child, parent, Some(fork.task.cgroup_id), at);
            }
            Event::ProcessExit(exit) => self.who.exit(ProcessKey::from_task(&exit.task), at),
            // Ids of other hierarchies are counted apart, and would be taken for these.
            Event::CgroupChange(cgroup) if cgroup.hierarchy == 0 => {
                if cgroup.change == REMOVED {
                    self.who.cgroup_removed(cgroup.cgroup_id, at);
                } else if let Some(path) = cgroup.path() {
                    self.who.cgroup_made(cgroup.cgroup_id, path, at);
                }
            }
            _ => {}
        }
    }

    /// Who the process is that an incident is about; none when nothing is known, or it says so already.
    pub(super) fn identify(&mut self, incident: &Incident, now: Time) -> Option<Identity> {
        let evidence = &incident.evidence;
        if evidence.who.is_some() {
            return None;
        }
        let identity = self.who.of(evidence.process?, 0, now);
        (identity != Identity::default()).then_some(identity)
    }

    /// Forgets what has been over for long enough.
    pub(super) fn collect(&mut self, now: Time) -> WhoStats {
        self.who.collect(now);
        self.who.stats()
    }
}
