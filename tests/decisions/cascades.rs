//! One failure that brings about many: the root is acted upon, what follows from it is not.

use std::fmt::Write;
use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::tcp_connect::TcpConnect;
use smart_monitor::model::{EffectResult, Incident, IncidentId, Request, Silence, State};
use smart_monitor::policy::Permit;

use super::{RESTART, Scene, attempt, done, task};

/// Services, what each depends on, and the rule that restarts any of them.
fn services(all: &[(&str, &[&str])]) -> String {
    let mut text = String::new();
    for (at, (name, depends_on)) in all.iter().enumerate() {
        let port = 10_000 + at;
        let _ = write!(
            text,
            "[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"x\"]\n\
             listen = [\"127.0.0.1:{port}\"]\ncheck = {{ tcp = \"127.0.0.1:{port}\" }}\ndepends_on = {depends_on:?}\n"
        );
    }
    text + RESTART
}

impl Scene {
    fn well(&mut self, name: &str, pid: u32) {
        self.starts_as(name, pid);
        self.pass(Duration::from_millis(1));
        self.checked(name, None);
    }

    fn of(&self, name: &str) -> &Incident {
        let subject = smart_monitor::model::Subject::service(name);
        let mut open = self.engine.open_incidents();
        open.find(|incident| incident.subject == subject)
            .expect("it is open")
    }

    fn suppressed_by(&self, name: &str) -> Option<IncidentId> {
        let incident = self.of(name);
        assert_eq!(
            incident.state == State::Suppressed,
            incident.suppressed_by.is_some()
        );
        incident.suppressed_by
    }

    /// Tells that it was carried out.
    fn back(&mut self, permit: &Permit, name: &str, pid: u32) {
        self.starts_as(name, pid);
        self.effect(permit, done());
        self.pass(Duration::from_millis(1));
        self.checked(name, None);
    }
}

fn name(n: u32) -> String {
    format!("web-{n}")
}

const MANY: u32 = 1_000;

/// A thousand services, in an order that is none, all of which fail with their database in the same instant.
fn fallen() -> Scene {
    let names: Vec<String> = (0..MANY).map(name).collect();
    let mut all: Vec<(&str, &[&str])> = vec![("database", &[])];
    all.extend(names.iter().map(|name| (name.as_str(), &["database"][..])));
    let mut scene = Scene::new(&services(&all));
    scene.starts_as("database", 900);
    for n in 0..MANY {
        scene.starts_as(&name(n), 1_000 + n);
    }
    scene.pass(Duration::from_millis(1));
    scene.checked("database", None);
    for n in 0..MANY {
        scene.checked(&name(n), None);
    }
    scene.pass(Duration::from_secs(1));
    for at in 0..=MANY {
        // 7 has no divisor in common with 1,001 but itself: 5 has none.
        match at * 5 % (MANY + 1) {
            MANY => scene.exits(900, 9),
            n => scene.exits(1_000 + n, 256),
        }
    }
    scene.pass(Duration::from_millis(100));
    scene
}

#[test]
fn a_thousand_services_behind_one_database_cost_one_act() {
    let mut scene = fallen();
    let permit = scene.permit();
    let database = scene.of("database").id;
    assert_eq!(permit.incident(), database);
    for n in 0..MANY {
        assert_eq!(scene.suppressed_by(&name(n)), Some(database));
    }
    scene.back(&permit, "database", 901);
    // A reload is no reason for haste.
    let silence = Silence {
        id: 1,
        on: "database".to_owned(),
        detector: None,
        until: scene.now.after(Duration::from_secs(1)),
        by: "ann".to_owned(),
        reason: "none".to_owned(),
    };
    scene.person(Request::Silence { silence });
    scene.person(Request::Unsilence { id: 1 });
    scene.pass(Duration::from_secs(1));
    assert!(
        scene.permits.is_empty(),
        "they have time to recover by themselves"
    );
    for n in 5..MANY {
        scene.well(&name(n), 3_000 + n);
    }
    assert_eq!(scene.engine.open_incidents().count(), 5);
    scene.pass(Duration::from_secs(10));
    assert_eq!(
        scene.permits.len(),
        4,
        "those that did not, as many at a time as may be"
    );
    let acted_upon = |scene: &Scene, id| scene.permits.iter().any(|permit| permit.incident() == id);
    let mut open = scene.engine.open_incidents().map(|incident| incident.id);
    let last = open
        .find(|id| !acted_upon(&scene, *id))
        .expect("there are five");
    drop(open);
    for permit in std::mem::take(&mut scene.permits) {
        let reason = "no such program".to_owned();
        scene.effect(&permit, EffectResult::Failed { reason });
    }
    scene.pass(Duration::from_millis(200));
    assert!(acted_upon(&scene, last), "and then the last one");
}

