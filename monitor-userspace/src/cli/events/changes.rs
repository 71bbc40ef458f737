//! Changes of the network, which are no event of a probe: rtnetlink tells of them.

use serde::Serialize;

use crate::cli::render::Style;
use crate::model::Time;
use crate::model::network::{LinkState, NetworkChange};

/// The name under which they are asked for, and shown.
pub(super) const NAME: &str = "network_change";

/// In words.
pub(super) fn what(change: &NetworkChange) -> String {
    match change {
        NetworkChange::Link { name, kind, state } => {
            let kind = kind.as_deref().unwrap_or("link");
            format!("{kind} {name} {}", state.words())
        }
        NetworkChange::DefaultRoute {
            family,
            present,
            device,
        } => {
            let verb = if *present {
                "there is a"
            } else {
                "lost the last"
            };
            format!("{verb} default route of {family} via {device}")
        }
        NetworkChange::Neighbour {
            address,
            device,
            reachable,
        } => {
            let verb = if *reachable {
                "answers again"
            } else {
                "does not answer"
            };
            format!("neighbour {address} on {device} {verb}")
        }
        NetworkChange::Missed => {
            "changes were lost: they came faster than they were read; all is read anew".to_owned()
        }
    }
}

/// How much it matters.
pub(super) const fn style(change: &NetworkChange) -> Option<Style> {
    match change {
        NetworkChange::Link {
            state: LinkState::NoCarrier,
            ..
        }
        | NetworkChange::DefaultRoute { present: false, .. }
        | NetworkChange::Neighbour {
            reachable: false, ..
        } => Some(Style::Bad),
        _ => None,
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    monotonic_ns: u64,
    probe: &'static str,
    #[serde(flatten)]
    change: &'a NetworkChange,
}

/// The line of JSON, without its end; `wall` is its time on the wall clock.
pub(super) fn json(change: &NetworkChange, at: Time, wall: String) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        time: wall,
        monotonic_ns: at
            .since(Time::from_nanos(0))
            .as_nanos()
            .try_into()
            .unwrap_or(u64::MAX),
        probe: NAME,
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::IpFamily;

    #[test]
    fn a_change_is_words_and_fields() {
        let lost = NetworkChange::DefaultRoute {
            family: IpFamily::Ipv6,
            present: false,
            device: "eth0".to_owned(),
        };
        assert_eq!(what(&lost), "lost the last default route of IPv6 via eth0");
        let line = json(&lost, Time::from_nanos(5), "now".to_owned()).expect("it can be written");
        assert_eq!(
            line,
            r#"{"time":"now","monotonic_ns":5,"probe":"network_change","change":"default_route","family":"ipv6","present":false,"device":"eth0"}"#
        );
        let up = NetworkChange::Link {
            name: "wire".to_owned(),
            kind: Some("veth".to_owned()),
            state: LinkState::Up,
        };
        assert_eq!(what(&up), "veth wire is up");
    }
}
