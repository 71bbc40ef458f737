//! Services that somebody else runs: their word decides whether an end was a fault, and they come first where they repair it.

use std::time::Duration;

use smart_monitor::model::{Healer, Outcome, Sample, ServiceSignal, ServiceState, Signal, State};

use super::{Scene, key};

const CONFIG: &str = r#"
[[service]]
name = "shop"
kind = "pid_file"
with = { file = "/run/shop.pid", start = ["/usr/bin/shop"] }
check = { tcp = "127.0.0.1:8080" }

[[remedy]]
detector = "service_down"
on = ["shop"]
action = "restart_service"
"#;

fn says(scene: &mut Scene, change: ServiceSignal) {
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
}

fn exited(pid: u32) -> ServiceSignal {
    ServiceSignal::Exited {
        process: key(pid),
        status: None,
    }
}

fn heals(patience: u64) -> ServiceSignal {
    ServiceSignal::Heals {
        healer: Some(Healer {
            name: "systemd".to_owned(),
            patience: Duration::from_secs(patience),
        }),
    }
}

fn state(scene: &mut Scene) -> ServiceState {
    let mut view = smart_monitor::model::View::default();
    scene.engine.show(&mut view);
    view.services.get("shop").expect("it is there").state
}

#[test]
fn an_end_that_was_meant_is_no_incident_and_is_not_undone() {
    let mut scene = Scene::new(CONFIG);
    scene.runs(700);
    scene.exits(700, 15);
    assert_eq!(
        scene.engine.open_incidents().count(),
        0,
        "not before they say"
    );
    says(&mut scene, ServiceSignal::Stopped);
    scene.pass(Duration::from_hours(1));
    assert_eq!(scene.engine.open_incidents().count(), 0);
    assert!(scene.permits.is_empty());
    assert_eq!(state(&mut scene), ServiceState::Stopped);
}

#[test]
fn a_fault_that_nobody_repairs_is_ours_at_once_with_what_the_kernel_saw() {
    let mut scene = Scene::new(CONFIG);
    scene.runs(700);
    scene.exits(700, 9);
    says(&mut scene, exited(700));
    assert_eq!(scene.permit().action(), "restart_service");
    let incident = scene.incident(1);
    let fact = |name: &str| {
        let mut facts = incident.evidence.facts.iter();
        facts.find(|fact| fact.0 == name).map(|fact| fact.1.clone())
    };
    assert_eq!(fact("ending").as_deref(), Some("killed by SIGKILL (9)"));
    assert_eq!(fact("confirmed by").as_deref(), Some("pid_file"));
}

#[test]
fn who_runs_it_comes_first_and_one_death_has_one_restart() {
    let mut scene = Scene::new(CONFIG);
    says(&mut scene, heals(30));
    scene.runs(700);
    scene.exits(700, 9);
    says(&mut scene, exited(700));
    scene.pass(Duration::from_secs(10));
    assert!(scene.permits.is_empty(), "it is theirs");
    assert_eq!(scene.engine.open_incidents().count(), 1, "but told");
    scene.runs(701);
    let incident = scene.incident(1);
    assert_eq!(incident.state, State::Resolved);
    assert_eq!(incident.actions, 0);
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty());
}

#[test]
fn when_they_give_up_or_take_too_long_it_is_ours() {
    let mut scene = Scene::new(CONFIG);
    says(&mut scene, heals(30));
    scene.runs(700);
    scene.exits(700, 9);
    says(&mut scene, exited(700));
    let reason = "start limit hit".to_owned();
    says(&mut scene, ServiceSignal::GaveUp { reason });
    scene.pass(Duration::from_millis(10));
    assert_eq!(scene.permit().action(), "restart_service", "at once");

    let mut scene = Scene::new(CONFIG);
    says(&mut scene, heals(30));
    scene.runs(700);
    scene.exits(700, 9);
    says(&mut scene, exited(700));
    scene.pass(Duration::from_secs(29));
    assert!(scene.permits.is_empty());
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.permit().action(), "restart_service");
}

#[test]
fn who_cannot_be_asked_leaves_it_unknown_until_they_can() {
    let mut scene = Scene::new(CONFIG);
    scene.runs(700);
    let reason = "no such socket".to_owned();
    says(&mut scene, ServiceSignal::Unknown { reason });
    assert_eq!(state(&mut scene), ServiceState::Unknown);
    scene.exits(700, 9);
    scene.pass(Duration::from_mins(5));
    assert!(
        scene.permits.is_empty(),
        "nobody has said that it is a fault"
    );
    scene.runs(701);
    assert_eq!(state(&mut scene), ServiceState::Healthy);
}

