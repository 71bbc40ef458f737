//! Who an event is about: what the stream itself tells of processes and cgroups, and what the host says of the others.

use std::sync::Arc;

use monitor_common::probes::cgroup_change::REMOVED;
use monitor_common::probes::process_exec::UID_UNKNOWN;
use monitor_common::{Event, Task};

use crate::identity::{CgroupIdentity, Exec, Who, render_argv};
use crate::model::who::Identity;
use crate::model::{ProcessKey, Time};

/// Finds out who; or does not, when that is not wanted.
pub(super) struct Resolver {
    who: Option<Who>,
}

impl Resolver {
    /// One that knows this host.
    pub(super) fn of_host() -> Self {
        Self {
            who: Some(Who::open()),
        }
    }

    /// One that knows nothing and asks nobody.
    pub(super) const fn none() -> Self {
        Self { who: None }
    }

    /// Takes what an event tells of beginnings; before it is shown.
    pub(super) fn before(&mut self, event: &Event) {
        let Some(who) = &mut self.who else { return };
        let at = Time::from_kernel(event.time_ns());
        let key = ProcessKey::from_task(event.task());
        match event {
            Event::ProcessExec(event) => {
                let exec = Exec {
                    uid: (event.uid != UID_UNKNOWN).then_some(event.uid),
                    argv: event.argv(),
                    argv_cut: event.argv_cut(),
                    cgroup_id: event.task.cgroup_id,
                    parent_pid: event.parent_pid,
                    comm: &event.task.comm,
                };
                who.exec(key, &exec, at);
            }
            Event::ProcessFork(event) if event.parent_start_time_ns != 0 => {
                let parent = ProcessKey::from_task(&Task {
                    pid: event.parent_pid,
                    start_time_ns: event.parent_start_time_ns,
                    ..event.task
                });
                let cgroup_id = event.task.cgroup_id;
                who.fork(key, parent, (cgroup_id != 0).then_some(cgroup_id), at);
            }
            // Ids of v1 hierarchies are numbers of another count.
            Event::CgroupChange(event) if event.hierarchy == 0 && event.change != REMOVED => {
                if let Some(path) = event.path() {
                    who.cgroup_made(event.cgroup_id, path, at);
                }
            }
            _ => {}
        }
    }

    /// Takes what an event tells of ends; after it was shown, because what has ended is not looked for any more.
    pub(super) fn after(&mut self, event: &Event) {
        let Some(who) = &mut self.who else { return };
        let at = Time::from_kernel(event.time_ns());
        match event {
            Event::ProcessExit(event) => who.exit(ProcessKey::from_task(&event.task), at),
            Event::CgroupChange(event) if event.hierarchy == 0 && event.change == REMOVED => {
                who.cgroup_removed(event.cgroup_id, at);
            }
            _ => {}
        }
    }

    /// Everything that is known; none when nothing is to be found out.
    pub(super) fn whole(&mut self, event: &Event) -> Option<Identity> {
        let at = Time::from_kernel(event.time_ns());
        let task = event.task();
        let who = self.who.as_mut()?;
        let mut identity = who.of(ProcessKey::from_task(task), task.cgroup_id, at);
        if let Event::ProcessExec(exec) = event {
            // Another process may have had the same number in the same hundredth of a second: what the event says is its own.
            identity.argv = Some(render_argv(exec.argv())).filter(|argv| !argv.is_empty());
        }
        let said = identity.process.as_ref().map(|process| &*process.comm);
        if said.is_some_and(|comm| !task.comm().is_empty() && comm != task.comm()) {
            identity.process = None;
            identity.user = None;
            if !matches!(event, Event::ProcessExec(_)) {
                identity.argv = None;
            }
        }
        Some(identity)
    }

    /// Where it is, at the least cost: the process is asked about only when its cgroup names nothing.
    pub(super) fn place(&mut self, event: &Event) -> Option<Identity> {
        let at = Time::from_kernel(event.time_ns());
        let identity = self.who.as_mut()?.of_cgroup(event.task().cgroup_id, at);
        if identity.place.is_known() {
            return Some(identity);
        }
        self.whole(event)
    }

    /// What this cgroup is.
    pub(super) fn of_cgroup(&mut self, cgroup_id: u64, at: Time) -> Option<Identity> {
        (self.who.as_mut()).map(|who| who.of_cgroup(cgroup_id, at))
    }

    /// Where this cgroup is.
    pub(super) fn cgroup(&mut self, cgroup_id: u64, at: Time) -> Option<Arc<CgroupIdentity>> {
        self.who.as_mut()?.cgroup(cgroup_id, at)
    }

    /// Forgets what has been over for long.
    pub(super) fn collect(&mut self, at: Time) {
        if let Some(who) = &mut self.who {
            who.collect(at);
        }
    }
}
