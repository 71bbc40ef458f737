//! What was done and can be changed back is: in its time, when it did not help, when a person says so, and after a crash.

use std::time::Duration;

use smart_monitor::engine::Engine;
use smart_monitor::model::incident::{Held, StepKind};
use smart_monitor::model::{
    EffectResult, IncidentId, Outcome, Plan, Request, State, Subject, Time,
};
use smart_monitor::policy::Permit;

use super::manual::{PEOPLE, cruncher, wish};
use super::processes::runs_away;
use super::{SERVICE, Scene, done, key, settings};

/// Bounded on purpose: so many acts may be in force at one time.
const MOST: u64 = 128;

/// A ladder whose first step can be changed back, and whose second cannot be.
const LADDER: &str = r#"
[detectors.runaway_cpu]
for = "2s"
scope = "all"
[[process]]
name = "batch"
comm = ["cruncher"]
[[remedy]]
name = "calm"
detector = "runaway_cpu"
on = ["batch"]
step = [
    { action = "lower_priority", nice = 15, attempts = 1, verify_within = "5s", undo_after = "10m" },
    { action = "kill_process", term_grace = "0s" },
]
"#;

fn undo_of(pid: u32) -> Plan {
    Plan::RestorePriority {
        process: key(pid),
        comm: "cruncher".to_owned(),
        nice: vec![(pid, 0)],
    }
}

fn failed(reason: &str) -> EffectResult {
    EffectResult::Failed {
        reason: reason.to_owned(),
    }
}

/// A person has had a process held back: incident `id`, in force.
fn hold(scene: &mut Scene, id: u64, pid: u32) {
    scene.person(wish("lower_priority", cruncher(pid, "cruncher")));
    let permit = scene.permit();
    scene.effect_with(&permit, done(), Some(undo_of(pid)));
    let incident = scene.incident(id);
    assert_eq!(incident.outcome, Some(Outcome::Fixed));
    assert!(incident.held.is_some(), "{incident:#?}");
}

fn held(scene: &Scene, id: u64) -> Held {
    let held = scene.incident(id).held.clone();
    *held.expect("it holds something")
}

/// The permit to change back what incident `id` holds, and nothing else.
fn undoing(scene: &mut Scene, id: u64) -> Permit {
    let permit = scene.permit();
    assert_eq!(permit.incident(), IncidentId(id));
    assert!(permit.grounds().undo, "{permit:?}");
    permit
}

#[test]
fn what_helps_is_in_force_for_its_time_and_no_longer() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    assert_eq!(
        held(&scene, 1).due,
        Some(scene.now.after(Duration::from_mins(10)))
    );
    scene.pass(Duration::from_secs(599));
    assert!(scene.permits.is_empty());
    scene.pass(Duration::from_secs(1));
    let permit = undoing(&mut scene, 1);
    assert_eq!(permit.plan(), &undo_of(800));
    assert_eq!(permit.grounds().by, None);
    scene.effect(&permit, done());
    let incident = scene.incident(1);
    assert_eq!(incident.held, None);
    assert_eq!(incident.last(StepKind::Undone), Some(scene.now));
    assert_eq!(
        (incident.state, incident.outcome),
        (State::Resolved, Some(Outcome::Fixed))
    );
    scene.pass(Duration::from_hours(3));
    assert!(scene.permits.is_empty(), "once");
}

#[test]
fn without_a_time_it_is_in_force_until_a_person_says_so() {
    let config = PEOPLE.replace(", undo_after = \"10m\"", "");
    let mut scene = Scene::new(&format!("{SERVICE}{config}"));
    hold(&mut scene, 1, 800);
    assert_eq!(held(&scene, 1).due, None);
    scene.pass(Duration::from_hours(100));
    assert!(scene.permits.is_empty());
    scene.person(Request::Undo {
        incident: IncidentId(1),
    });
    let permit = undoing(&mut scene, 1);
    assert_eq!(permit.grounds().by.as_deref(), Some("ann"));
    let story = &scene.incident(1).steps;
    assert!(
        story
            .iter()
            .any(|step| step.detail == "undo of lower_priority by ann"),
        "{story:#?}"
    );
    // Asked twice, done once.
    scene.person(Request::Undo {
        incident: IncidentId(1),
    });
    assert!(scene.permits.is_empty());
    scene.effect(&permit, done());
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty() && scene.incident(1).held.is_none());
    // And of what holds nothing, nothing is undone.
    scene.person(Request::Undo {
        incident: IncidentId(1),
    });
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty());
}