#[test]
fn nothing_can_be_done_to_what_nobody_runs_here() {
    let config = "[[service]]\nname = \"shop\"\nkind = \"none\"\ncheck = { tcp = \"192.0.2.1:80\", failures = 2 }\n\
        [[remedy]]\ndetector = \"check_failing\"\non = [\"shop\"]\naction = \"restart_service\"\n";
    let mut scene = Scene::new(config);
    assert_eq!(state(&mut scene), ServiceState::Unknown);
    scene.checked("shop", None);
    assert_eq!(state(&mut scene), ServiceState::Healthy);
    let refused = || {
        let why = "refused".to_owned();
        Some(smart_monitor::model::CheckFailure::Connect(why))
    };
    scene.checked("shop", refused());
    assert_eq!(state(&mut scene), ServiceState::Down);
    assert_eq!(scene.engine.open_incidents().count(), 0, "one is none");
    scene.checked("shop", refused());
    assert_eq!(scene.engine.open_incidents().count(), 1);
    scene.pass(Duration::from_mins(10));
    assert!(scene.permits.is_empty());
    scene.checked("shop", None);
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_ne!(scene.incident(1).outcome, Some(Outcome::Fixed), "not by us");
}

#[test]
fn that_an_end_is_known_ends_that_nothing_is() {
    let mut scene = Scene::new(CONFIG);
    scene.runs(700);
    let reason = "no such socket".to_owned();
    says(&mut scene, ServiceSignal::Unknown { reason });
    says(&mut scene, exited(700));
    assert_eq!(state(&mut scene), ServiceState::Down);
    assert_eq!(scene.permit().action(), "restart_service");
}

#[test]
fn what_those_said_who_ran_it_before_does_not_outlast_them() {
    let mut scene = Scene::new(CONFIG);
    says(&mut scene, heals(30));
    let reason = "no such socket".to_owned();
    says(&mut scene, ServiceSignal::Unknown { reason });
    let mut other = CONFIG.replace("kind = \"pid_file\"", "kind = \"systemd\"");
    other = other.replace("with = {", "# with = {");
    scene.reconfigure(&other);
    assert_eq!(state(&mut scene), ServiceState::Starting);
    scene.runs(700);
    scene.exits(700, 9);
    says(&mut scene, exited(700));
    assert_eq!(
        scene.permit().action(),
        "restart_service",
        "nobody else does"
    );
}

#[test]
fn how_long_it_is_theirs_says_nothing_of_its_memory() {
    let mut scene = Scene::new(CONFIG);
    scene.runs(700);
    let sample = Sample::ServicePressure {
        service: "shop".to_owned(),
        some_avg10: 5_000,
        full_avg10: 0,
        alarm: true,
    };
    scene.signal(&Signal::Sample { sample });
    assert_eq!(scene.engine.open_incidents().count(), 1);
    says(&mut scene, heals(30));
    assert_eq!(
        scene.engine.open_incidents().count(),
        1,
        "it stalls all the same"
    );
    says(&mut scene, exited(700));
    assert!(scene.incident(1).is_over());
}

#[test]
fn they_have_their_time_from_the_end_on_however_old_the_incident_is() {
    use smart_monitor::model::{CheckFailure, HostLoad};

    let config = CONFIG.replace("service_down", "check_failing");
    let mut scene = Scene::new(&config);
    says(&mut scene, heals(30));
    scene.runs(700);
    let load = |memory_full| {
        let load = HostLoad {
            cpus: 2,
            memory_full,
            ..HostLoad::default()
        };
        let sample = Sample::Load { load };
        Signal::Sample { sample }
    };
    // Nothing is started while the host itself is overloaded.
    scene.signal(&load(9_000));
    for _ in 0..10 {
        let why = "connection reset".to_owned();
        scene.checked("shop", Some(CheckFailure::Connect(why)));
    }
    assert_eq!(scene.incident(1).detector, "check_failing");
    scene.pass(Duration::from_mins(5));
    assert!(scene.permits.is_empty());
    scene.exits(700, 9);
    says(&mut scene, exited(700));
    scene.signal(&load(0));
    scene.pass(Duration::from_secs(29));
    assert!(scene.permits.is_empty(), "it is theirs");
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.permit().action(), "restart_service");
}
