//! Which events are shown: by process, name, cgroup, unit, container, and whether they tell of a failure.

use std::path::Path;

use monitor_common::event::COMM_LEN;
use monitor_common::{Event, Kind};

use super::resolve::Resolver;
use super::text;
use crate::host::cgroupfs::{CgroupFs, Lookup};
use crate::identity::CgroupIdentity;
use crate::model::Time;
use crate::model::who::Place;

/// What an event must be to be shown.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// About this process.
    pub(super) pid: Option<u32>,
    /// About a process of this name.
    pub(super) comm: Option<String>,
    /// In this cgroup, or in one below it.
    pub(super) cgroup: Option<Cgroup>,
    /// In this unit.
    pub(super) unit: Option<String>,
    /// In the container whose id begins so.
    pub(super) container: Option<String>,
    /// Of what can fail, only what did.
    pub(super) failed: bool,
    /// Not of these: they are loaded for what they tell other probes.
    pub(super) unasked: Vec<Kind>,
}

impl Filter {
    /// Whether what is no process's is left out.
    pub(super) const fn is_of_processes(&self) -> bool {
        self.pid.is_some()
            || self.comm.is_some()
            || self.cgroup.is_some()
            || self.unit.is_some()
            || self.container.is_some()
    }

    /// Whether the event is to be shown. What costs nothing is asked first.
    pub(super) fn passes(&self, event: &Event, resolver: &mut Resolver) -> bool {
        if self.unasked.contains(&event.kind()) || (self.failed && !failed(event)) {
            return false;
        }
        if let Some(pid) = self.pid
            && event.task().pid != pid
            && other_pid(event) != Some(pid)
        {
            return false;
        }
        if let Some(comm) = &self.comm {
            let is = |name: &[u8; COMM_LEN]| {
                text::name_of(name)
                    == comm
                        .as_bytes()
                        .get(..COMM_LEN - 1)
                        .unwrap_or(comm.as_bytes())
            };
            if !is(&event.task().comm) && !other_comm(event).is_some_and(is) {
                return false;
            }
        }
        if let Some(cgroup) = &self.cgroup {
            let at = Time::from_kernel(event.time_ns());
            let holds = |id: u64, resolver: &mut Resolver| cgroup.holds(id, at, resolver);
            if !holds(event.task().cgroup_id, resolver)
                && !other_cgroup(event).is_some_and(|id| holds(id, resolver))
            {
                return false;
            }
        }
        self.is_of_place(event, resolver)
    }

    fn is_of_place(&self, event: &Event, resolver: &mut Resolver) -> bool {
        if self.unit.is_none() && self.container.is_none() {
            return true;
        }
        if let Event::CgroupChange(change) = event
            && let Some(path) = change.path()
            && self.names(&CgroupIdentity::of(String::from_utf8_lossy(path).into_owned()).place)
        {
            return true;
        }
        let identity = resolver.place(event);
        identity.is_some_and(|identity| self.names(&identity.place))
    }

    fn names(&self, place: &Place) -> bool {
        let unit = self.unit.as_ref().is_none_or(|unit| {
            let named = |other: &Option<String>| other.as_ref() == Some(unit);
            named(&place.unit) || named(&place.user_unit)
        });
        let container = self.container.as_ref().is_none_or(|id| {
            let own = place.container.as_ref();
            own.is_some_and(|container| container.id.starts_with(id.as_str()))
        });
        unit && container
    }
}

/// A unit's name; as for `systemctl`, a service when its kind is left out.
pub(super) fn unit(name: String) -> String {
    if name.contains('.') {
        name
    } else {
        name + ".service"
    }
}

/// Whether it tells of something that did not succeed. What cannot fail is not judged.
pub(super) const fn failed(event: &Event) -> bool {
    match event {
        Event::ProcessExit(exit) => exit.status != 0,
        Event::TcpConnect(connect) => connect.error != 0,
        Event::BlockIo(request) => request.status != 0,
        Event::DnsQuery(query) => !query.is_answered() || query.rcode != 0,
        _ => true,
    }
}

/// The other process that has a part in it.
const fn other_pid(event: &Event) -> Option<u32> {
    match event {
        Event::ProcessFork(fork) => Some(fork.parent_pid),
        Event::ProcessSignal(signal) => Some(signal.sender_pid),
        Event::OomKill(kill) => Some(kill.trigger_pid),
        _ => None,
    }
}

const fn other_comm(event: &Event) -> Option<&[u8; COMM_LEN]> {
    match event {
        Event::ProcessSignal(signal) => Some(&signal.sender_comm),
        Event::OomKill(kill) => Some(&kill.trigger_comm),
        _ => None,
    }
}

const fn other_cgroup(event: &Event) -> Option<u64> {
    match event {
        Event::CgroupChange(change) if change.hierarchy == 0 => Some(change.cgroup_id),
        // Who brought it about, where the kernel writes later.
        Event::BlockIo(request) => Some(request.charged_cgroup_id),
        _ => None,
    }
}

