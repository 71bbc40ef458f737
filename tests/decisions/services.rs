//! Services that are stopped and started through their supervisor: what is no incident then, and what cannot be done.

use std::time::Duration;

use smart_monitor::model::command::{Reload, ReloadSignal};
use smart_monitor::model::{
    CheckFailure, EffectResult, Plan, Request, ServiceSignal, ServiceState, Signal, Subject, View,
};

use super::{RESTART, SERVICE, Scene, done, key};

/// What people may have done to a service.
const BY_HAND: &str = r#"
[[remedy]]
name = "by-hand"
detector = "manual"
on = ["shop"]
step = [
    { action = "stop_service", term_grace = "3s", undo_after = "10m" },
    { action = "start_service" },
    { action = "reload_service" },
    { action = "restart_service" },
]
"#;

fn wish(action: &str) -> Request {
    Request::Act {
        action: action.to_owned(),
        subject: Subject::service("shop"),
        rule: None,
        dry_run: false,
    }
}

/// Why what is asked for is not done.
fn refused(scene: &mut Scene, id: u64, action: &str) -> String {
    scene.person(wish(action));
    assert!(scene.permits.is_empty(), "{action}: {:#?}", scene.permits);
    let incident = scene.incident(id);
    let words: Vec<_> = incident.steps.iter().map(|step| &*step.detail).collect();
    words.join("; ")
}

fn state(scene: &mut Scene) -> ServiceState {
    let mut view = View::default();
    scene.engine.show(&mut view);
    view.services.get("shop").expect("it is configured").state
}

/// A service that runs as 600 is stopped, as incident 1.
fn stopped(lines: &str) -> Scene {
    let text = SERVICE.replace("listen =", &format!("{lines}\nlisten ="));
    let mut scene = Scene::new(&format!("{text}{RESTART}{BY_HAND}"));
    scene.runs(600);
    scene.person(wish("stop_service"));
    let permit = scene.permit();
    let expected = Plan::StopService {
        service: "shop".to_owned(),
        process: Some(key(600)),
        term_grace: Duration::from_secs(3),
        command: vec!["shop".to_owned()],
    };
    assert_eq!(permit.plan(), &expected);
    // As it happens: told first, then ended.
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Stopped,
    });
    scene.exits(600, 15);
    let undo = Plan::StartService {
        service: "shop".to_owned(),
        command: vec!["shop".to_owned()],
    };
    scene.effect_with(&permit, done(), Some(undo));
    scene
}

#[test]
fn a_service_that_was_stopped_is_not_down() {
    let mut scene = stopped("");
    for _ in 0..60 {
        scene.checked("shop", Some(CheckFailure::Connect(String::new())));
        scene.pass(Duration::from_secs(1));
    }
    assert!(scene.permits.is_empty(), "{:#?}", scene.permits);
    assert!(scene.engine.open_incidents().next().is_none());
    assert_eq!(state(&mut scene), ServiceState::Stopped);
    let why = refused(&mut scene, 2, "restart_service");
    assert!(why.contains("start_service starts it"), "{why}");
    let why = refused(&mut scene, 3, "stop_service");
    assert!(why.contains("is stopped already"), "{why}");
}

#[test]
fn its_undo_starts_it_and_its_end_is_news_again() {
    let mut scene = stopped("");
    scene.pass(Duration::from_secs(599));
    assert!(scene.permits.is_empty(), "not before its time");
    scene.pass(Duration::from_secs(2));
    let permit = scene.permit();
    assert!(
        matches!(permit.plan(), Plan::StartService { .. }),
        "{permit:?}"
    );
    assert!(permit.grounds().undo);
    scene.starts(601);
    scene.effect(&permit, done());
    scene.answers();
    assert_eq!(state(&mut scene), ServiceState::Healthy);
    let why = refused(&mut scene, 2, "start_service");
    assert!(why.contains("runs already, as pid 601"), "{why}");
    scene.exits(601, 9);
    scene.restarts(602);
}

#[test]
fn who_starts_it_leaves_nothing_to_undo() {
    let mut scene = stopped("");
    assert!(scene.incident(1).held.is_some());
    scene.person(wish("start_service"));
    let permit = scene.permit();
    scene.runs(601);
    scene.effect(&permit, done());
    assert!(scene.incident(1).held.is_none(), "{:#?}", scene.incident(1));
    scene.person(wish("stop_service"));
    let permit = scene.permit();
    assert!(
        matches!(permit.plan(), Plan::StopService { .. }),
        "{permit:?}"
    );
}

#[test]
fn a_start_that_fails_makes_it_one_that_is_down() {
    let mut scene = stopped("");
    scene.person(wish("start_service"));
    let permit = scene.permit();
    let reason = "no such file".to_owned();
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::StartFailed {
            reason: reason.clone(),
        },
    });
    scene.effect(&permit, EffectResult::Failed { reason });
    assert_eq!(state(&mut scene), ServiceState::Down);
    scene.pass(Duration::from_secs(1));
    scene.restarts(603);
}

#[test]
fn a_reload_is_of_a_process_and_by_what_is_configured() {
    let mut scene = stopped("reload = { signal = \"SIGUSR1\" }");
    let why = refused(&mut scene, 2, "reload_service");
    assert!(why.contains("does not run"), "{why}");
    scene.starts(604);
    scene.pass(Duration::from_secs(1));
    scene.person(wish("reload_service"));
    let permit = scene.permit();
    let expected = Plan::ReloadService {
        service: "shop".to_owned(),
        process: key(604),
        how: Reload::Signal(ReloadSignal::Usr1),
    };
    assert_eq!(permit.plan(), &expected);

    let mut scene = stopped("");
    scene.starts(605);
    scene.pass(Duration::from_secs(1));
    let why = refused(&mut scene, 2, "reload_service");
    assert!(why.contains("`reload = { signal = \"SIGHUP\" }`"), "{why}");
}
