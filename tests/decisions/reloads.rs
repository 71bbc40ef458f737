//! Settings that change in the middle: of an incident, of an act, of a wait for a person's word.

use std::time::Duration;

use smart_monitor::model::{EffectResult, IncidentId, Request};

use super::attacks::{LADDER, swells};
use super::processes::{RUNAWAY, runs_away};
use super::{RESTART, SERVICE, Scene, done};

#[test]
fn a_process_that_a_reload_no_longer_names_is_not_ended() {
    let healed = RUNAWAY.replace(
        "name = \"batch\"\n",
        "name = \"batch\"\nhealer = { name = \"cron\", patience = \"1m\" }\n",
    );
    let mut scene = Scene::new(&healed);
    runs_away(&mut scene, 800, "cruncher");
    assert!(scene.refused_by(1).starts_with("other_healer:"));
    let other = healed
        .replace("\"cruncher\", ", "")
        .replace("on = [\"batch\"]", "on = [\"*\"]");
    scene.reconfigure(&other);
    scene.pass(Duration::from_hours(2));
    assert!(scene.permits.is_empty());
    assert!(scene.incident(1).is_over());
}

#[test]
fn rule_service_and_ladder_may_go_while_an_act_is_under_way() {
    let both = format!("{SERVICE}{LADDER}");
    let shorter = both.replace(", { action = \"restart_service\" }", "");
    for (text, stays) in [(SERVICE, true), ("", false), (&*shorter, true)] {
        let mut scene = Scene::new(&both);
        scene.runs(700);
        swells(&mut scene, 700);
        let permit = scene.permit();
        scene.reconfigure(text);
        scene.pass(Duration::from_secs(1));
        assert!(!scene.incident(1).is_over(), "what is under way goes on");
        let reason = "it did not die".to_owned();
        scene.effect(&permit, EffectResult::Failed { reason });
        scene.pass(Duration::from_mins(10));
        assert!(scene.permits.is_empty(), "{text}: {:#?}", scene.incident(1));
        assert_eq!(!scene.incident(1).is_over(), stays);
    }
}

#[test]
fn nothing_is_done_for_a_detector_that_is_switched_off() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    let permit = scene.permit();
    scene.reconfigure(&format!(
        "{SERVICE}{RESTART}[detectors.service_down]\nenabled = false\n"
    ));
    scene.starts(701);
    scene.effect(&permit, done());
    for _ in 0..100 {
        scene.answers();
        scene.pass(Duration::from_mins(1));
    }
    assert!(
        scene.permits.is_empty(),
        "it serves, and nobody is left who could say so"
    );
}

#[test]
fn what_is_gone_for_now_is_not_acted_upon_until_it_is_back() {
    let keep =
        "[[condition]]\ndetector = \"service_down\"\non = [\"*\"]\nkeep_firing_for = \"1m\"\n";
    let mut scene = Scene::new(
        &format!("{SERVICE}{RESTART}{keep}for = \"5s\"\n")
            .replace(
                "action = \"restart_service\"\n",
                "action = \"restart_service\"\nfor = \"2s\"\n",
            )
            .replace(
                "keep_firing_for = \"1m\"\nfor = \"5s\"\n",
                "keep_firing_for = \"1m\"\n",
            ),
    );
    scene.runs(700);
    scene.exits(700, 9);
    scene.runs(701);
    scene.pass(Duration::from_secs(20));
    assert!(scene.permits.is_empty(), "it has come back by itself");
    scene.exits(701, 9);
    assert_eq!(scene.permits.len(), 1, "it has not stayed");
    assert_eq!(scene.incident(1).flaps, 1);
}

#[test]
fn a_reload_between_two_findings_makes_no_second_incident_of_them() {
    let hold = "[[condition]]\ndetector = \"service_down\"\non = [\"*\"]\nfor = \"1m\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{hold}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.reconfigure(SERVICE);
    scene.runs(701);
    scene.exits(701, 9);
    scene.pass(Duration::from_mins(2));
    assert_eq!(scene.engine.open_incidents().count(), 1);
}

#[test]
fn a_word_for_something_else_by_now_allows_nothing() {
    let asked = format!("{SERVICE}{RESTART}approval = \"10m\"\n");
    let mut scene = Scene::new(&asked);
    scene.runs(700);
    scene.exits(700, 9);
    assert!(scene.permits.is_empty() && scene.incident(1).proposed.is_some());
    scene.person(Request::Approve {
        incident: IncidentId(7),
    });
    // Before anything is asked again.
    let shorter = asked.replace("action = ", "term_grace = \"1s\"\naction = ");
    scene.engine.reconfigure(super::settings(&shorter));
    scene.person(Request::Approve {
        incident: IncidentId(1),
    });
    assert!(scene.permits.is_empty(), "another grace was proposed");
    scene.pass(Duration::from_millis(1));
    let until = scene
        .incident(1)
        .proposed
        .as_ref()
        .map(|proposed| proposed.until);
    let in_time = std::mem::replace(&mut scene.now, until.expect("it is proposed anew"));
    scene.person(Request::Approve {
        incident: IncidentId(1),
    });
    assert!(scene.permits.is_empty(), "too late by a nanosecond");
    scene.now = in_time;
    scene.person(Request::Approve {
        incident: IncidentId(1),
    });
    assert_eq!(scene.permit().grounds().by.as_deref(), Some("ann"));
}

#[test]
fn a_service_that_gets_a_check_while_it_settles_is_waited_for_without_haste() {
    let unchecked = SERVICE.replace("check = { tcp = \"127.0.0.1:8080\" }\n", "");
    let mut scene = Scene::new(&unchecked);
    scene.runs(700);
    scene.exits(700, 9);
    scene.starts(701);
    scene.reconfigure(SERVICE);
    scene.pass(Duration::from_secs(5));
    let wake = scene.engine.wake();
    assert!(
        wake.is_none_or(|wake| wake > scene.now),
        "{wake:?}: it would be woken without end"
    );
}

#[test]
fn who_raises_the_limit_has_it_go_on() {
    let with = |limit: u32| {
        format!(
            "[policy]\nlimit = {limit}\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\n{SERVICE}{RESTART}"
        )
    };
    let mut scene = Scene::new(&with(2));
    scene.runs(700);
    for pid in [700, 701] {
        scene.exits(pid, 9);
        scene.restarts(pid + 1);
        scene.answers();
    }
    scene.exits(702, 9);
    assert!(scene.permits.is_empty());
    scene.reconfigure(&with(1));
    scene.pass(Duration::from_secs(10));
    let refused = scene.refused_by(3);
    assert!(refused.contains("given up after 2 actions"), "{refused}");
    scene.reconfigure(&with(3));
    scene.pass(Duration::from_secs(10));
    scene.restarts(703);
}
