//! Root first: what fails because something else has failed costs no action of its own.
//!
//! A service depends on what the configuration says, and on the services of the configuration that it was seen to connect to. An incident
//! of a service is suppressed while something that it depends on, however far down, has failed; it is released when that is over,
//! and decided about like any other if it has not gone by itself some time later. In a circle, whoever is decided about last is the
//! root: one of them always is acted upon.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Engine, Order};
use crate::model::incident::StepKind;
use crate::model::{
    Category, Dependency, Incident, IncidentId, Severity, State, Subject, Time, World,
};

/// Most connections between services that are remembered.
const LEARNED: usize = 4096;
/// What was not seen for so long is no dependency any more.
const STALE: Duration = Duration::from_hours(1);
/// Most services that are looked through for a root.
const LOOKED_AT: usize = 256;

/// Who was seen to connect to whom, and when last.
#[derive(Debug, Default)]
pub(super) struct Learned {
    by_client: BTreeMap<String, BTreeMap<String, Time>>,
    pairs: usize,
}

impl Learned {
    /// A connection of one service to another.
    pub(super) fn connects(&mut self, from: &str, to: &str, at: Time) {
        // Looked up before it is made into a key: connections are frequent, new pairs are not.
        let servers = self.by_client.get_mut(from);
        if let Some(last) = servers.and_then(|servers| servers.get_mut(to)) {
            *last = at;
            return;
        }
        if self.pairs >= LEARNED {
            self.by_client.retain(|_, servers| {
                servers.retain(|_, last| at.since(*last) < STALE);
                !servers.is_empty()
            });
            self.pairs = self.by_client.values().map(BTreeMap::len).sum();
        }
        if self.pairs < LEARNED {
            let servers = self.by_client.entry(from.to_owned()).or_default();
            servers.insert(to.to_owned(), at);
            self.pairs += 1;
        }
    }

    fn of(&self, from: &str, now: Time) -> impl Iterator<Item = &str> {
        let servers = self.by_client.get(from).into_iter().flatten();
        servers
            .filter(move |(_, last)| now.since(**last) < STALE)
            .map(|(to, _)| to.as_str())
    }
}

/// Something that another thing depends on, and whether the configuration says so.
struct Below {
    subject: Subject,
    configured: bool,
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().is_loopback() || address.ip().is_unspecified()
}

/// The service of this host that listens on an address which somebody connected to. A wildcard listener has every address of this
/// host, but not that of another one with the same port.
pub(super) fn listener(world: &World, peer: SocketAddr) -> Option<&str> {
    let service = world.services.listening(peer.port(), |own| {
        own.ip() == peer.ip() || own.ip().is_unspecified() && is_local(peer)
    })?;
    Some(&service.name)
}

impl Engine {
    /// What a subject depends on directly.
    fn below(&self, subject: &Subject, now: Time, out: &mut Vec<Below>) {
        let name = match subject {
            Subject::Service { name } => name,
            Subject::Peer { address } if !is_local(*address) => {
                // Whatever the route, it begins at a device of this host.
                out.extend(self.down_devices().map(|subject| Below {
                    subject,
                    configured: true,
                }));
                return;
            }
            _ => return,
        };
        let service = self.world.services.get(name);
        for on in service.map_or(&[][..], |service| &service.depends_on) {
            let subject = match on {
                Dependency::Service(name) => Subject::service(name),
                Dependency::Peer(address) => match listener(&self.world, *address) {
                    Some(name) => Subject::service(name),
                    None => Subject::Peer { address: *address },
                },
            };
            out.push(Below {
                subject,
                configured: true,
            });
        }
        if self.policy.config().learn_dependencies {
            out.extend(self.learned.of(name, now).map(|name| Below {
                subject: Subject::service(name),
                configured: false,
            }));
        }
    }

    fn down_devices(&self) -> impl Iterator<Item = Subject> {
        let down = self
            .book
            .open()
            .filter(|incident| incident.detector == "network_down");
        down.map(|incident| incident.subject.clone())
    }

    /// The incident by which a subject counts as failed: one that can be a root.
    fn failure_of(&self, below: &Below) -> Option<IncidentId> {
        let failed = |incident: &&Incident| {
            let fails = matches!(incident.category, Category::Service | Category::Network);
            // One that was only seen to be connected to does not hold others back when nobody can mend it, or no rule may.
            let mended = incident.state != State::Escalated && incident.rule.is_some();
            let holds = below.configured || mended;
            let is_root = incident.state != State::Suppressed;
            fails && holds && is_root && incident.severity == Severity::Critical
        };
        self.book
            .open_on(&below.subject)
            .find(failed)
            .map(|incident| incident.id)
    }

