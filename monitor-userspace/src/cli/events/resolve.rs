//! Who an event is about: what the stream itself tells of processes and cgroups, and what the host says of the others.

use std::sync::Arc;

use monitor_common::Event;
use monitor_common::event::COMM_LEN;

use crate::identity::{CgroupIdentity, Who, render_argv};
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
        if let Some(who) = &mut self.who {
            who.begins(event, Time::from_kernel(event.time_ns()));
        }
    }

    /// Takes what an event tells of ends; after it was shown.
    pub(super) fn after(&mut self, event: &Event) {
        if let Some(who) = &mut self.who {
            who.ends(event, Time::from_kernel(event.time_ns()));
        }
    }

    /// Who has the socket that the event is about, where the kernel could not say: written into the event, and how many they are.
    pub(super) fn holders(&mut self, event: &mut Event) -> Option<usize> {
        let inode = event.socket_inode()?;
        let at = Time::from_kernel(event.time_ns());
        let cgroup_id = event.task().cgroup_id;
        let found = self.who.as_mut()?.of_socket(inode, cgroup_id, at)?;
        let task = event.task_mut();
        task.pid = found.first.pid;
        task.tid = found.first.pid;
        task.start_time_ns = found.first.start_time_ns();
        task.comm = [0; COMM_LEN];
        for (to, from) in task.comm.iter_mut().zip(found.comm.as_bytes()) {
            *to = *from;
        }
        Some(found.count)
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
