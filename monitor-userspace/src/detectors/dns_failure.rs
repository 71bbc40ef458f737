//! A DNS server fails: its answers say so, or none come.
//!
//! Consumes `dns_query`. Raised when `failures` questions to one server had no answer or a code such as SERVFAIL or REFUSED within
//! `window`, with no good answer between them; cleared by the next good one, also a late one. That there is no such name is a good
//! answer. The subject is the server; since it is mostly not of this host, nothing is done about it but to report it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use monitor_common::probes::dns_query::{DnsQuery, qtype_name};
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::runaway_cpu::Scope;
use super::{Detector, Spec, service_of_task};
use crate::config::units::Span;
use crate::model::{
    Category, Evidence, Finding, ProcessKey, Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "dns_failure",
    summary: "a DNS server does not answer, or answers that it failed",
    category: Category::Network,
    symptom: false,
    needs: &[Kind::DnsQuery],
};

/// `[detectors.dns_failure]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How many questions in a row must fail.
    pub failures: u32,
    /// Within which time.
    pub window: Span,
    /// Whose questions: those of services of the configuration, or all of the host.
    pub scope: Scope,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            window: Span::seconds(30),
            // A server that fails one process fails all.
            scope: Scope::All,
        }
    }
}

/// Most servers that are tracked; beyond it, the one that failed longest ago is forgotten.
const SERVERS: usize = 256;

#[derive(Debug)]
struct Track {
    failures: u32,
    unanswered: u32,
    first: Time,
    last: Time,
    raised: bool,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    servers: BTreeMap<SocketAddr, Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            servers: BTreeMap::new(),
        }
    }

    fn make_room(&mut self) {
        if self.servers.len() >= SERVERS {
            let idle = self.servers.iter().filter(|(_, track)| !track.raised);
            let oldest = idle.min_by_key(|(_, track)| track.last);
            let oldest = oldest.or_else(|| self.servers.iter().next());
            if let Some(server) = oldest.map(|(server, _)| *server) {
                self.servers.remove(&server);
            }
        }
    }

    fn answered(&mut self, query: &DnsQuery, out: &mut Vec<Finding>) {
        let server = query.server();
        let seen = Time::from_kernel(query.header.time_ns);
        // Failures overtake the answers before them, which wait in the bulk ring.
        if self.servers.get(&server).is_some_and(|it| seen < it.last) {
            return;
        }
        if self.servers.remove(&server).is_some_and(|it| it.raised) {
            let latency = Duration::from_nanos(query.latency_ns);
            out.push(Finding::Cleared {
                subject: Subject::Peer { address: server },
                seen,
                because: format!("it answered {} in {latency:.1?}", query.result()),
            });
        }
    }

    fn failed(&mut self, query: &DnsQuery, out: &mut Vec<Finding>) {
        let server = query.server();
        let seen = Time::from_kernel(query.header.time_ns);
        if !self.servers.contains_key(&server) {
            self.make_room();
        }
        let fresh = Track {
            failures: 0,
            unanswered: 0,
            first: seen,
            last: seen,
            raised: false,
        };
        let track = self.servers.entry(server).or_insert(fresh);
        if !track.raised && seen.since(track.first) > self.config.window.0 {
            track.failures = 0;
            track.unanswered = 0;
            track.first = seen;
        }
        track.failures = track.failures.saturating_add(1);
        if !query.is_answered() {
            track.unanswered = track.unanswered.saturating_add(1);
        }
        track.last = seen;
        if track.raised || track.failures < self.config.failures {
            return;
        }
        track.raised = true;
        let asker = ProcessKey::from_task(&query.task);
        let qtype = qtype_name(query.qtype).unwrap_or("of another type");
        let mut evidence = Evidence::at(seen)
            .from_probe(Kind::DnsQuery)
            .since(track.first)
            .fact("server", server)
            .fact("result", query.result())
            .fact("failures in a row", track.failures)
            .fact("of these without an answer", track.unanswered)
            .fact("last question", format!("{} {qtype}", query.domain()));
        // The packet may have left in somebody else's context.
        if query.task.pid != 0 {
            let comm = query.task.comm();
            let caller = format!("{comm} [{}]", query.task.pid);
            evidence = evidence.about(asker, comm).fact("caller", caller);
        }
        out.push(Finding::Raised {
            subject: Subject::Peer { address: server },
            severity: Severity::Critical,
            evidence,
        });
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, _at: Time, world: &World, out: &mut Vec<Finding>) {
        let Signal::Kernel {
            event: Event::DnsQuery(query),
        } = signal
        else {
            return;
        };
        if !query.failed() {
            self.answered(query, out);
        } else if (self.config.scope == Scope::All && !world.is_own(query.task.pid))
            || service_of_task(world, &query.task).is_some()
        {
            self.failed(query, out);
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.dns_failure.clone();
    }
}
