//! DNS servers that fail, and those that only know no such name.

use std::time::Duration;

use monitor_common::flow::{AF_INET, UDP};
use monitor_common::probes::dns_query::{
    ANSWERED, DnsQuery, LATE, NOERROR, NXDOMAIN, SERVFAIL, UNANSWERED,
};
use monitor_common::{Event, Flow, Header};
use smart_monitor::model::{State, Subject};

use super::{SERVICE, Scene, task};

const FAST: &str = "[detectors.dns_failure]\nfailures = 3\nwindow = \"10s\"\n";

/// One question to the server with this last byte, and what came of it.
fn asks(scene: &mut Scene, pid: u32, server: u8, outcome: u16, rcode: u16) {
    asked(scene, pid, server, outcome, rcode, 0);
}

/// The same, so many nanoseconds ago.
fn asked(scene: &mut Scene, pid: u32, server: u8, outcome: u16, rcode: u16, ago_ns: u64) {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 0, 0, server]);
    let mut name = [0; 64];
    name[..9].copy_from_slice(b"\x03web\x04test");
    scene.kernel(|header| {
        Event::DnsQuery(DnsQuery {
            header: Header {
                time_ns: header.time_ns - ago_ns,
                ..header
            },
            task: task(pid, if pid == 0 { "" } else { "shop" }),
            flow: Flow {
                peer_address: address,
                peer_port: 53,
                family: AF_INET,
                protocol: UDP,
                ..Flow::default()
            },
            latency_ns: 5_000_000,
            inode: 9,
            sendings: 1,
            id: 1,
            qtype: 1,
            rcode,
            answers: 0,
            outcome,
            truncated: 0,
            name,
        })
    });
}

fn server(last: u8) -> Subject {
    let address = std::net::SocketAddr::from(([10, 0, 0, last], 53));
    Subject::Peer { address }
}

fn open(scene: &Scene) -> usize {
    scene.engine.open_incidents().count()
}

#[test]
fn a_server_that_fails_is_an_incident_until_it_answers() {
    let mut scene = Scene::new(&format!("{SERVICE}{FAST}"));
    asks(&mut scene, 800, 1, UNANSWERED, 0);
    asks(&mut scene, 800, 1, ANSWERED, SERVFAIL);
    // Another server's answers are its own.
    asks(&mut scene, 800, 2, ANSWERED, NOERROR);
    assert_eq!(open(&scene), 0, "two are not three");
    asks(&mut scene, 800, 1, UNANSWERED, 0);
    assert_eq!(open(&scene), 1);
    let incident = scene.incident(1);
    assert_eq!(
        (&*incident.detector, &incident.subject),
        ("dns_failure", &server(1))
    );
    let facts = &incident.evidence.facts;
    for fact in [
        ("result", "no answer"),
        ("failures in a row", "3"),
        ("of these without an answer", "2"),
        ("last question", "web.test A"),
        ("caller", "shop [800]"),
    ] {
        let fact = (fact.0.to_owned(), fact.1.to_owned());
        assert!(facts.contains(&fact), "{fact:?} is not in {facts:#?}");
    }
    asks(&mut scene, 800, 1, ANSWERED, SERVFAIL);
    asks(&mut scene, 800, 2, ANSWERED, NOERROR);
    assert_eq!(open(&scene), 1, "that is no good answer, or not its own");
    asks(&mut scene, 800, 1, LATE, NXDOMAIN);
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert!(scene.permits.is_empty(), "it is only reported");
}

#[test]
fn unknown_names_and_failures_far_apart_are_no_failure() {
    let mut scene = Scene::new(&format!("{SERVICE}{FAST}"));
    for _ in 0..20 {
        asks(&mut scene, 800, 1, ANSWERED, NXDOMAIN);
    }
    for _ in 0..5 {
        asks(&mut scene, 800, 1, UNANSWERED, 0);
        asks(&mut scene, 800, 1, UNANSWERED, 0);
        asks(&mut scene, 800, 1, ANSWERED, NXDOMAIN);
    }
    for _ in 0..10 {
        asks(&mut scene, 800, 1, UNANSWERED, 0);
        scene.pass(Duration::from_secs(6));
    }
    assert_eq!(open(&scene), 0);
}

#[test]
fn only_services_count_where_that_is_asked_for() {
    let scoped = format!("{SERVICE}{FAST}scope = \"configured\"\n");
    let mut scene = Scene::new(&scoped);
    for _ in 0..5 {
        asks(&mut scene, 0, 1, UNANSWERED, 0);
    }
    assert_eq!(open(&scene), 0, "whose they are is not known");
    scene.runs(800);
    for _ in 0..3 {
        asks(&mut scene, 800, 1, UNANSWERED, 0);
    }
    assert_eq!(open(&scene), 1);
}

#[test]
fn who_asked_is_left_out_when_it_is_not_known() {
    let mut scene = Scene::new(&format!("{SERVICE}{FAST}"));
    for _ in 0..3 {
        asks(&mut scene, 0, 1, UNANSWERED, 0);
    }
    let evidence = &scene.incident(1).evidence;
    assert_eq!((evidence.process, evidence.comm.as_deref()), (None, None));
    assert!(evidence.facts.iter().all(|(name, _)| name != "caller"));
}

#[test]
fn a_failure_is_not_undone_by_an_answer_that_it_overtook() {
    let mut scene = Scene::new(&format!("{SERVICE}{FAST}"));
    for _ in 0..3 {
        asks(&mut scene, 800, 1, ANSWERED, SERVFAIL);
        asked(&mut scene, 800, 1, ANSWERED, NOERROR, 1_000);
    }
    assert_eq!(open(&scene), 1);
    asked(&mut scene, 800, 1, ANSWERED, NOERROR, 1_000);
    assert_eq!(open(&scene), 1);
    asks(&mut scene, 800, 1, ANSWERED, NOERROR);
    assert_eq!(open(&scene), 0);
}
