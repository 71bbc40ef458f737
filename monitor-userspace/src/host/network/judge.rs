//! From what was seen of a way, and who answered, to the lowest layer that is broken. Pure.

use std::net::IpAddr;

use super::files;
use crate::model::way::{Baseline, Diagnosis, NetworkFault, Seen, Way};

/// Who answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Each anchor.
    pub(super) anchors: Vec<bool>,
    /// The gateway, by whatever it was asked.
    pub(super) gateway: bool,
    /// It was asked at all.
    pub(super) asked_gateway: bool,
}

impl Answers {
    /// Something beyond the gateway answers.
    fn through(&self) -> bool {
        self.anchors.contains(&true)
    }
}

pub(super) fn judge(way: &Way, before: &Baseline, seen: Seen, answers: &Answers) -> Diagnosis {
    let fault = fault(way, before, &seen, answers);
    Diagnosis {
        network: way.name.clone(),
        facts: facts(way, before, &seen, answers),
        fault,
        seen,
        before: before.clone(),
    }
}

fn fault(way: &Way, before: &Baseline, seen: &Seen, answers: &Answers) -> Option<NetworkFault> {
    // What packets get through by is not what is broken, whatever it looks like.
    if answers.through() {
        return configured_address(way, before, seen)
            .or_else(|| dns(way, before, seen))
            .or_else(|| endpoint(way, seen));
    }
    if seen.device.index == 0 {
        return Some(NetworkFault::NoDevice);
    }
    if !seen.up {
        return Some(NetworkFault::LinkOff);
    }
    if !seen.carrier {
        return Some(NetworkFault::NoCarrier);
    }
    let addresses = way.lost_addresses(before, seen);
    if !addresses.is_empty() {
        let addresses = addresses.iter().map(|it| it.prefix).collect();
        return Some(NetworkFault::AddressLost { addresses });
    }
    if let Some(wrong) = way.wrong_routes(before, seen).first() {
        let found = wrong.to_string();
        return Some(NetworkFault::RouteWrong { found });
    }
    let routes = way.lost_routes(before, seen);
    if !routes.is_empty() {
        let routes = routes.iter().map(ToString::to_string).collect();
        return Some(NetworkFault::RouteLost { routes });
    }
    let Some(gateway) = way.current(before, seen).or(way.primary(before)) else {
        return Some(NetworkFault::Upstream);
    };
    if answers.gateway {
        return Some(NetworkFault::Upstream);
    }
    if let Some(found) = wrong_neighbour(way, before, seen, gateway) {
        return Some(NetworkFault::NeighbourWrong { gateway, found });
    }
    Some(NetworkFault::GatewaySilent { gateway })
}

/// An address that the configuration names is wanted for itself.
fn configured_address(way: &Way, before: &Baseline, seen: &Seen) -> Option<NetworkFault> {
    let usable = seen.up && seen.device.index != 0;
    let lost = way.lost_addresses(before, seen);
    let named = !way.addresses.is_empty() && usable && !lost.is_empty();
    named.then(|| NetworkFault::AddressLost {
        addresses: lost.iter().map(|it| it.prefix).collect(),
    })
}

/// What is believed of the gateway, where it is not what it was.
fn wrong_neighbour(way: &Way, before: &Baseline, seen: &Seen, gateway: IpAddr) -> Option<String> {
    let entry = seen.neighbour.as_ref()?;
    let primary = way.primary(before) == Some(gateway);
    let moved = primary && !before.gateway_link.is_empty() && entry.link != before.gateway_link;
    // One that was put there by hand while all was well is no mistake.
    let by_hand = entry.permanent && before.gateway_link.is_empty();
    (moved || by_hand).then(|| entry.link_words())
}

fn dns(way: &Way, before: &Baseline, seen: &Seen) -> Option<NetworkFault> {
    if way.names.is_empty() {
        return None;
    }
    let text = seen.resolv_conf.as_deref().unwrap_or_default();
    let named = files::resolvers(text);
    if named.iter().any(|it| seen.resolvers.contains(it)) {
        return None;
    }
    let was = before.resolv_conf.as_deref().map(files::resolvers);
    let was = was.unwrap_or_default();
    let back = was.iter().any(|it| seen.resolvers.contains(it));
    let changed = before.resolv_conf.is_some() && seen.resolv_conf != before.resolv_conf;
    if changed && (back || named.is_empty()) {
        return Some(NetworkFault::ResolversChanged);
    }
    Some(NetworkFault::ResolversSilent)
}

fn endpoint(way: &Way, seen: &Seen) -> Option<NetworkFault> {
    let hosts = seen.hosts.as_deref().unwrap_or_default();
    way.endpoints.iter().find_map(|endpoint| {
        let in_file = files::host(hosts, &endpoint.name, &endpoint.addresses);
        let used = Way::used_endpoint(&endpoint.addresses, in_file)?;
        (!seen.endpoints.contains(&used)).then(|| NetworkFault::EndpointSilent {
            name: endpoint.name.clone(),
            address: used,
        })
    })
}

/// What a person should read, from the bottom up.
fn facts(way: &Way, before: &Baseline, seen: &Seen, answers: &Answers) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    let state = match (seen.device.index, seen.up, seen.carrier) {
        (0, ..) => "is not there",
        (_, false, _) => "is switched off",
        (_, true, false) => "has no carrier",
        (_, true, true) => "is up",
    };
    let name = if seen.device.name.is_empty() {
        &way.device
    } else {
        &seen.device.name
    };
    fact("link", format!("{name} {state}"));
    if *name != way.device {
        fact("renamed", format!("{} is called {name} now", way.device));
    }
    let addresses: Vec<String> = seen
        .addresses
        .iter()
        .map(|it| it.prefix.to_string())
        .collect();
    fact("addresses", or_none(&addresses));
    let defaults = seen.routes.iter().filter(|it| it.to.is_none());
    let defaults: Vec<String> = defaults.map(ToString::to_string).collect();
    fact("routes to everywhere", or_none(&defaults));
    if let Some(entry) = &seen.neighbour {
        let by_hand = if entry.permanent {
            ", put there by hand"
        } else {
            ""
        };
        let link = entry.link_words();
        fact(
            "neighbour",
            format!("{} is at {link}{by_hand}", entry.address),
        );
    }
    if answers.asked_gateway {
        let says = if answers.gateway {
            "answers"
        } else {
            "does not answer"
        };
        fact("gateway", says.to_owned());
    }
    if way.on_backup(before, seen) {
        fact("stopgap", "a backup gateway is used".to_owned());
    }
    let both = way.anchors.iter().zip(&answers.anchors);
    let anchors: Vec<String> = both
        .map(|(anchor, answers)| {
            let says = if *answers {
                "answers"
            } else {
                "does not answer"
            };
            format!("{anchor} {says}")
        })
        .collect();
    fact("anchors", or_none(&anchors));
    if !way.names.is_empty() {
        let named = files::resolvers(seen.resolv_conf.as_deref().unwrap_or_default());
        let says = named.iter().map(|it| {
            let good = seen.resolvers.contains(it);
            let says = if good { "answers" } else { "does not answer" };
            format!("{it} {says}")
        });
        fact("resolvers", or_none(&says.collect::<Vec<_>>()));
    }
    facts
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests;
