//! What people ask of a service without naming an action: a repair, a restore point, a close watch.

use std::time::Duration;

use smart_monitor::model::{IncidentId, Outcome, Request, Sample, Signal};

use super::{Scene, key};

const CONFIG: &str = r#"
[[service]]
name = "shop"
kind = "command"
command = ["shop"]
check = { tcp = "127.0.0.1:8080", after_release = [{ until = "6h", every = "15m" }] }

[service.release]
kind = "symlink"
path = "/srv/shop/current"
releases = "/srv/shop/releases"
proven_after = "5m"

[[remedy]]
name = "slow"
detector = "latency_spike"
on = ["shop"]
action = "lower_priority"
undo_after = "10m"

[[remedy]]
name = "down"
detector = "service_down"
on = ["shop"]
step = [{ action = "restart_service" }, { action = "rollback_release" }]
"#;

fn repair(step: Option<&str>, dry_run: bool) -> Request {
    Request::Repair {
        service: "shop".to_owned(),
        step: step.map(str::to_owned),
        dry_run,
    }
}

fn runs(scene: &mut Scene, release: &str) {
    scene.runs(700);
    let sample = Sample::Release {
        service: "shop".to_owned(),
        process: key(700),
        release: Some(release.to_owned()),
        why: None,
    };
    scene.signal(&Signal::Sample { sample });
}

#[test]
fn a_repair_is_the_next_step_or_the_one_that_is_named() {
    for (step, action, rule) in [
        (None, "lower_priority", "slow"),
        (Some("restart_service"), "restart_service", "down"),
        (Some("1"), "lower_priority", "slow"),
    ] {
        let mut scene = Scene::new(CONFIG);
        runs(&mut scene, "v1");
        scene.person(repair(step, true));
        assert!(scene.permits.is_empty(), "only said");
        assert_eq!(scene.incident(1).outcome, Some(Outcome::WouldHave));
        scene.person(repair(step, false));
        let permit = scene.permit();
        assert_eq!(permit.action(), action, "{step:?}");
        assert_eq!(permit.grounds().rule, rule, "{step:?}");
        assert_eq!(permit.grounds().by.as_deref(), Some("ann"));
    }
}

#[test]
fn what_no_rule_provides_is_refused() {
    for step in ["7", "kill_process"] {
        let mut scene = Scene::new(CONFIG);
        runs(&mut scene, "v1");
        scene.person(repair(Some(step), false));
        assert!(scene.permits.is_empty());
        assert_eq!(scene.incident(1).outcome, Some(Outcome::Refused), "{step}");
    }
    let no_rules = "[[service]]\nname = \"shop\"\nkind = \"command\"\ncommand = [\"shop\"]\n";
    let mut scene = Scene::new(no_rules);
    scene.runs(700);
    scene.person(repair(None, false));
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Refused));
    let said = &scene.incident(1).steps.last().expect("it says why").detail;
    assert!(said.contains("consent"), "{said}");
}

#[test]
fn a_restore_point_is_a_release_that_serves() {
    let point = |dry_run| Request::RestorePoint {
        service: "shop".to_owned(),
        dry_run,
    };
    let good = |scene: &Scene| -> Vec<String> {
        let known = scene.engine.known_releases();
        known.flat_map(|(_, known)| known.good).collect()
    };
    let mut scene = Scene::new(CONFIG);
    scene.person(point(false));
    assert_eq!(
        scene.incident(1).outcome,
        Some(Outcome::Refused),
        "it never ran"
    );
    runs(&mut scene, "v1");
    scene.person(point(true));
    assert_eq!(scene.incident(2).outcome, Some(Outcome::WouldHave));
    assert_eq!(good(&scene), Vec::<String>::new());
    scene.person(point(false));
    assert_eq!(scene.incident(3).outcome, Some(Outcome::Fixed));
    assert_eq!(good(&scene), ["v1"], "without waiting for proven_after");
    scene.exits(700, 9);
    let newest = IncidentId(
        scene
            .engine
            .incident(IncidentId(4))
            .map_or(4, |it| it.id.0 + 1),
    );
    scene.person(point(false));
    let refused = scene.engine.incident(newest).expect("it is told");
    assert_eq!(refused.outcome, Some(Outcome::Refused), "{refused:?}");
}

#[test]
fn a_close_watch_says_how_often() {
    let watch = |dry_run| Request::Watch {
        service: "shop".to_owned(),
        dry_run,
    };
    let mut scene = Scene::new(CONFIG);
    runs(&mut scene, "v1");
    scene.person(watch(true));
    assert_eq!(scene.incident(1).outcome, Some(Outcome::WouldHave));
    scene.person(watch(false));
    let incident = scene.incident(2);
    assert_eq!(incident.outcome, Some(Outcome::Fixed));
    let said = &incident.steps.last().expect("a line").detail;
    assert!(said.contains("tcp: every 900s until 21600s"), "{said}");
    scene.reconfigure(&CONFIG.replace(
        ", after_release = [{ until = \"6h\", every = \"15m\" }]",
        "",
    ));
    scene.pass(Duration::from_secs(1));
    scene.person(watch(false));
    assert_eq!(scene.incident(3).outcome, Some(Outcome::Refused));
}
