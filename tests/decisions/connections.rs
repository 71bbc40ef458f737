//! Who is blamed for connections that fail, and who never is.

use std::time::Duration;

use monitor_common::probes::run_queue_latency::RunQueueLatency;
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::{Event, Kind};
use smart_monitor::model::{CheckFailure, CheckResult, Plan, Signal, State};

use super::{RESTART, SERVICE, Scene, attempt, connect, key, settings, task};

const CONNECT: &str = r#"
[[remedy]]
detector = "connect_failure"
on = ["shop"]
action = "kill_process"
severity = "critical"
"#;

#[test]
fn a_service_is_not_blamed_for_connections_of_another_network_namespace() {
    for (elsewhere, raised) in [(0, 1), (1, 0)] {
        let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
        scene.runs(700);
        scene.pass(Duration::from_mins(2));
        for _ in 0..5 {
            scene.kernel(|header| {
                Event::TcpConnect(TcpConnect {
                    elsewhere,
                    ..attempt(header, 111, [127, 0, 0, 1], 8080)
                })
            });
        }
        assert_eq!(scene.engine.open_incidents().count(), raised, "{elsewhere}");
    }
}

#[test]
fn a_destructive_act_is_refused_when_its_evidence_overlaps_a_loss() {
    for (lossy, allowed) in [(false, true), (true, false)] {
        let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
        scene.runs(700);
        connect(&mut scene, 111);
        scene.pass(Duration::from_millis(10));
        let probe = if lossy {
            Kind::TcpConnect
        } else {
            Kind::ProcessFork
        };
        scene.signal(&Signal::Loss { probe, lost: 1 });
        connect(&mut scene, 111);
        connect(&mut scene, 111);
        assert_eq!(
            !scene.permits.is_empty(),
            allowed,
            "losses of another probe do not matter"
        );
        if !allowed {
            assert!(
                scene.refused_by(1).starts_with("evidence_lost:"),
                "{}",
                scene.refused_by(1)
            );
        }
    }
}

#[test]
fn the_caller_of_a_failed_connection_is_never_the_one_to_be_ended() {
    let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
    scene.runs(700);
    for _ in 0..3 {
        connect(&mut scene, 111);
    }
    let permit = scene.permit();
    let Plan::KillProcess { process, .. } = permit.plan() else {
        panic!("not a kill: {permit:?}")
    };
    assert_eq!(*process, key(700), "the caller is process 900");
}

#[test]
fn a_service_that_starts_slowly_is_not_blamed_for_it() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{CONNECT}"));
    scene.starts(700);
    for _ in 0..50 {
        connect(&mut scene, 111);
        let failure = Some(CheckFailure::Connect("refused".to_owned()));
        let latency = Duration::from_millis(1);
        scene.pass(Duration::from_millis(100));
        let result = CheckResult::new("shop", latency, failure);
        scene.signal(&Signal::Check { result });
    }
    assert!(scene.permits.is_empty() && scene.engine.open_incidents().next().is_none());
    scene.pass(Duration::from_mins(2));
    for _ in 0..3 {
        connect(&mut scene, 111);
    }
    assert_eq!(scene.permits.len(), 1, "its grace is over");
}

#[test]
fn a_success_between_failures_starts_the_count_anew() {
    let mut scene = Scene::new(&format!("{SERVICE}{CONNECT}"));
    scene.runs(700);
    for error in [111, 111, 0, 111, 111, 0] {
        connect(&mut scene, error);
    }
    assert!(scene.engine.open_incidents().next().is_none());
}

#[test]
fn a_service_that_is_down_is_not_blamed_for_refusing_connections() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{CONNECT}"));
    scene.runs(700);
    scene.exits(700, 9);
    for _ in 0..10 {
        connect(&mut scene, 111);
    }
    scene.restarts(701);
    for _ in 0..10 {
        connect(&mut scene, 111);
    }
    scene.answers();
    assert_eq!(scene.engine.open_incidents().count(), 0);
    assert!(scene.permits.is_empty(), "one cause, one action");
}

#[test]
fn long_waits_for_a_cpu_are_seen_and_end_with_a_quiet_window() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    for _ in 0..20 {
        scene.kernel(|header| {
            Event::RunQueueLatency(RunQueueLatency {
                header,
                task: task(700, "shop"),
                wait_ns: 30_000_000,
                previous_pid: 900,
                quota: 0,
                throttled_ns: 0,
                idle_ns: 0,
                others_ns: 0,
                forgotten_ns: 0,
                culprits: Default::default(),
                previous_comm: [0; 16],
            })
        });
    }
    assert_eq!(scene.engine.open_incidents().count(), 1);
    scene.pass(Duration::from_mins(1));
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.incident(1).actions, 0);
}

#[test]
fn ten_thousand_incidents_leave_a_bounded_book() {
    let mut scene = Scene::new(&format!(
        "{SERVICE}[detectors.connect_failure]\nfailures = 1\nscope = \"all\"\n"
    ));
    for n in 0..10_000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        scene.kernel(|header| Event::TcpConnect(attempt(header, 111, [10, 0, high, low], 1)));
    }
    let open = scene.engine.open_incidents().count();
    assert_eq!(
        open,
        smart_monitor::model::view::OPEN,
        "and those over it are counted, not kept"
    );
}

#[test]
fn what_is_no_longer_configured_leaves_no_open_incident() {
    let mut scene = Scene::new(&format!(
        "{SERVICE}[detectors.connect_failure]\nfailures = 1\n"
    ));
    scene.runs(700);
    connect(&mut scene, 111);
    assert_eq!(scene.engine.open_incidents().count(), 1);
    scene.engine.reconfigure(settings(""));
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.engine.open_incidents().count(), 0);
}
