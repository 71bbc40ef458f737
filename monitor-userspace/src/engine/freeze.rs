//! How the host was when an incident was raised: kernel events shortly before, who used most, how busy it was.
//!
//! Keeps the last kernel events that may tell of trouble, in four rings by what they tell of, so that a flood of one sort leaves the
//! others where they are. Taking one is a copy, nothing else: it happens on the way of every event.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use monitor_common::event::COMM_LEN;
use monitor_common::probes::process_exit::Ending;
use monitor_common::probes::run_queue_latency::Culprit;
use monitor_common::{Event, Flow};

use super::Engine;
use crate::model::evidence::Frozen;
use crate::model::{Incident, IncidentId, ProcessKey, Signal, Subject, Time};

/// Sorts of events.
const SORTS: usize = 4;
/// Events that are kept of each sort.
const KEPT: usize = 64;
/// So many of each sort come before more of another.
const SHARE: usize = Frozen::EVENTS / SORTS;
/// How long before the finding.
const WITHIN: Duration = Duration::from_mins(1);
/// Bytes of records that are frozen: in the journal, each is some five times as long.
const BYTES: usize = 3_000;
/// Bytes of arguments that are kept of a program's start: the whole would be most of an incident's line in the journal.
const ARGUMENTS: usize = 96;
/// The cgroup that everything is below: to be in it says nothing.
const ROOT: u64 = 1;
/// Processes that are kept of those that had the CPU during a wait, for the same reason; the others become a sum.
const CULPRITS: usize = 3;

/// Nobody had the CPU.
const NOBODY: Culprit = Culprit {
    held_ns: 0,
    cgroup_id: 0,
    pid: 0,
    kernel_thread: 0,
    comm: [0; COMM_LEN],
};

/// The last kernel events that may tell of trouble.
#[derive(Debug, Default)]
pub(super) struct Recent {
    sorts: [VecDeque<Event>; SORTS],
}

/// Which sort an event is; none for what says nothing about trouble, or comes in masses.
fn sort(event: &Event) -> Option<usize> {
    match event {
        Event::ProcessExec(_) | Event::ProcessFork(_) => Some(0),
        Event::ProcessExit(exit) if exit.ending() == Ending::Code(0) => Some(0),
        Event::ProcessExit(_)
        | Event::ProcessSignal(_)
        | Event::OomKill(_)
        | Event::MemoryCeiling(_)
        | Event::ForkStorm(_) => Some(1),
        Event::RunQueueLatency(_)
        | Event::DirectReclaim(_)
        | Event::OffCpu(_)
        | Event::BlockIo(_)
        | Event::ServiceLatency(_) => Some(2),
        Event::TcpConnect(connect) => (connect.error != 0).then_some(3),
        Event::DnsQuery(query) => query.failed().then_some(3),
        Event::RouteFailure(_)
        | Event::SocketError(_)
        | Event::ConnectError(_)
        | Event::TcpReset(_)
        | Event::ListenOverflow(_)
        | Event::SocketOverflow(_)
        | Event::PacketDrop(_) => Some(3),
        Event::TcpRetransmit(_)
        | Event::CgroupChange(_)
        | Event::EventThrottle(_)
        | Event::TaskSnapshot(_)
        | Event::BenchLoad(_)
        | Event::BenchEmpty(_) => None,
    }
}

impl Recent {
    /// Keeps an event that may tell of trouble.
    pub(super) fn take(&mut self, signal: &Signal) {
        if let Signal::Kernel { event } = signal
            && let Some(ring) = sort(event).and_then(|sort| self.sorts.get_mut(sort))
        {
            if ring.len() == KEPT {
                ring.pop_front();
            }
            ring.push_back(*event);
        }
    }

    /// Those about something, not before `from`: newest [`SHARE`] of each sort, then the newest of the others. Oldest first.
    fn about(&self, about: &About<'_>, from: Time) -> Vec<Event> {
        let mut found: Vec<(bool, u64, &Event)> = Vec::new();
        for ring in &self.sorts {
            let told = ring.iter().rev();
            let told = told.filter(|event| Time::from_kernel(event.time_ns()) >= from);
            let told = told.filter(|event| about.is_told_of(event));
            let told = told.enumerate();
            found.extend(told.map(|(rank, event)| (rank < SHARE, event.time_ns(), event)));
        }
        let key = |(first, at, _): &(bool, u64, &Event)| (*first, *at);
        found.sort_by_key(|it| std::cmp::Reverse(key(it)));
        let mut room = BYTES;
        found.retain(|(_, _, event)| {
            let left = room.checked_sub(event.kind().size());
            room = left.unwrap_or(room);
            left.is_some()
        });
        found.truncate(Frozen::EVENTS);
        found.reverse();
        found.sort_by_key(|(_, at, _)| *at);
        let found = found.into_iter();
        found.map(|(_, _, event)| short(*event)).collect()
    }

    /// The parent of a process, as its start or its end told it; the last one told.
    fn parent(&self, process: ProcessKey) -> Option<u32> {
        let told = |event: &Event| {
            let of_it = ProcessKey::from_task(event.task()) == process;
            let parent = match event {
                Event::ProcessExec(exec) => exec.parent_pid,
                Event::ProcessFork(fork) => fork.parent_pid,
                Event::ProcessExit(exit) => exit.parent_pid,
                _ => return None,
            };
            of_it.then_some((event.time_ns(), parent))
        };
        let all = self.sorts.iter().flatten().filter_map(told);
        all.max().map(|(_, parent)| parent)
    }

