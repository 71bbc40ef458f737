//! What is refused before there is something to ask a guard about: no rule, a condition, a wait, a ladder at its end, no plan.

use std::collections::BTreeSet;
use std::time::Duration;

use smart_monitor::model::view::View;
use smart_monitor::model::{EffectResult, Request, Silence};
use smart_monitor::policy::guards;

use super::{RESTART, SERVICE, Scene};

/// Each, with a rule that it stands in the way of and one that it does not.
const SCENES: [(&str, &str, &str); 5] = [
    ("consent", "", RESTART),
    ("condition", "when = \"false\"\n", "when = \"true\"\n"),
    ("for", "for = \"1h\"\n", "for = \"1ms\"\n"),
    ("ladder", "attempts = 1\n", "attempts = 2\n"),
    ("plan", "kill_process", "restart_service"),
];

fn rule(name: &str, text: &str) -> String {
    match name {
        "consent" => text.to_owned(),
        "plan" => RESTART.replace("restart_service", text),
        _ => format!("{RESTART}{text}"),
    }
}

/// A service that is down and has been restarted in vain, where that is permitted the first time.
fn scene(name: &str, text: &str, silenced: bool) -> Scene {
    let mut scene = Scene::new(&format!("{SERVICE}{}", rule(name, text)));
    scene.runs(700);
    if name != "ladder" && silenced {
        silence(&mut scene);
    }
    scene.exits(700, 9);
    if name == "ladder" {
        let permit = scene.permit();
        if silenced {
            silence(&mut scene);
        }
        let reason = "it could not be started".to_owned();
        scene.effect(&permit, EffectResult::Failed { reason });
    }
    scene.pass(Duration::from_secs(6));
    scene
}

fn silence(scene: &mut Scene) {
    let silence = Silence {
        id: 1,
        on: "*".to_owned(),
        detector: None,
        until: scene.now.after(Duration::from_hours(1)),
        by: "ann".to_owned(),
        reason: "moving house".to_owned(),
    };
    scene.person(Request::Silence { silence });
}

fn refused_by(scene: &Scene) -> String {
    let last = scene.refused_by(1);
    last.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn each_refuses_alone_and_without_it_the_act_is_permitted() {
    for (name, with, without) in SCENES {
        let refused = scene(name, with, false);
        assert!(refused.permits.is_empty(), "{name}");
        assert_eq!(refused_by(&refused), name);
        let permitted = scene(name, without, false);
        assert_eq!(
            permitted.permits.len(),
            1,
            "{name}: {:#?}",
            permitted.incident(1)
        );
    }
}

#[test]
fn each_comes_before_the_guards_and_when_it_is_lifted_those_still_refuse() {
    for (name, with, without) in SCENES {
        let both = scene(name, with, true);
        assert!(both.permits.is_empty(), "{name}");
        assert_eq!(refused_by(&both), name);
        let guarded = scene(name, without, true);
        assert!(guarded.permits.is_empty(), "{name}");
        assert_eq!(
            refused_by(&guarded),
            "silence",
            "{name}: {:#?}",
            guarded.incident(1)
        );
    }
}

#[test]
fn none_is_left_out() {
    let mut view = View::default();
    Scene::new("").engine.show(&mut view);
    let mut all: BTreeSet<&str> = view.counts.refusals.keys().map(String::as_str).collect();
    for guard in guards::ALL {
        assert!(all.remove(guard.name));
    }
    let shown = SCENES.iter().map(|(name, _, _)| *name);
    assert_eq!(all, shown.collect(), "what is counted, and no guard");
}
