//! Connections to a peer fail: from the kernel's own events, with the process that asked.
//!
//! Consumes `tcp_connect`, and of `route_failure` what was to be a TCP connection: without a route none is begun. Raised when
//! `failures` attempts to one peer failed within `window` with no success between them; cleared by the next success. The subject is
//! the service that listens on the peer's address, else the peer; without a route it is the peer. A service that does not run, is
//! being restarted, or has not answered yet (within `grace`) is not blamed: its own incident comes first. Nor is one blamed for a
//! connection of another network namespace (a container's), where its address is another host's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use monitor_common::flow::TCP;
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::runaway_cpu::Scope;
use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::{
    Category, Evidence, Finding, ProcessKey, Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "connect_failure",
    summary: "connections to a peer fail, by the kernel's own events",
    category: Category::Network,
    symptom: false,
    needs: &[Kind::TcpConnect, Kind::RouteFailure],
};

/// `[detectors.connect_failure]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How many attempts in a row must fail.
    pub failures: u32,
    /// Within which time.
    pub window: Span,
    /// How long a service that has just started may refuse connections.
    pub grace: Span,
    /// Which connections: those to or from services of the configuration, or all of the host.
    pub scope: Scope,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 3,
            window: Span::seconds(10),
            grace: Span::seconds(60),
            scope: Scope::Configured,
        }
    }
}

/// Most peers that are tracked; beyond it, the one that failed longest ago is forgotten.
const PEERS: usize = 1024;

#[derive(Debug)]
struct Track {
    failures: u32,
    first: Time,
    last: Time,
    raised: Option<Subject>,
}

/// An attempt that came to its end.
struct Attempt<'a> {
    event: &'a Event,
    peer: SocketAddr,
    /// Of another network namespace, where the address means another host.
    elsewhere: bool,
    seen: Time,
    /// The errno; 0 when the connection was made.
    error: u32,
    latency: Duration,
    cause: &'static str,
}

impl<'a> Attempt<'a> {
    /// What the signal tells of one, if it does.
    fn of(signal: &'a Signal) -> Option<Self> {
        let Signal::Kernel { event } = signal else {
            return None;
        };
        match event {
            Event::TcpConnect(connect) => Some(Self {
                event,
                peer: connect.peer(),
                elsewhere: connect.elsewhere != 0,
                seen: Time::from_kernel(event.time_ns()),
                error: connect.error,
                latency: Duration::from_nanos(connect.latency_ns),
                cause: connect.cause().describe(),
            }),
            Event::RouteFailure(failure)
                if failure.flow.protocol == TCP && failure.flow.peer_port != 0 =>
            {
                Some(Self {
                    event,
                    peer: failure.peer(),
                    elsewhere: false,
                    seen: Time::from_kernel(event.time_ns()),
                    error: failure.error,
                    latency: Duration::ZERO,
                    cause: failure.cause().describe(),
                })
            }
            _ => None,
        }
    }
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// By address, and whether it is one of other network namespaces.
    peers: BTreeMap<(SocketAddr, bool), Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            peers: BTreeMap::new(),
        }
    }

    /// Whom to blame for a failure of this peer; none when it is no business of ours, or another incident's.
    fn subject(&self, attempt: &Attempt<'_>, world: &World) -> Option<Subject> {
        let Attempt { peer, seen, .. } = *attempt;
        if attempt.event.kind() == Kind::TcpConnect
            && !attempt.elsewhere
            && let Some(service) = world.listener(peer)
        {
            let started = service.started?;
            let warming_up = service.answers.is_none() && seen.since(started) < self.config.grace.0;
            let blamed = service.process.is_some() && !service.in_action && !warming_up;
            return blamed.then(|| Subject::service(&service.name));
        }
        let caller = ProcessKey::from_task(attempt.event.task());
        // Anchors of networks may refuse connections all the time.
        let all = self.config.scope == Scope::All && !world.is_own(caller.pid);
        let ours = all || world.service_of(caller).is_some();
        ours.then_some(Subject::Peer { address: peer })
    }

    fn make_room(&mut self) {
        if self.peers.len() >= PEERS {
            let idle = self
                .peers
                .iter()
                .filter(|(_, track)| track.raised.is_none());
            let oldest = idle
                .min_by_key(|(_, track)| track.last)
                .map(|(peer, _)| *peer);
            if let Some(peer) = oldest.or_else(|| self.peers.keys().next().copied()) {
                self.peers.remove(&peer);
            }
        }
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, _at: Time, world: &World, out: &mut Vec<Finding>) {
        let Some(attempt) = Attempt::of(signal) else {
            return;
        };
        let Attempt { peer, seen, .. } = attempt;
        let key = (peer, attempt.elsewhere);
        if attempt.error == 0 {
            if let Some(subject) = self.peers.remove(&key).and_then(|track| track.raised) {
                let because = format!("a connection was made in {:.1?}", attempt.latency);
                out.push(Finding::Cleared {
                    subject,
                    seen,
                    because,
                });
            }
            return;
        }
        let Some(subject) = self.subject(&attempt, world) else {
            return;
        };
        if !self.peers.contains_key(&key) {
            self.make_room();
        }
        let fresh = Track {
            failures: 0,
            first: seen,
            last: seen,
            raised: None,
        };
        let track = self.peers.entry(key).or_insert(fresh);
        if track.raised.is_none() && seen.since(track.first) > self.config.window.0 {
            track.failures = 0;
            track.first = seen;
        }
        track.failures = track.failures.saturating_add(1);
        track.last = seen;
        if track.failures >= self.config.failures && track.raised.is_none() {
            track.raised = Some(subject.clone());
            // Any number is an error here; one that the kernel does not have is only called unknown.
            let error =
                std::io::Error::from_raw_os_error(i32::try_from(attempt.error).unwrap_or(i32::MAX));
            let caller = attempt.event.task();
            let evidence = Evidence::at(seen)
                .from_probe(attempt.event.kind())
                .since(track.first)
                .about_whom(attempt.event)
                .fact("peer", peer)
                .fact("error", error)
                .fact("cause", attempt.cause)
                .fact("failures in a row", track.failures)
                .fact("caller", format!("{} [{}]", caller.comm(), caller.pid));
            out.push(Finding::Raised {
                subject,
                severity: Severity::Critical,
                evidence,
            });
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.connect_failure.clone();
    }
}
