//! What is only observed: told like any other, and never acted upon, whatever rules and people say.

use std::time::Duration;

use smart_monitor::model::{ServiceSignal, ServiceState, Signal, State, Subject};

use super::manual::wish;
use super::{Scene, key};

/// As the daemon writes what it has found itself; and rules that would do all that there is to do.
fn config(observe_only: bool) -> String {
    format!(
        r#"
[[service]]
name = "shop"
kind = "systemd"
with = {{ unit = "shop.service" }}
listen = ["127.0.0.1:8080"]
observe_only = {observe_only}

[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"

[[remedy]]
name = "by-hand"
detector = "manual"
on = ["*"]
step = [{{ action = "restart_service" }}, {{ action = "kill_process" }}, {{ action = "stop_service" }}]
"#
    )
}

fn dies(scene: &mut Scene) {
    scene.runs(700);
    scene.exits(700, 9);
    let process = key(700);
    let status = None;
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Exited { process, status },
    });
    scene.pass(Duration::from_hours(2));
}

#[test]
fn no_rule_acts_on_what_is_only_observed() {
    let mut scene = Scene::new(&config(false));
    dies(&mut scene);
    assert!(!scene.permits.is_empty(), "the same rule acts elsewhere");

    let mut scene = Scene::new(&config(true));
    dies(&mut scene);
    assert!(scene.permits.is_empty(), "{:?}", scene.permits);
    let incident = scene.incident(1);
    assert_eq!(incident.actions, 0);
    assert_ne!(incident.state, State::Resolved, "it is told all the same");
    let says = |part: &str| incident.steps.iter().any(|step| step.detail.contains(part));
    assert!(says("only observed"), "{:#?}", incident.steps);
    let mut view = smart_monitor::model::View::default();
    scene.engine.show(&mut view);
    let shown = view.services.get("shop").expect("it is there");
    assert_eq!(shown.state, ServiceState::Down);
    assert!(shown.service.observe_only);
}

#[test]
fn no_person_acts_on_what_is_only_observed_either() {
    for action in ["restart_service", "stop_service", "kill_process"] {
        let mut scene = Scene::new(&config(true));
        scene.runs(700);
        scene.person(wish(action, Subject::service("shop")));
        // Its main process, named as one that nobody has configured.
        let process = Subject::Process {
            process: key(700),
            comm: "shopd".to_owned(),
            group: None,
        };
        scene.person(wish(action, process));
        scene.pass(Duration::from_mins(10));
        assert!(scene.permits.is_empty(), "{action}: {:?}", scene.permits);
    }
    let mut scene = Scene::new(&config(false));
    scene.runs(700);
    scene.person(wish("restart_service", Subject::service("shop")));
    assert_eq!(
        scene.permit().action(),
        "restart_service",
        "elsewhere it does"
    );
}
