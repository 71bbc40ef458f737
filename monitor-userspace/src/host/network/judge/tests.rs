use super::*;
use crate::model::network::IpFamily;
use crate::model::way::{Address, Device, FOREVER, NeighbourEntry, Prefix, Route};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn way() -> Way {
    Way {
        name: "uplink".to_owned(),
        device: "wire".to_owned(),
        names: vec!["a.example".to_owned()],
        ..Way::default()
    }
}

fn was() -> (Baseline, Seen) {
    let address = Address {
        prefix: Prefix::parse("10.0.0.2/24").expect("it reads"),
        valid: FOREVER,
        preferred: FOREVER,
    };
    let route = Route {
        family: IpFamily::Ipv4,
        to: None,
        via: Some(ip("10.0.0.1")),
        device: 3,
        metric: 0,
        source: None,
        protocol: 4,
        onlink: false,
    };
    let before = Baseline {
        device: 3,
        addresses: vec![address],
        routes: vec![route],
        gateway: Some(ip("10.0.0.1")),
        gateway_link: vec![2, 0, 0, 0, 0, 1],
        resolv_conf: Some("nameserver 10.0.0.53\n".to_owned()),
    };
    let seen = Seen {
        device: Device {
            index: 3,
            name: "wire".to_owned(),
        },
        up: true,
        carrier: true,
        addresses: vec![address],
        routes: vec![route],
        neighbour: Some(NeighbourEntry {
            address: ip("10.0.0.1"),
            link: vec![2, 0, 0, 0, 0, 1],
            permanent: false,
        }),
        resolv_conf: before.resolv_conf.clone(),
        resolvers: vec![ip("10.0.0.53")],
        ..Seen::default()
    };
    (before, seen)
}

fn judged(change: impl FnOnce(&mut Seen, &mut Answers)) -> Option<&'static str> {
    let (before, mut seen) = was();
    let mut answers = Answers {
        anchors: vec![false, false],
        gateway: false,
        asked_gateway: true,
    };
    change(&mut seen, &mut answers);
    let found = judge(&way(), &before, seen, &answers);
    assert!(!found.facts.is_empty());
    found.fault.map(|fault| fault.layer())
}

#[test]
fn the_lowest_layer_that_is_broken_is_named() {
    assert_eq!(
        judged(|seen, _| seen.device = Device::default()),
        Some("link")
    );
    assert_eq!(judged(|seen, _| seen.up = false), Some("link"));
    assert_eq!(judged(|seen, _| seen.carrier = false), Some("link"));
    let without_address = |seen: &mut Seen, _: &mut Answers| {
        seen.addresses.clear();
        seen.routes.clear();
    };
    assert_eq!(judged(without_address), Some("address"));
    assert_eq!(judged(|seen, _| seen.routes.clear()), Some("route"));
    let elsewhere = |seen: &mut Seen, _: &mut Answers| {
        for route in &mut seen.routes {
            route.via = Some(ip("10.0.0.77"));
        }
    };
    assert_eq!(judged(elsewhere), Some("route"));
    let moved = |seen: &mut Seen, _: &mut Answers| {
        let entry = seen.neighbour.as_mut().expect("it is there");
        entry.link = vec![2, 0, 0, 0, 0, 9];
    };
    assert_eq!(judged(moved), Some("neighbour"));
    assert_eq!(judged(|_, _| ()), Some("gateway"));
    assert_eq!(
        judged(|_, answers| answers.gateway = true),
        Some("upstream")
    );
}

#[test]
fn what_packets_get_through_by_is_not_broken() {
    let through = |seen: &mut Seen, answers: &mut Answers| {
        answers.anchors = vec![false, true];
        seen.up = false;
        seen.routes.clear();
        seen.addresses.clear();
    };
    assert_eq!(judged(through), None);
}

#[test]
fn resolvers_that_are_silent_are_told_from_a_file_that_changed() {
    let silent = |seen: &mut Seen, answers: &mut Answers| {
        answers.anchors = vec![true];
        seen.resolvers.clear();
    };
    assert_eq!(judged(silent), Some("dns"));
    let (before, mut seen) = was();
    let answers = Answers {
        anchors: vec![true],
        ..Answers::default()
    };
    seen.resolv_conf = Some("nameserver 10.0.0.99\n".to_owned());
    let found = judge(&way(), &before, seen.clone(), &answers);
    assert_eq!(found.fault, Some(NetworkFault::ResolversChanged));
    // It is somebody else's choice, as long as it works.
    seen.resolvers.push(ip("10.0.0.99"));
    assert_eq!(judge(&way(), &before, seen, &answers).fault, None);
}
