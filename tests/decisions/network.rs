//! Links that go down and default routes that are lost.

use std::time::Duration;

use smart_monitor::model::network::{IpFamily, LinkState, NetworkChange};
use smart_monitor::model::{IncidentId, Sample, Severity, Signal, State, Subject};

use super::Scene;

fn changes(scene: &mut Scene, change: NetworkChange) {
    let sample = Sample::Network { change };
    let signal = Signal::Sample { sample };
    // As a recording has it.
    let line = serde_json::to_string(&signal).expect("it can be written");
    let read: Signal = serde_json::from_str(&line).expect("it can be read");
    assert_eq!(read, signal);
    scene.signal(&read);
}

fn link(scene: &mut Scene, name: &str, kind: Option<&str>, state: LinkState) {
    let change = NetworkChange::Link {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        state,
    };
    changes(scene, change);
}

fn route(scene: &mut Scene, family: IpFamily, present: bool) {
    let change = NetworkChange::DefaultRoute {
        family,
        present,
        device: "eth0".to_owned(),
    };
    changes(scene, change);
}

fn none(scene: &Scene, number: u64) -> bool {
    scene.engine.incident(IncidentId(number)).is_none()
}

fn device(name: &str) -> Subject {
    Subject::Device {
        name: name.to_owned(),
    }
}

#[test]
fn a_link_without_carrier_is_an_incident_until_it_is_back_and_a_flap_is_none() {
    let mut scene = Scene::new("");
    link(&mut scene, "eth0", None, LinkState::NoCarrier);
    scene.pass(Duration::from_millis(1_900));
    link(&mut scene, "eth0", None, LinkState::Up);
    scene.pass(Duration::from_secs(10));
    assert!(none(&scene, 1), "it came back at once");
    link(&mut scene, "eth0", None, LinkState::NoCarrier);
    scene.pass(Duration::from_millis(2_100));
    let incident = scene.incident(1);
    assert_eq!(incident.detector, "network_down");
    assert_eq!(incident.subject, device("eth0"));
    assert_eq!(incident.severity, Severity::Critical);
    assert_eq!(
        incident.evidence.since.after(Duration::from_secs(2)),
        incident.evidence.seen
    );
    let (_, said) = incident.evidence.facts.first().expect("a fact");
    assert_eq!(said, "eth0 has lost its carrier");
    scene.pass(Duration::from_mins(10));
    assert!(!scene.incident(1).is_over());
    link(&mut scene, "eth0", None, LinkState::Up);
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.engine.wake(), None, "nothing is left to wait for");
    assert!(
        scene.permits.is_empty() && none(&scene, 2),
        "it is only told, and once"
    );
}

#[test]
fn what_comes_and_goes_by_itself_is_not_missed_and_hardware_that_is_gone_is() {
    let mut scene = Scene::new("");
    link(&mut scene, "veth12ab", None, LinkState::Off);
    link(&mut scene, "tun0", Some("tun"), LinkState::Off);
    link(&mut scene, "tun0", Some("tun"), LinkState::Removed);
    scene.pass(Duration::from_secs(10));
    assert!(
        none(&scene, 1),
        "one is ignored, the other was taken away by who made it"
    );
    link(&mut scene, "usb0", None, LinkState::Off);
    link(&mut scene, "usb0", None, LinkState::Removed);
    link(&mut scene, "eth1", None, LinkState::Off);
    scene.pass(Duration::from_secs(3));
    assert_eq!(scene.incident(1).subject, device("eth1"));
    assert_eq!(
        scene.incident(1).severity,
        Severity::Warning,
        "somebody wanted it"
    );
    assert_eq!(scene.incident(2).subject, device("usb0"));
    assert_eq!(scene.incident(2).severity, Severity::Critical);
    link(&mut scene, "eth1", None, LinkState::Renamed);
    assert!(scene.incident(1).is_over());
}

#[test]
fn neighbours_and_losses_are_no_incident_of_their_own() {
    let mut scene = Scene::new("");
    let neighbour = NetworkChange::Neighbour {
        address: "fe80::7".parse().expect("an address"),
        device: "eth0".to_owned(),
        reachable: false,
    };
    changes(&mut scene, neighbour);
    changes(&mut scene, NetworkChange::Missed);
    scene.pass(Duration::from_secs(10));
    assert!(none(&scene, 1));
    assert_eq!(scene.engine.wake(), None);
}

#[test]
fn names_to_ignore_are_configured() {
    let mut scene = Scene::new("[detectors.network_down]\nignore = [\"wlan\"]\nhold = \"0s\"\n");
    link(&mut scene, "wlan0", None, LinkState::NoCarrier);
    link(&mut scene, "veth0", None, LinkState::NoCarrier);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.incident(1).subject, device("veth0"));
    assert!(none(&scene, 2));
}

#[test]
fn default_routes_of_both_families_are_one_incident_of_the_host() {
    let mut scene = Scene::new("");
    route(&mut scene, IpFamily::Ipv6, true);
    route(&mut scene, IpFamily::Ipv4, false);
    route(&mut scene, IpFamily::Ipv6, false);
    scene.pass(Duration::from_secs(3));
    let incident = scene.incident(1);
    assert_eq!(incident.subject, Subject::Host);
    assert_eq!(incident.severity, Severity::Critical);
    let facts = &incident.evidence.facts;
    assert!(
        facts.contains(&("it went via".to_owned(), "eth0".to_owned())),
        "{facts:?}"
    );
    route(&mut scene, IpFamily::Ipv4, true);
    scene.pass(Duration::from_secs(3));
    assert!(!scene.incident(1).is_over(), "the other one is still lost");
    route(&mut scene, IpFamily::Ipv6, true);
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert!(none(&scene, 2));
}
