//! Listeners that do not accept fast enough.

use std::net::SocketAddr;
use std::time::Duration;

use monitor_common::Event;
use monitor_common::flow::{AF_INET, TCP};
use monitor_common::probes::listen_overflow::ListenOverflow;
use monitor_common::{Flow, Task};
use smart_monitor::model::{ListenQueue, Sample, Severity, Signal, State, Subject};

use super::{SERVICE, Scene, task};

fn filled(scene: &mut Scene, address: [u8; 4], port: u16) {
    let mut local = [0; 16];
    for (to, from) in local.iter_mut().zip(address) {
        *to = from;
    }
    scene.kernel(|header| {
        Event::ListenOverflow(ListenOverflow {
            header,
            task: Task {
                pid: 0,
                ..task(0, "")
            },
            flow: Flow {
                local_address: local,
                local_port: port,
                family: AF_INET,
                protocol: TCP,
                ..Flow::default()
            },
            inode: 7,
            queue: 129,
            limit: 128,
            drops: 40,
            waiting: 0,
        })
    });
}

fn sampled(scene: &mut Scene, address: &str) {
    let queue = ListenQueue {
        address: address.parse().expect("an address"),
        queue: 6,
        limit: 5,
    };
    let sample = Sample::ListenQueues { full: vec![queue] };
    scene.signal(&Signal::Sample { sample });
}

#[test]
fn a_queue_that_is_full_for_seconds_is_its_services_and_over_when_it_is_quiet() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    filled(&mut scene, [0, 0, 0, 0], 8080);
    filled(&mut scene, [0, 0, 0, 0], 8080);
    filled(&mut scene, [0, 0, 0, 0], 8080);
    scene.pass(Duration::from_secs(1));
    sampled(&mut scene, "0.0.0.0:8080");
    let none = scene.engine.incident(smart_monitor::model::IncidentId(1));
    assert!(none.is_none(), "a burst is none, however many saw it");
    scene.pass(Duration::from_secs(1));
    filled(&mut scene, [0, 0, 0, 0], 8080);
    let incident = scene.incident(1);
    assert_eq!(incident.detector, "accept_queue_overflow");
    assert_eq!(incident.subject, Subject::service("shop"));
    assert_eq!(incident.severity, Severity::Critical);
    let facts = &incident.evidence.facts;
    for (name, value) in [
        ("listener", "0.0.0.0:8080"),
        ("connections that wait for accept", "129"),
        ("limit of the queue", "128"),
        ("packets it has dropped", "40"),
    ] {
        let fact = facts.iter().find(|(known, _)| known == name);
        assert_eq!(fact.map(|(_, value)| &**value), Some(value), "{name}");
    }
    scene.pass(Duration::from_secs(9));
    assert!(!scene.incident(1).is_over());
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.engine.wake(), None, "nothing is left to wait for");
    assert!(scene.permits.is_empty(), "it is only told");
}

#[test]
fn one_that_stays_full_is_seen_by_samples_alone_and_a_strangers_is_named_by_address() {
    let mut scene = Scene::new(SERVICE);
    for _ in 0..3 {
        sampled(&mut scene, "[::1]:5000");
        scene.pass(Duration::from_millis(1_010));
    }
    let incident = scene.incident(1);
    let address: SocketAddr = "[::1]:5000".parse().expect("an address");
    assert_eq!(incident.subject, Subject::Peer { address });
    assert_eq!(incident.severity, Severity::Warning);
}