#[test]
fn who_is_gone_by_then_has_nothing_to_be_changed_back() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.pass(Duration::from_mins(10));
    let permit = undoing(&mut scene, 1);
    let reason = "no process 800".to_owned();
    scene.effect(&permit, EffectResult::Refused { reason });
    assert_eq!(scene.incident(1).held, None);
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty());
}

#[test]
fn what_cannot_be_changed_back_is_tried_six_times_then_a_person_is_called() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.pass(Duration::from_mins(10));
    let mut waits = Vec::new();
    for _ in 0..6 {
        let permit = undoing(&mut scene, 1);
        scene.effect(&permit, failed("no right to"));
        let from = scene.now;
        for _ in 0..1000 {
            if !scene.permits.is_empty() {
                waits.push(scene.now.since(from).as_secs());
                break;
            }
            scene.pass(Duration::from_secs(1));
        }
    }
    assert_eq!(waits, [5, 10, 20, 40, 80]);
    let incident = scene.incident(1);
    let last = incident.steps.last().expect("it has a story");
    assert_eq!(last.what, StepKind::Escalated);
    assert!(
        last.detail
            .contains("6 times and is still in force: no right to"),
        "{}",
        last.detail
    );
    assert!(incident.is_over() && held(&scene, 1).due.is_none());
    // A person's word begins it anew.
    scene.person(Request::Undo {
        incident: IncidentId(1),
    });
    let permit = undoing(&mut scene, 1);
    scene.effect(&permit, failed("no right to"));
    scene.pass(Duration::from_secs(5));
    let permit = undoing(&mut scene, 1);
    scene.effect(&permit, done());
    assert_eq!(scene.incident(1).held, None);
}

#[test]
fn while_the_journal_cannot_be_written_nothing_is_changed_back_and_after_that_everything_is() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.engine.halt(Some("no space left".to_owned()));
    scene.pass(Duration::from_hours(5));
    assert!(scene.permits.is_empty());
    assert_eq!(held(&scene, 1).tries, 0, "that is no try in vain");
    let refused = scene.incident(1).steps.iter();
    let refused = refused
        .filter(|step| step.what == StepKind::Refused)
        .count();
    assert_eq!(refused, 1, "and it is said once");
    scene.engine.halt(None);
    scene.pass(Duration::from_secs(6));
    undoing(&mut scene, 1);
}

#[test]
fn what_did_not_help_is_changed_back_and_the_next_step_is_taken() {
    let mut scene = Scene::new(LADDER);
    runs_away(&mut scene, 800, "cruncher");
    let permit = scene.permit();
    assert_eq!(permit.action(), "lower_priority");
    scene.effect_with(&permit, done(), Some(undo_of(800)));
    scene.pass(Duration::from_millis(5_001));
    let undo = undoing(&mut scene, 1);
    scene.effect(&undo, done());
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.permit().action(), "kill_process");
    assert_eq!(scene.incident(1).held, None);
}

#[test]
fn what_was_done_by_halves_is_changed_back_too() {
    let mut scene = Scene::new(LADDER);
    runs_away(&mut scene, 800, "cruncher");
    let permit = scene.permit();
    scene.effect_with(&permit, failed("after 3 of 5 threads"), Some(undo_of(800)));
    undoing(&mut scene, 1);

    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    scene.person(wish("lower_priority", cruncher(800, "cruncher")));
    let permit = scene.permit();
    scene.effect_with(&permit, failed("after 3 of 5 threads"), Some(undo_of(800)));
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Failed));
    scene.pass(Duration::from_millis(1));
    undoing(&mut scene, 1);
}

#[test]
fn an_undo_that_fails_holds_up_no_other_step() {
    let mut scene = Scene::new(LADDER);
    runs_away(&mut scene, 800, "cruncher");
    let permit = scene.permit();
    scene.effect_with(&permit, done(), Some(undo_of(800)));
    scene.pass(Duration::from_millis(5_001));
    let undo = undoing(&mut scene, 1);
    scene.effect(&undo, failed("no right to"));
    scene.pass(Duration::from_secs(2));
    let kill = scene.permit();
    assert_eq!(kill.action(), "kill_process");
    assert!(scene.incident(1).held.is_some());
    // The undo waits until that is over, and comes then.
    scene.pass(Duration::from_secs(20));
    assert!(scene.permits.is_empty());
    let reason = "it is gone".to_owned();
    scene.effect(&kill, EffectResult::Refused { reason });
    scene.pass(Duration::from_secs(10));
    let undone = scene.permits.iter().any(|permit| permit.grounds().undo);
    assert!(undone, "{:?}", scene.permits);
}

