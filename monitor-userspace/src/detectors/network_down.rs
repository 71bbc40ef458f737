//! The network of the host is gone, in part: a link that worked carries nothing any more, or the last default route of a family is lost.
//!
//! Consumes samples of the network's changes. Raised when it has lasted for `hold`, so that what comes back at once is nothing; cleared
//! when it is back. Links whose names begin with a word of `ignore` are not looked at. A device that software made and took away again
//! (a tunnel, a bridge) is no loss; hardware that is gone is one. Only reported: what a wire needs is a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::network::{IpFamily, LinkState, NetworkChange};
use crate::model::{Category, Evidence, Finding, Sample, Severity, Signal, Subject, Time, World};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "network_down",
    summary: "a network device that worked is down, or the last default route is lost",
    category: Category::Network,
    symptom: false,
    needs: &[],
};

/// `[detectors.network_down]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How long it must last.
    pub hold: Span,
    /// Beginnings of the names of devices that come and go by themselves.
    pub ignore: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let ignore = ["veth", "docker", "br-", "cali", "lo"];
        Self {
            enabled: true,
            hold: Span::seconds(2),
            ignore: ignore.map(str::to_owned).to_vec(),
        }
    }
}

/// Most links that are followed while they are down; one more is not seen until one of them is back.
const LINKS: usize = 64;

#[derive(Debug)]
struct Link {
    since: Time,
    state: LinkState,
    raised: bool,
}

#[derive(Debug)]
struct Route {
    since: Time,
    device: String,
    raised: bool,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// Those that are down, by name.
    links: BTreeMap<String, Link>,
    /// Those that are lost.
    routes: BTreeMap<IpFamily, Route>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            links: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }

    fn link(&mut self, name: &str, state: LinkState, made: bool, at: Time, out: &mut Vec<Finding>) {
        match state {
            LinkState::NoCarrier | LinkState::Off => {
                let ignored = self.config.ignore.iter().any(|word| name.starts_with(word));
                let known = self.links.contains_key(name);
                if !ignored && !known && self.links.len() < LINKS {
                    let link = Link {
                        since: at,
                        state,
                        raised: false,
                    };
                    self.links.insert(name.to_owned(), link);
                }
            }
            LinkState::Removed if !made => {
                if let Some(link) = self.links.get_mut(name) {
                    link.state = state;
                }
            }
            LinkState::Up | LinkState::Removed | LinkState::Renamed => {
                let down = self.links.remove(name);
                if down.is_some_and(|link| link.raised) {
                    out.push(Finding::Cleared {
                        subject: device(name),
                        seen: at,
                        because: format!("{name} {}", state.words()),
                    });
                }
            }
        }
    }

    fn route(
        &mut self,
        family: IpFamily,
        present: bool,
        device: &str,
        at: Time,
        out: &mut Vec<Finding>,
    ) {
        if !present {
            self.routes.entry(family).or_insert_with(|| Route {
                since: at,
                device: device.to_owned(),
                raised: false,
            });
            return;
        }
        let lost = self.routes.remove(&family);
        // Both families are one incident of the host: over when neither is lost.
        let still = self.routes.values().any(|route| route.raised);
        if lost.is_some_and(|route| route.raised) && !still {
            out.push(Finding::Cleared {
                subject: Subject::Host,
                seen: at,
                because: format!("there is a default route of {family} again, via {device}"),
            });
        }
    }
}

fn device(name: &str) -> Subject {
    Subject::Device {
        name: name.to_owned(),
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let Signal::Sample {
            sample: Sample::Network { change },
        } = signal
        else {
            return;
        };
        match change {
            NetworkChange::Link { name, kind, state } => {
                self.link(name, *state, kind.is_some(), at, out);
            }
            NetworkChange::DefaultRoute {
                family,
                present,
                device,
            } => self.route(*family, *present, device, at, out),
            NetworkChange::Neighbour { .. } | NetworkChange::Missed => {}
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let hold = self.config.hold.0;
        for (name, link) in &mut self.links {
            if link.raised || at < link.since.after(hold) {
                continue;
            }
            link.raised = true;
            let severity = if link.state == LinkState::Off {
                Severity::Warning
            } else {
                Severity::Critical
            };
            out.push(Finding::Raised {
                subject: device(name),
                severity,
                evidence: Evidence::at(at)
                    .since(link.since)
                    .fact("device", format!("{name} {}", link.state.words()))
                    .fact("for", self.config.hold),
            });
        }
        for (family, route) in &mut self.routes {
            if route.raised || at < route.since.after(hold) {
                continue;
            }
            route.raised = true;
            out.push(Finding::Raised {
                subject: Subject::Host,
                severity: Severity::Critical,
                evidence: Evidence::at(at)
                    .since(route.since)
                    .fact("lost", format!("the last default route of {family}"))
                    .fact("it went via", &route.device)
                    .fact("for", self.config.hold),
            });
        }
    }

    fn wake(&self) -> Option<Time> {
        let hold = self.config.hold.0;
        let links = self.links.values().filter(|link| !link.raised);
        let routes = self.routes.values().filter(|route| !route.raised);
        let since = links.map(|link| link.since);
        let since = since.chain(routes.map(|route| route.since));
        since.map(|since| since.after(hold)).min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.network_down.clone();
    }
}
