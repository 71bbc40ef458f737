//! A `[[network]]` does not get packets through: its lowest layer that is broken, or the upstream, or its resolvers.
//!
//! Consumes looks at it (`host::network`), each of which has been made sure of; the evidence is that look, from the bottom up. Cleared by
//! a look that finds all well: one that began after whatever was done about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::model::way::{Diagnosis, NetworkFault};
use crate::model::{Category, Evidence, Finding, Sample, Severity, Signal, Subject, Time, World};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "network_broken",
    summary: "a [[network]] gets nothing through: its link, address, route, neighbour, gateway, upstream, resolver or endpoint",
    category: Category::Network,
    symptom: false,
    needs: &[],
};

/// `[detectors.network_broken]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    /// Since when each is broken; as many as are configured at most.
    broken: BTreeMap<String, Time>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub const fn new(_: Config) -> Self {
        Self {
            broken: BTreeMap::new(),
        }
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        let Signal::Sample {
            sample: Sample::NetworkDiagnosis { diagnosis },
        } = signal
        else {
            return;
        };
        let subject = Subject::Network {
            name: diagnosis.network.clone(),
        };
        match &diagnosis.fault {
            None => {
                // Also one that was raised before the daemon started anew.
                self.broken.remove(&diagnosis.network);
                out.push(Finding::Cleared {
                    subject,
                    seen: at,
                    because: because(diagnosis),
                });
            }
            Some(fault) => {
                if !world.networks.contains_key(&diagnosis.network) {
                    return;
                }
                let since = *self.broken.entry(diagnosis.network.clone()).or_insert(at);
                out.push(Finding::Raised {
                    subject,
                    severity: Severity::Critical,
                    evidence: evidence(diagnosis, fault, since, at),
                });
            }
        }
    }

    fn reconfigure(&mut self, _: &super::Config) {}
}

fn because(diagnosis: &Diagnosis) -> String {
    let mut facts = diagnosis.facts.iter();
    let anchors = facts.find(|(name, _)| name == "anchors");
    let anchors = anchors.map_or("all", |(_, value)| value.as_str());
    format!("packets get through: {anchors}")
}

fn evidence(diagnosis: &Diagnosis, fault: &NetworkFault, since: Time, at: Time) -> Evidence {
    let mut evidence = Evidence::at(at)
        .since(since)
        .fact("layer", fault.layer())
        .fact("broken", fault);
    for (name, value) in &diagnosis.facts {
        evidence = evidence.fact(name, value);
    }
    if let Some(gateway) = diagnosis.before.gateway {
        evidence = evidence.fact("gateway before", gateway);
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;

    fn look(fault: Option<NetworkFault>) -> Signal {
        let diagnosis = Box::new(Diagnosis {
            network: "uplink".to_owned(),
            fault,
            facts: vec![("anchors".to_owned(), "10.9.9.1:80 answers".to_owned())],
            ..Diagnosis::default()
        });
        Signal::Sample {
            sample: Sample::NetworkDiagnosis { diagnosis },
        }
    }

    #[test]
    fn what_is_broken_is_named_until_packets_get_through() {
        let mut detect = Detect::new(Config::default());
        let mut world = World::default();
        let at = Time::from_nanos;
        let mut out = Vec::new();
        detect.observe(&look(Some(NetworkFault::Upstream)), at(1), &world, &mut out);
        assert!(out.is_empty(), "it is not configured");
        world
            .networks
            .insert("uplink".to_owned(), Network::default());
        detect.observe(&look(Some(NetworkFault::LinkOff)), at(2), &world, &mut out);
        detect.observe(&look(Some(NetworkFault::Upstream)), at(3), &world, &mut out);
        detect.observe(&look(None), at(4), &world, &mut out);
        let Finding::Raised { evidence, .. } = &out[1] else {
            panic!("{out:?}");
        };
        assert_eq!((evidence.since, evidence.seen), (at(2), at(3)));
        assert_eq!(
            evidence.facts[0],
            ("layer".to_owned(), "upstream".to_owned())
        );
        let Finding::Cleared { because, seen, .. } = &out[2] else {
            panic!("{out:?}");
        };
        assert_eq!(*seen, at(4));
        assert!(because.contains("10.9.9.1:80 answers"), "{because}");
    }
}