#[test]
fn what_is_in_force_is_not_done_again_on_top_of_it() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.person(wish("lower_priority", cruncher(800, "cruncher")));
    assert!(scene.permits.is_empty());
    let said = scene.refused_by(2);
    assert!(said.contains("smart-monitor undo 1"), "{said}");
    // What cannot be changed back may be done, and so may the same to another.
    hold(&mut scene, 3, 801);
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    assert_eq!(scene.permit().action(), "kill_process");
}

#[test]
fn what_is_due_waits_for_another_act_on_the_same_target() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    let kill = scene.permit();
    scene.pass(Duration::from_mins(11));
    assert!(scene.permits.is_empty(), "two hands on one process");
    let reason = "it is another".to_owned();
    scene.effect(&kill, EffectResult::Refused { reason });
    scene.pass(Duration::from_secs(1));
    undoing(&mut scene, 1);
}

#[test]
fn an_undo_that_does_not_come_back_wakes_nothing_that_is_over() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.pass(Duration::from_mins(10));
    let permit = undoing(&mut scene, 1);
    scene.pass(Duration::from_mins(5));
    let incident = scene.incident(1);
    assert!(incident.is_over(), "{incident:#?}");
    assert!(
        incident.last(StepKind::Escalated).is_some(),
        "and it is told"
    );
    scene.effect(&permit, done());
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty() && scene.incident(1).held.is_none());
}

#[test]
fn never_more_than_the_bound_is_in_force() {
    let config = PEOPLE.replace(", undo_after = \"10m\"", "");
    let mut scene = Scene::new(&format!("{SERVICE}{config}"));
    for id in 1..=MOST + 1 {
        let pid = 1000 + u32::try_from(id).expect("it is small");
        hold(&mut scene, id, pid);
    }
    // The oldest is changed back; until that is done, nothing more is done that must be.
    scene.person(wish("lower_priority", cruncher(5000, "cruncher")));
    let said = scene.refused_by(MOST + 2);
    assert!(said.contains("more than 128 acts are in force"), "{said}");
    scene.pass(Duration::from_millis(1));
    let permit = undoing(&mut scene, 1);
    scene.effect(&permit, done());
    scene.person(wish("lower_priority", cruncher(5000, "cruncher")));
    assert_eq!(scene.permit().action(), "lower_priority");
}

/// The core after a start, with what the journal had of incident 1.
fn started_anew(before: &Scene, now: Time) -> Scene {
    let incidents = before.engine.held().collect();
    let config = settings(&format!("{SERVICE}{PEOPLE}"));
    let mut scene = Scene {
        engine: Engine::new(config, IncidentId(2)),
        now,
        permits: Vec::new(),
    };
    scene.engine.remember(incidents);
    scene
}

#[test]
fn what_is_in_force_outlives_the_daemon_and_many_incidents() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    let now = scene.now.after(Duration::from_mins(4));
    let mut scene = started_anew(&scene, now);
    // More incidents than are remembered.
    for _ in 0..600 {
        scene.person(Request::Act {
            action: "restart_service".to_owned(),
            subject: Subject::service("shop"),
            rule: None,
            dry_run: true,
        });
    }
    assert!(
        scene.engine.incident(IncidentId(2)).is_none(),
        "old ones go"
    );
    scene.pass(Duration::from_mins(5));
    assert!(scene.permits.is_empty());
    scene.pass(Duration::from_mins(1));
    let permit = undoing(&mut scene, 1);
    assert_eq!(permit.plan(), &undo_of(800));
    scene.effect(&permit, done());
    assert_eq!(scene.incident(1).held, None);
}

#[test]
fn what_is_protected_by_now_is_left_as_it_is_and_a_person_is_called() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    hold(&mut scene, 1, 800);
    scene.reconfigure(&format!(
        "[policy]\nprotected = [\"cruncher\"]\n{SERVICE}{PEOPLE}"
    ));
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty());
    let incident = scene.incident(1);
    let last = incident.steps.last().expect("it has a story");
    assert_eq!(last.what, StepKind::Escalated);
    assert!(last.detail.contains("protected_subject"), "{}", last.detail);
    assert!(incident.held.is_some(), "it is still told to be in force");
}

#[test]
fn when_its_target_has_ended_it_is_undone_and_made_room_for() {
    let mut scene = Scene::new(PEOPLE);
    hold(&mut scene, 1, 700);
    hold(&mut scene, 2, 701);
    scene.exits(700, 9);
    scene.pass(Duration::from_millis(500));
    assert!(scene.permits.is_empty(), "it may still be there");
    scene.pass(Duration::from_secs(1));
    let permit = undoing(&mut scene, 1);
    let reason = "it has ended".to_owned();
    scene.effect(&permit, EffectResult::Refused { reason });
    assert!(scene.incident(1).held.is_none());
    assert!(scene.incident(2).held.is_some(), "the other one runs");
}