/// A cgroup that was asked for.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Its id; none while it is not there.
    pub(super) id: Option<u64>,
    /// Its path below the root of the hierarchy, without a slash at the end; none when it is not known.
    path: Option<String>,
}

impl Cgroup {
    /// By its id, its path in the hierarchy, or its folder.
    pub(super) fn named(name: &str) -> anyhow::Result<Self> {
        let tree = open_tree()?;
        if let Ok(id) = name.parse() {
            let path = match tree.path_of(id) {
                Lookup::Found(path) => Some(trimmed(&path)),
                Lookup::Gone | Lookup::Unanswered => None,
            };
            return Ok(Self { id: Some(id), path });
        }
        let below = Path::new(name).strip_prefix(tree.mount());
        let below = below.map_or_else(|_| name.to_owned(), |path| path.display().to_string());
        let path = trimmed(&format!("/{}", below.trim_start_matches('/')));
        Ok(Self {
            id: tree.id_of(&path),
            path: Some(path),
        })
    }

    /// The one that a process is in.
    pub(super) fn of_process(pid: u32) -> anyhow::Result<Self> {
        let file = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&file)
            .map_err(|error| anyhow::anyhow!("cannot read {file}: {error}"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        let path = path.ok_or_else(|| anyhow::anyhow!("process {pid} is in no cgroup of v2"))?;
        Self::named(path)
    }

    /// Its id and those of what is below it, at most so many.
    pub(super) fn all(&self, most: usize) -> anyhow::Result<Vec<u64>> {
        let mut ids: Vec<u64> = self.id.into_iter().collect();
        if let Some(path) = self.path.as_deref() {
            let tree = open_tree()?.walk(WALK_MAX);
            let below = tree
                .into_iter()
                .filter(|(id, other)| Some(*id) != self.id && is_below(other, path));
            ids.extend(below.map(|(id, _)| id));
        }
        ids.truncate(most);
        Ok(ids)
    }

    fn holds(&self, id: u64, at: Time, resolver: &mut Resolver) -> bool {
        if self.id == Some(id) && id != 0 {
            return true;
        }
        let Some(path) = self.path.as_deref() else {
            return false;
        };
        let other = resolver.cgroup(id, at);
        other.is_some_and(|other| is_below(&other.path, path))
    }
}

/// Cgroups that are looked through.
const WALK_MAX: usize = 8_192;

fn open_tree() -> anyhow::Result<CgroupFs> {
    CgroupFs::open()?
        .ok_or_else(|| anyhow::anyhow!("no cgroup v2 hierarchy is mounted on this host"))
}

fn trimmed(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use monitor_common::Kind;

    use super::super::samples;
    use super::*;

    fn passes(filter: &Filter, event: &Event) -> bool {
        filter.passes(event, &mut Resolver::none())
    }

    #[test]
    fn a_process_is_found_in_every_part_it_has() {
        let by_pid = |pid| Filter {
            pid: Some(pid),
            ..Filter::default()
        };
        let by_comm = |comm: &str| Filter {
            comm: Some(comm.to_owned()),
            ..Filter::default()
        };
        let signal = samples::signal(9, 100, b"killer-with-long-name");
        assert!(passes(&by_pid(samples::PID), &signal));
        assert!(passes(&by_pid(100), &signal));
        assert!(!passes(&by_pid(101), &signal));
        assert!(passes(&by_comm("web"), &signal));
        assert!(passes(&by_comm("killer-with-long-name"), &signal));
        assert!(!passes(&by_comm("killer"), &signal));
        assert!(passes(&Filter::default(), &signal));
    }

    #[test]
    fn failures_are_exits_connections_and_questions_that_failed() {
        let filter = Filter {
            failed: true,
            ..Filter::default()
        };
        assert!(!passes(&filter, &samples::exit(0)));
        assert!(passes(&filter, &samples::exit(9)));
        assert!(!passes(&filter, &samples::connect(0)));
        assert!(passes(&filter, &samples::connect(111)));
        for (outcome, rcode, shown) in [(0, 0, false), (0, 3, true), (1, 0, true), (2, 0, false)] {
            let question = samples::dns(b"\0", outcome, rcode, 1);
            assert_eq!(passes(&filter, &question), shown);
        }
        assert!(passes(&filter, &samples::any(Kind::ProcessExec)));
    }

    #[test]
    fn a_unit_is_found_by_the_cgroup_that_is_made_for_it() {
        let made = samples::cgroup_made(b"/system.slice/web.service");
        let of = |name: &str| Filter {
            unit: Some(unit(name.to_owned())),
            ..Filter::default()
        };
        assert!(passes(&of("web"), &made));
        assert!(passes(&of("web.service"), &made));
        assert!(!passes(&of("we"), &made));
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/x", ""));
        assert!(!is_below("/ab", "/a"));
    }
}
