//! Connections that are never begun, since no route leads to the peer.

use std::time::Duration;

use monitor_common::flow::{AF_INET, TCP, UDP};
use monitor_common::probes::route_failure::{EACCES, ENETUNREACH, RouteFailure};
use monitor_common::{Event, Flow, Kind};
use smart_monitor::model::{State, Subject};

use super::{SERVICE, Scene, connect, task};

const ALL: &str = "[detectors.connect_failure]\nscope = \"all\"\n";

fn no_route(scene: &mut Scene, protocol: u16, error: u32) {
    scene.kernel(|header| {
        let mut peer_address = [0; 16];
        peer_address[..4].copy_from_slice(&[127, 0, 0, 1]);
        Event::RouteFailure(RouteFailure {
            header,
            task: task(900, "client"),
            flow: Flow {
                local_address: [0; 16],
                peer_address,
                local_port: 0,
                peer_port: 8080,
                family: AF_INET,
                protocol,
            },
            error,
            table: 254,
            interface: 0,
            padding: 0,
        })
    });
    scene.pass(Duration::from_millis(10));
}

#[test]
fn attempts_without_a_route_are_failures_until_one_succeeds() {
    let mut scene = Scene::new(&format!("{SERVICE}{ALL}"));
    scene.runs(700);
    scene.pass(Duration::from_mins(2));
    for _ in 0..2 {
        no_route(&mut scene, TCP, ENETUNREACH);
    }
    assert_eq!(scene.engine.open_incidents().count(), 0);
    no_route(&mut scene, TCP, EACCES);
    let incident = scene.incident(1);
    assert_eq!(incident.evidence.probe, Some(Kind::RouteFailure));
    let cause = incident
        .evidence
        .facts
        .iter()
        .find(|(name, _)| name == "cause");
    let (_, cause) = cause.expect("it is said");
    assert_eq!(cause, "a route of this host prohibits it");
    // A missing route is no fault of the service that listens there.
    assert!(matches!(incident.subject, Subject::Peer { .. }));
    connect(&mut scene, 0);
    scene.pass(Duration::from_mins(5));
    assert_eq!(scene.incident(1).state, State::Resolved);
}

#[test]
fn both_ways_to_fail_count_together_and_datagrams_do_not() {
    let mut scene = Scene::new(&format!("{SERVICE}{ALL}"));
    scene.runs(700);
    scene.pass(Duration::from_mins(2));
    for _ in 0..5 {
        no_route(&mut scene, UDP, ENETUNREACH);
    }
    assert_eq!(scene.engine.open_incidents().count(), 0);
    connect(&mut scene, 113);
    no_route(&mut scene, TCP, ENETUNREACH);
    connect(&mut scene, 113);
    assert_eq!(scene.engine.open_incidents().count(), 1);
}