    /// The failure that an incident follows from, the furthest one down.
    pub(super) fn root_of(&self, incident: &Incident, now: Time) -> Option<IncidentId> {
        let mut next = Vec::new();
        self.below(&incident.subject, now, &mut next);
        if next.is_empty() {
            return None;
        }
        let mut seen: BTreeSet<Subject> = BTreeSet::from([incident.subject.clone()]);
        let mut root = None;
        while !next.is_empty() && seen.len() < LOOKED_AT {
            let mut further = Vec::new();
            for below in next {
                if !seen.insert(below.subject.clone()) {
                    continue;
                }
                if let Some(failure) = self.failure_of(&below) {
                    root = Some(failure);
                }
                let from = further.len();
                self.below(&below.subject, now, &mut further);
                // What is seen below what is only seen is only seen.
                for deeper in further.iter_mut().skip(from) {
                    deeper.configured &= below.configured;
                }
            }
            next = further;
        }
        root.filter(|root| *root != incident.id)
    }

    /// Until when an incident waits for word of a failure that it may follow from.
    pub(super) fn awaits_root(
        &self,
        incident: &Incident,
        symptom: bool,
        now: Time,
    ) -> Option<Time> {
        let config = self.policy.config();
        let wait = if symptom {
            config.root_wait_symptom
        } else {
            config.root_wait
        };
        let until = incident.opened.after(wait.0);
        if now >= until {
            return None;
        }
        let mut below = Vec::new();
        self.below(&incident.subject, now, &mut below);
        let unheard =
            below.iter().any(|below| match &below.subject {
                // Well by a check that was sent after the trouble began.
                Subject::Service { name } => self.world.services.get(name).is_none_or(|service| {
                    !self.answered_since(&service.name, incident.evidence.seen)
                }),
                _ => true,
            });
        unheard.then_some(until)
    }

    fn answered_since(&self, service: &str, since: Time) -> bool {
        let answered = self.answered.get(service);
        answered.is_some_and(|sent| *sent >= since)
    }

    pub(super) fn suppress(
        &mut self,
        id: IncidentId,
        root: IncidentId,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let what = self.book.get(root).map(|root| {
            format!(
                "incident {} ({} of {})",
                root.id, root.detector, root.subject
            )
        });
        let news = self.book.change(id, |incident| {
            if incident.suppressed_by == Some(root) {
                return false;
            }
            incident.state = State::Suppressed;
            incident.suppressed_by = Some(root);
            incident.proposed = None;
            let line = format!("follows from {}", what.unwrap_or_default());
            incident.step(now, StepKind::Suppressed, line);
            true
        });
        if news == Some(true) {
            self.counts.suppressed += 1;
            self.record(id, orders);
        }
    }

    /// An incident is not held back any more.
    pub(super) fn release(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        self.book.change(id, |incident| {
            incident.state = State::Open;
            incident.suppressed_by = None;
            incident.step(now, StepKind::Released, "what it followed from is over");
        });
        self.record(id, orders);
    }

    /// A root is over: what followed from it has some time to recover by itself.
    pub(super) fn release_all(&mut self, root: IncidentId, now: Time) {
        let settled = now.after(self.policy.config().root_settle.0);
        for id in self.book.suppressed_by(root) {
            self.retries.insert(id, settled);
        }
    }

    /// A root was given up: what it only seems to hold back, by connections that were seen, is not held back any more.
    pub(super) fn ask_held(&mut self, root: IncidentId, now: Time) {
        if self
            .book
            .get(root)
            .is_none_or(|root| root.state != State::Escalated)
        {
            return;
        }
        for id in self.book.suppressed_by(root) {
            self.retries.entry(id).or_insert(now);
        }
    }

    /// Learns from a connection that was made, or was tried, in the daemon's own network namespace.
    pub(super) fn learn(&mut self, event: &monitor_common::Event, at: Time) {
        let monitor_common::Event::TcpConnect(connect) = event else {
            return;
        };
        if connect.elsewhere != 0 || self.world.services.len() < 2 {
            return;
        }
        let process = crate::model::ProcessKey::from_task(&connect.task);
        let from = self
            .world
            .service_of(process)
            .or_else(|| self.world.service_of_cgroup(connect.task.cgroup_id));
        let (Some(from), Some(to)) = (from, listener(&self.world, connect.flow.peer())) else {
            return;
        };
        if from.name != to {
            self.learned.connects(&from.name, to, at);
        }
    }
}
