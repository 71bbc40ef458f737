//! A listener does not accept fast enough: its queue is full, and the kernel drops connections to it without a word.
//!
//! Consumes `listen_overflow` (the queue has just been filled), `tcp_connect` (a connection of this host waited or failed for it) and
//! samples of full queues. Sightings of one second count once. Raised after `times` of them within `window`; cleared after `quiet`
//! without one. The subject is the service whose listener it is, else the listener's address.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use monitor_common::{DropClass, Event, Kind, Task};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::{Category, Evidence, Finding, Sample, Severity, Signal, Subject, Time, World};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "accept_queue_overflow",
    summary: "a listener's accept queue is full again and again: connections to it are dropped",
    category: Category::Network,
    symptom: false,
    needs: &[Kind::ListenOverflow],
};

/// `[detectors.accept_queue_overflow]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// In how many seconds the queue must have been full.
    pub times: u32,
    /// Within which time.
    pub window: Span,
    /// How long it must not have been full for the condition to be over.
    pub quiet: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            times: 3,
            window: Span::seconds(10),
            quiet: Span::seconds(10),
        }
    }
}

/// Most listeners that are followed; beyond it, further ones are not.
const LISTENERS: usize = 256;
/// Sightings that are closer together count once.
const APART: Duration = Duration::from_secs(1);

/// A full queue, as it was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Connections in it, and its limit; none when only a connection told of it.
    queue: Option<(u32, u32)>,
    /// What the listener had dropped by then; 0 when unknown.
    drops: u32,
}

#[derive(Debug)]
struct Track {
    subject: Subject,
    times: VecDeque<Time>,
    last: Time,
    seen: Seen,
    raised: bool,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    listeners: BTreeMap<SocketAddr, Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            listeners: BTreeMap::new(),
        }
    }

    /// The listener that takes connections to this address, as it is known here.
    fn known(&self, address: SocketAddr) -> SocketAddr {
        let takes = |known: &&SocketAddr| {
            known.port() == address.port()
                && (known.ip() == address.ip() || known.ip().is_unspecified())
        };
        self.listeners
            .keys()
            .find(takes)
            .copied()
            .unwrap_or(address)
    }

    fn full(
        &mut self,
        listener: SocketAddr,
        subject: Subject,
        seen: Seen,
        at: Time,
        out: &mut Vec<Finding>,
    ) {
        if !self.listeners.contains_key(&listener) && self.listeners.len() >= LISTENERS {
            return;
        }
        let track = self.listeners.entry(listener).or_insert_with(|| Track {
            subject,
            times: VecDeque::new(),
            last: at,
            seen,
            raised: false,
        });
        track.last = track.last.max(at);
        if seen.queue.is_some() {
            track.seen = seen;
        }
        if track
            .times
            .back()
            .is_none_or(|last| at.since(*last) >= APART)
        {
            track.times.push_back(at);
        }
        let window = self.config.window.0;
        while track
            .times
            .front()
            .is_some_and(|first| at.since(*first) > window)
        {
            track.times.pop_front();
        }
        let times = u32::try_from(track.times.len()).unwrap_or(u32::MAX);
        if track.raised || times < self.config.times {
            return;
        }
        track.raised = true;
        let mut evidence = Evidence::at(at)
            .from_probe(Kind::ListenOverflow)
            .since(track.times.front().copied().unwrap_or(at))
            .fact("listener", listener)
            .fact("times its queue was seen full", times);
        if let Some((queue, limit)) = track.seen.queue {
            evidence = evidence
                .fact("connections that wait for accept", queue)
                .fact("limit of the queue", limit);
        }
        if track.seen.drops > 0 {
            evidence = evidence.fact("packets it has dropped", track.seen.drops);
        }
        let severity = match track.subject {
            Subject::Service { .. } => Severity::Critical,
            _ => Severity::Warning,
        };
        out.push(Finding::Raised {
            subject: track.subject.clone(),
            severity,
            evidence,
        });
    }

    fn over(&self, track: &Track) -> Time {
        track.last.after(self.config.quiet.0)
    }
}

/// Whose listener it is: by the cgroup that made it, else by where it listens.
fn subject(world: &World, listener: SocketAddr, task: Option<&Task>) -> Subject {
    let by_cgroup = task.and_then(|task| world.service_of_cgroup(task.cgroup_id));
    let by_port = || {
        let anywhere = listener.ip().is_unspecified();
        world.services.listening(listener.port(), |_| anywhere)
    };
    match by_cgroup
        .or_else(|| world.listener(listener))
        .or_else(by_port)
    {
        Some(service) => Subject::service(&service.name),
        None => Subject::Peer { address: listener },
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Kernel {
                event: Event::ListenOverflow(full),
            } => {
                let listener = full.listener();
                let seen = Seen {
                    queue: Some((full.queue, full.limit)),
                    drops: full.drops,
                };
                let subject = subject(world, listener, Some(&full.task));
                let at = Time::from_kernel(full.header.time_ns);
                self.full(listener, subject, seen, at, out);
            }
            Signal::Kernel {
                event: Event::TcpConnect(connect),
            } if connect.drop_class == DropClass::AcceptQueueFull as u16 => {
                let listener = self.known(connect.peer());
                let subject = subject(world, listener, None);
                let at = Time::from_kernel(connect.header.time_ns);
                self.full(listener, subject, Seen::default(), at, out);
            }
            Signal::Sample {
                sample: Sample::ListenQueues { full },
            } => {
                for queue in full {
                    let seen = Seen {
                        queue: Some((queue.queue, queue.limit)),
                        drops: 0,
                    };
                    let subject = subject(world, queue.address, None);
                    self.full(queue.address, subject, seen, at, out);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let quiet = self.config.quiet.0;
        self.listeners.retain(|_, track| {
            if track.last.after(quiet) > at {
                return true;
            }
            if track.raised {
                out.push(Finding::Cleared {
                    subject: track.subject.clone(),
                    seen: at,
                    because: format!("its queue was not full for {quiet:.1?}"),
                });
            }
            false
        });
    }

    fn wake(&self) -> Option<Time> {
        self.listeners.values().map(|track| self.over(track)).min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.accept_queue_overflow.clone();
    }
}