    /// The cgroup that a process was in last.
    fn cgroup(&self, process: ProcessKey) -> Option<u64> {
        let of_it = |event: &&Event| {
            let task = event.task();
            task.cgroup_id != 0 && ProcessKey::from_task(task) == process
        };
        let last = self.sorts.iter().flatten().filter(of_it);
        let last = last.max_by_key(|event| event.time_ns());
        last.map(|event| event.task().cgroup_id)
    }
}

/// What an incident is about, as events name it.
#[derive(Debug, Default)]
struct About<'a> {
    processes: Vec<ProcessKey>,
    /// The process above: only what was sent to it counts.
    parent: Option<u32>,
    cgroups: Vec<u64>,
    addresses: Vec<SocketAddr>,
    disk: Option<&'a str>,
    /// The whole host.
    host: bool,
}

impl About<'_> {
    fn is_told_of(&self, event: &Event) -> bool {
        let task = event.task();
        let charged = match event {
            Event::BlockIo(request) => request.charged_cgroup_id,
            _ => 0,
        };
        let cgroup = |id: u64| id > ROOT && self.cgroups.contains(&id);
        if cgroup(task.cgroup_id) || cgroup(charged) {
            return true;
        }
        if task.pid != 0 && self.processes.contains(&ProcessKey::from_task(task)) {
            return true;
        }
        match event {
            Event::ProcessSignal(signal) => self.parent == Some(signal.task.pid),
            Event::BlockIo(request) => self.disk == Some(request.disk()),
            Event::OomKill(_) | Event::ForkStorm(_) | Event::DirectReclaim(_) => self.host,
            _ => flow(event).is_some_and(|flow| {
                let ends = [flow.peer(), flow.local()];
                ends.iter().any(|end| self.addresses.contains(end))
            }),
        }
    }
}

/// The two ends of what it tells of, if there are two.
fn flow(event: &Event) -> Option<&Flow> {
    match event {
        Event::TcpConnect(event) => Some(&event.flow),
        Event::TcpReset(event) => Some(&event.flow),
        Event::RouteFailure(event) => Some(&event.flow),
        Event::SocketError(event) => Some(&event.flow),
        Event::PacketDrop(event) => Some(&event.flow),
        Event::ListenOverflow(event) => Some(&event.flow),
        Event::SocketOverflow(event) => Some(&event.flow),
        Event::DnsQuery(event) => Some(&event.flow),
        _ => None,
    }
}

/// The same event without what makes it long.
fn short(mut event: Event) -> Event {
    match &mut event {
        Event::ProcessExec(exec) => {
            for byte in exec.argv.iter_mut().skip(ARGUMENTS) {
                *byte = 0;
            }
            let most = u32::try_from(ARGUMENTS).unwrap_or(0);
            exec.argv_len = exec.argv_len.min(most);
        }
        Event::RunQueueLatency(wait) => {
            for culprit in wait.culprits.iter_mut().skip(CULPRITS) {
                wait.others_ns = wait.others_ns.saturating_add(culprit.held_ns);
                *culprit = NOBODY;
            }
        }
        _ => {}
    }
    event
}

impl Engine {
    /// How the host is now, as far as it concerns this incident.
    pub(super) fn freeze(&self, incident: &Incident) -> Frozen {
        let mut about = About::default();
        about.processes.extend(incident.evidence.process);
        let socket = incident.evidence.socket;
        about.cgroups.extend(socket.map(|socket| socket.cgroup_id));
        match &incident.subject {
            // A folder that is full, a network that does not answer: that is the host's.
            Subject::Host | Subject::Folder { .. } | Subject::Network { .. } => about.host = true,
            Subject::Service { name } => {
                if let Some(service) = self.world.services.get(name) {
                    about.processes.extend(service.last_process);
                    about.cgroups.push(service.cgroup_id);
                    about.addresses.extend(&service.listen);
                }
            }
            Subject::Process { process, .. } => about.processes.push(*process),
            Subject::Peer { address } => about.addresses.push(*address),
            Subject::Device { name } => about.disk = Some(name),
        }
        if let Some(process) = about.processes.first() {
            about.parent = self.recent.parent(*process);
            about.cgroups.extend(self.recent.cgroup(*process));
        }
        let from = incident.evidence.seen.before(WITHIN);
        Frozen {
            events: self.recent.about(&about, from),
            top: self.world.top.clone(),
            load: self.world.load,
            log: Vec::new(),
        }
    }

    /// Adds the last lines of the log of what an incident is about; a second answer is not taken.
    pub fn attach_log(&mut self, id: IncidentId, mut lines: Vec<String>) {
        lines.truncate(Frozen::LOG);
        self.book.change(id, |incident| {
            let frozen = incident.evidence.frozen.get_or_insert_default();
            if frozen.log.is_empty() {
                frozen.log = lines;
            }
        });
        self.changed = true;
    }
}

#[cfg(test)]
mod tests;
