//! Services that are meant to keep something, and do not.

use std::time::Duration;

use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{
    Answers, CheckFailure, CheckResult, Sample, ServiceSignal, ServiceState, Signal, View,
};

use super::{Scene, key};

const CONFIG: &str = r#"
[[service]]
name = "shop"
kind = "command"
command = ["shop"]
check = { http = "http://127.0.0.1:8080/" }
objectives = { latency = "200ms", errors = "5%", over = "5m" }

[detectors.slower_than_usual]
enabled = false
"#;

fn check(scene: &mut Scene, took: u64, failure: Option<CheckFailure>) {
    scene.pass(Duration::from_secs(5));
    let result = CheckResult::new("shop", Duration::from_millis(took), failure);
    scene.signal(&Signal::Check { result });
}

fn asked(scene: &mut Scene, p99_ms: u64) {
    scene.pass(Duration::from_secs(5));
    let answers = Answers {
        interval_ns: 5_000_000_000,
        requests: 500,
        p50_ns: 1_000_000,
        p90_ns: 5_000_000,
        p99_ns: p99_ms * 1_000_000,
        overlapping: 0,
        uncertain: None,
    };
    let sample = Sample::ServiceLatency {
        cgroup_id: 77,
        answers,
    };
    scene.signal(&Signal::Sample { sample });
}

fn missed(scene: &Scene) -> Option<String> {
    let mut open = scene.engine.open_incidents();
    let incident = open.find(|incident| incident.detector == "objective_missed")?;
    let mut facts = incident.evidence.facts.iter();
    facts
        .find(|fact| fact.0 == "objective")
        .map(|fact| fact.1.clone())
}

fn state(scene: &mut Scene) -> ServiceState {
    let mut view = View::default();
    scene.engine.show(&mut view);
    view.services.get("shop").expect("it is there").state
}

#[test]
fn errors_over_the_objective_degrade_and_are_over_when_answers_are_good_again() {
    let mut scene = Scene::new(CONFIG);
    scene.runs(700);
    for _ in 0..60 {
        check(&mut scene, 3, None);
    }
    let wrong = || Some(CheckFailure::Answer("status 500".to_owned()));
    check(&mut scene, 3, wrong());
    check(&mut scene, 3, None);
    check(&mut scene, 3, wrong());
    check(&mut scene, 3, None);
    assert_eq!(missed(&scene), None, "2 of 60 are less than 5 %");
    for _ in 0..2 {
        check(&mut scene, 3, wrong());
    }
    assert_eq!(
        missed(&scene).as_deref(),
        Some("at most 5 % of requests fail")
    );
    assert_eq!(state(&mut scene), ServiceState::Degraded);
    for _ in 0..6 {
        check(&mut scene, 3, None);
    }
    scene.pass(Duration::from_mins(2));
    assert_eq!(missed(&scene), None, "of late it is well");
    assert_eq!(state(&mut scene), ServiceState::Healthy);
}

#[test]
fn what_users_wait_for_counts_before_what_checks_say() {
    let mut scene = Scene::new(CONFIG);
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Started {
            process: key(700),
            adopted: false,
            cgroup_id: 77,
        },
    });
    scene.answers();
    for _ in 0..20 {
        asked(&mut scene, 150);
        check(&mut scene, 1_000, None);
    }
    assert_eq!(missed(&scene), None, "users are answered in time");
    for _ in 0..60 {
        asked(&mut scene, 900);
        check(&mut scene, 1, None);
    }
    assert_eq!(
        missed(&scene).as_deref(),
        Some("99 % of answers within 200ms")
    );
}

#[test]
fn a_slow_start_and_a_stopped_service_miss_nothing() {
    let mut scene = Scene::new(CONFIG);
    scene.starts(700);
    let refused = || Some(CheckFailure::Connect("connection refused".to_owned()));
    for _ in 0..11 {
        check(&mut scene, 1, refused());
    }
    assert_eq!(missed(&scene), None, "it is given a minute to start");
    scene.answers();
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Stopped,
    });
    for _ in 0..60 {
        check(&mut scene, 1, refused());
    }
    assert_eq!(missed(&scene), None, "it is not to run");
}

#[test]
fn one_restart_does_not_lead_to_the_next() {
    let mut scene = Scene::new(&format!(
        "{CONFIG}\n[[remedy]]\ndetector = \"objective_missed\"\non = [\"shop\"]\nseverity = \"warning\"\naction = \"restart_service\"\n"
    ));
    scene.runs(700);
    for _ in 0..30 {
        check(&mut scene, 3, None);
    }
    let wrong = || Some(CheckFailure::Answer("status 500".to_owned()));
    for _ in 0..10 {
        check(&mut scene, 3, wrong());
    }
    let permit = scene.permit();
    assert_eq!(permit.action(), "restart_service");
    scene.starts(701);
    scene.effect(&permit, super::done());
    for _ in 0..6 {
        check(&mut scene, 3, None);
    }
    assert_eq!(scene.permits.len(), 0, "it was tried once, and helped");
    scene.pass(Duration::from_mins(2));
    let incident = scene.incident(1);
    assert!(incident.is_over(), "{incident:?}");
}

#[test]
fn that_others_gave_up_stands_in_the_story() {
    let mut scene = Scene::new(
        "[[service]]\nname = \"shop\"\nkind = \"pid_file\"\nwith = { file = \"/run/shop.pid\", start = [\"/usr/bin/shop\"] }\ncheck = { tcp = \"127.0.0.1:1\" }\n",
    );
    scene.runs(700);
    let refused = CheckFailure::Connect("connection refused".to_owned());
    for _ in 0..5 {
        scene.pass(Duration::from_secs(5));
        scene.checked("shop", Some(refused.clone()));
    }
    scene.pass(Duration::from_secs(1));
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::GaveUp {
            reason: "it ended five times".to_owned(),
        },
    });
    let told = |incident: &smart_monitor::model::Incident| {
        let mut steps = incident.steps.iter();
        steps.any(|step| {
            step.what == StepKind::Told && step.detail == "pid_file gave up: it ended five times"
        })
    };
    assert!(scene.engine.open_incidents().any(told));
}