#[test]
fn dependents_of_a_database_that_was_given_up_stay_held_back() {
    let mut scene = fallen();
    let database = scene.of("database").id;
    for _ in 0..2_000 {
        for permit in std::mem::take(&mut scene.permits) {
            assert_eq!(permit.incident(), database);
            let reason = "no such program".to_owned();
            scene.effect(&permit, EffectResult::Failed { reason });
        }
        if scene.of("database").state == State::Escalated {
            break;
        }
        scene.pass(Duration::from_millis(500));
    }
    assert_eq!(scene.of("database").state, State::Escalated);
    scene.pass(Duration::from_mins(10));
    assert!(scene.permits.is_empty());
    assert_eq!(scene.suppressed_by("web-1"), Some(database));
}

#[test]
fn in_a_chain_the_furthest_down_is_acted_upon_and_then_the_others_recover() {
    let chain: [(&str, &[&str]); 3] = [("a", &["b"]), ("b", &["c"]), ("c", &[])];
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
        let mut scene = Scene::new(&services(&chain));
        for (at, name) in (1..).zip(["a", "b", "c"]) {
            scene.well(name, 700 + at);
        }
        scene.pass(Duration::from_secs(1));
        for name in order {
            let pid = 701 + u32::from(name.as_bytes()[0] - b'a');
            scene.exits(pid, 9);
        }
        scene.pass(Duration::from_millis(100));
        let permit = scene.permit();
        let root = scene.of("c").id;
        assert_eq!(permit.incident(), root, "{order:?}");
        assert_eq!(scene.suppressed_by("b"), Some(root));
        let held = scene.suppressed_by("a");
        assert!(
            held == Some(root) || held == Some(scene.of("b").id),
            "{held:?}"
        );
        scene.back(&permit, "c", 800);
        scene.well("b", 801);
        scene.well("a", 802);
        scene.pass(Duration::from_mins(1));
        assert!(scene.permits.is_empty() && scene.engine.open_incidents().next().is_none());
    }
}

#[test]
fn in_a_circle_one_is_acted_upon() {
    let circle: [(&str, &[&str]); 3] = [("a", &["b"]), ("b", &["c"]), ("c", &["a"])];
    let mut scene = Scene::new(&services(&circle));
    for (at, name) in (1..).zip(["a", "b", "c"]) {
        scene.well(name, 700 + at);
    }
    scene.pass(Duration::from_secs(1));
    for pid in 701..704 {
        scene.exits(pid, 9);
    }
    scene.pass(Duration::from_millis(100));
    let permit = scene.permit();
    let root = permit.incident();
    let held = ["a", "b", "c"].map(|name| scene.suppressed_by(name));
    assert_eq!(held.iter().filter(|by| by.is_some()).count(), 2, "{held:?}");
    assert!(held.iter().flatten().all(|by| *by == root), "{held:?}");
}

/// `web` was seen to connect to `database`, and both have failed.
fn learned() -> Scene {
    let mut scene = Scene::new(&services(&[("database", &[]), ("web", &[])]));
    scene.well("database", 700);
    scene.well("web", 701);
    scene.kernel(|header| {
        Event::TcpConnect(TcpConnect {
            task: task(701, "web"),
            ..attempt(header, 0, [127, 0, 0, 1], 10_000)
        })
    });
    scene.pass(Duration::from_secs(1));
    scene.exits(701, 9);
    scene.exits(700, 9);
    scene.pass(Duration::from_millis(100));
    scene
}

#[test]
fn a_dependency_is_learned_from_connections() {
    let mut scene = learned();
    let database = scene.of("database").id;
    assert_eq!(scene.permit().incident(), database);
    assert_eq!(scene.suppressed_by("web"), Some(database));
}

#[test]
fn a_database_that_was_given_up_does_not_hold_back_who_only_was_seen_to_connect_to_it() {
    let mut scene = learned();
    assert_eq!(scene.permits.len(), 1, "its action hangs");
    scene.pass(Duration::from_secs(100));
    assert_eq!(scene.of("database").state, State::Escalated);
    assert_eq!(scene.permits.len(), 2, "{:#?}", scene.of("web"));
    assert_ne!(scene.permits[1].incident(), scene.of("database").id);
}

#[test]
fn a_ladder_at_its_end_is_said_again_after_it_was_held_back() {
    let chain = services(&[("a", &["b"]), ("b", &[])]) + "attempts = 1\n";
    let mut scene = Scene::new(&chain);
    scene.well("a", 701);
    scene.well("b", 702);
    scene.pass(Duration::from_secs(1));
    scene.exits(701, 9);
    scene.pass(Duration::from_millis(100));
    let permit = scene.permit();
    let reason = "no such program".to_owned();
    scene.effect(&permit, EffectResult::Failed { reason });
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.of("a").state, State::Escalated);
    scene.exits(702, 9);
    scene.pass(Duration::from_millis(100));
    let permit = scene.permit();
    scene.reconfigure(&chain);
    assert!(scene.suppressed_by("a").is_some());
    scene.back(&permit, "b", 800);
    scene.pass(Duration::from_secs(15));
    assert_eq!(
        scene.of("a").state,
        State::Escalated,
        "a person is still needed"
    );
}
