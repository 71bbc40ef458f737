//! What people ask for: allowed by a rule or not at all, guarded, done exactly as it was shown, and an incident of its own.

use std::time::Duration;

use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{
    EffectResult, Incident, IncidentId, Outcome, Plan, Request, Silence, State, Subject,
};

use super::processes::runs_away;
use super::{RESTART, SERVICE, Scene, done, key};

/// A service that only people may have restarted, and processes that only people may hold back or end.
pub(crate) const PEOPLE: &str = r#"
[[process]]
name = "batch"
comm = ["cruncher", "helper", "sshd"]

[[remedy]]
name = "by-hand"
detector = "manual"
on = ["*"]
step = [
    { action = "lower_priority", nice = 15, undo_after = "10m" },
    { action = "kill_process", term_grace = "0s" },
    { action = "restart_service" },
]
"#;

pub(crate) fn cruncher(pid: u32, comm: &str) -> Subject {
    Subject::Process {
        process: key(pid),
        comm: comm.to_owned(),
        group: None,
    }
}

pub(crate) fn wish(action: &str, subject: Subject) -> Request {
    Request::Act {
        action: action.to_owned(),
        subject,
        rule: None,
        dry_run: false,
    }
}

/// How an incident ended, and the last words of its story.
fn end(incident: &Incident) -> (State, Option<Outcome>, &str) {
    let last = incident.steps.last().map_or("", |step| &step.detail);
    (incident.state, incident.outcome, last)
}

#[test]
fn what_a_person_asks_for_is_done_and_proven_by_what_is_read_back() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    let permit = scene.permit();
    assert_eq!(permit.grounds().by.as_deref(), Some("ann"));
    assert_eq!(permit.grounds().rule, "by-hand");
    let incident = scene.incident(1);
    assert_eq!(incident.subject.configured_name(), Some("batch"));
    let shown = incident.proposed.as_ref().expect("it is shown");
    assert_eq!(&shown.plan, permit.plan(), "what is shown is what is done");
    assert!(
        matches!(permit.plan(), Plan::KillProcess { process, .. } if *process == key(800)),
        "{permit:?}"
    );
    scene.verified(&permit, "no process 800 is there");
    let incident = scene.incident(1);
    assert_eq!(
        end(incident),
        (
            State::Resolved,
            Some(Outcome::Fixed),
            "no process 800 is there"
        )
    );
    let kinds: Vec<_> = incident.steps.iter().map(|step| step.what).collect();
    assert_eq!(
        kinds,
        [
            StepKind::Detected,
            StepKind::Approved,
            StepKind::Decided,
            StepKind::Acted,
            StepKind::Recovered
        ]
    );
    scene.pass(Duration::from_hours(3));
    assert!(scene.permits.is_empty(), "once asked, once done");
}

#[test]
fn what_could_not_be_done_says_so_and_is_not_tried_again() {
    for (result, outcome) in [
        (
            EffectResult::Failed {
                reason: "no right to".to_owned(),
            },
            Outcome::Failed,
        ),
        (
            EffectResult::Refused {
                reason: "no right to".to_owned(),
            },
            Outcome::Refused,
        ),
    ] {
        let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
        scene.person(wish("kill_process", cruncher(800, "cruncher")));
        let permit = scene.permit();
        scene.effect(&permit, result);
        let incident = scene.incident(1);
        assert_eq!(
            end(incident),
            (State::Resolved, Some(outcome), "no right to")
        );
        scene.pass(Duration::from_hours(3));
        assert!(scene.permits.is_empty());
    }
}

#[test]
fn without_a_rule_that_names_both_nobody_has_it_done() {
    let only = "[[process]]\nname = \"batch\"\ncomm = [\"cruncher\"]\n[[remedy]]\nname = \"calm\"\ndetector = \"manual\"\non = [\"batch\"]\naction = \"lower_priority\"\n";
    let refused = |scene: &mut Scene, request, why: &str| {
        scene.person(request);
        assert!(scene.permits.is_empty(), "{:?}", scene.permits);
        let id = scene.engine.open_incidents().count();
        assert_eq!(id, 0, "it is over at once");
        let newest = (1..)
            .map_while(|id| scene.engine.incident(IncidentId(id)))
            .last()
            .expect("it is told");
        assert_eq!(newest.outcome, Some(Outcome::Refused));
        let said = &newest.steps.last().expect("it says why").detail;
        assert!(said.contains(why), "{said}");
    };
    let mut scene = Scene::new(&format!("{SERVICE}{only}"));
    let batch = || cruncher(800, "cruncher");
    refused(
        &mut scene,
        wish("kill_process", batch()),
        "consent: no step of a [[remedy]] allows kill_process on",
    );
    refused(
        &mut scene,
        wish("lower_priority", Subject::service("shop")),
        "consent:",
    );
    refused(
        &mut scene,
        wish("lower_priority", cruncher(801, "nobody")),
        "consent:",
    );
    let of = |rule: &str| Request::Act {
        action: "lower_priority".to_owned(),
        subject: batch(),
        rule: Some(rule.to_owned()),
        dry_run: false,
    };
    refused(&mut scene, of("harsh"), "there is no rule harsh");
    refused(&mut scene, wish("dance", batch()), "consent:");
    scene.person(of("calm"));
    assert_eq!(scene.permit().action(), "lower_priority");
}

#[test]
fn a_rule_for_people_alone_is_never_used_by_itself_and_one_of_a_detector_serves_people_too() {
    let mut scene = Scene::new(&format!(
        "[detectors.runaway_cpu]\nfor = \"2s\"\nscope = \"all\"\n{SERVICE}{PEOPLE}"
    ));
    scene.runs(700);
    scene.exits(700, 9);
    runs_away(&mut scene, 800, "cruncher");
    scene.pass(Duration::from_hours(3));
    assert!(scene.permits.is_empty(), "{:?}", scene.permits);
    assert!(
        scene.refused_by(1).starts_with("consent:"),
        "{}",
        scene.refused_by(1)
    );

    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.person(wish("restart_service", Subject::service("shop")));
    scene.restarts(701);
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
    assert!(
        scene.incident(1).rule.is_some(),
        "a rule of a detector is consent enough"
    );
}

#[test]
fn the_process_of_a_service_goes_by_the_services_name() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    scene.runs(700);
    scene.person(wish("lower_priority", cruncher(700, "python3")));
    let permit = scene.permit();
    assert_eq!(permit.plan().process(), Some(key(700)));
    assert_eq!(scene.incident(1).subject, Subject::service("shop"));
}

#[test]
fn what_is_protected_is_not_done_on_anybodys_word() {
    for (pid, comm) in [(1, "helper"), (500, "helper"), (800, "sshd")] {
        let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
        scene.person(wish("kill_process", cruncher(pid, comm)));
        assert!(scene.permits.is_empty(), "{comm} [{pid}]");
        let incident = scene.incident(1);
        assert_eq!(incident.outcome, Some(Outcome::Refused));
        assert!(scene.refused_by(1).starts_with("protected_subject:"));
        assert!(incident.proposed.is_some(), "what was refused is shown");
    }
}

#[test]
fn two_at_once_on_one_subject_are_one() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    let subject = || cruncher(800, "cruncher");
    scene.person(wish("lower_priority", subject()));
    scene.person(wish("kill_process", subject()));
    let permit = scene.permit();
    assert_eq!(permit.action(), "lower_priority");
    assert!(
        scene.refused_by(2).starts_with("in_flight: incident 1 has"),
        "{}",
        scene.refused_by(2)
    );
    scene.effect(&permit, done());
    scene.person(wish("kill_process", subject()));
    assert_eq!(scene.permit().action(), "kill_process");
}

#[test]
fn what_the_daemon_does_by_itself_waits_for_what_a_person_asked_for() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{PEOPLE}"));
    scene.runs(700);
    scene.person(wish("lower_priority", Subject::service("shop")));
    let permit = scene.permit();
    scene.exits(700, 9);
    assert!(scene.permits.is_empty());
    assert!(
        scene.refused_by(2).starts_with("in_flight:"),
        "{}",
        scene.refused_by(2)
    );
    scene.effect(&permit, done());
    scene.pass(Duration::from_secs(1));
    scene.restarts(701);
}

#[test]
fn cooldowns_limits_and_silences_are_not_for_people_and_what_they_do_counts() {
    let config = format!("[policy]\nlimit = 2\n{SERVICE}{RESTART}");
    let mut scene = Scene::new(&config);
    scene.runs(700);
    scene.person(Request::Silence {
        silence: Silence {
            id: 1,
            on: "*".to_owned(),
            detector: None,
            until: scene.now.after(Duration::from_mins(1)),
            by: "ann".to_owned(),
            reason: "work".to_owned(),
        },
    });
    for pid in 701..=705 {
        scene.person(wish("restart_service", Subject::service("shop")));
        scene.restarts(pid);
    }
    scene.answers();
    scene.pass(Duration::from_mins(2));
    scene.exits(705, 9);
    assert!(scene.permits.is_empty());
    assert!(
        scene.refused_by(6).starts_with("limit:"),
        "five restarts are five, whoever wanted them: {}",
        scene.refused_by(6)
    );
}

#[test]
fn a_dry_run_shows_what_would_be_done_and_which_guard_stands_in_the_way() {
    let dry = |subject| Request::Act {
        action: "kill_process".to_owned(),
        subject,
        rule: None,
        dry_run: true,
    };
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    scene.person(dry(cruncher(800, "cruncher")));
    scene.person(dry(cruncher(1, "helper")));
    scene.pass(Duration::from_mins(1));
    assert!(scene.permits.is_empty());
    let (would, not) = (scene.incident(1), scene.incident(2));
    assert_eq!(
        (would.state, would.outcome),
        (State::Resolved, Some(Outcome::WouldHave))
    );
    assert!(would.proposed.is_some() && would.actions == 0, "{would:#?}");
    assert_eq!(
        (not.state, not.outcome),
        (State::Resolved, Some(Outcome::Refused))
    );
    assert!(scene.refused_by(2).starts_with("protected_subject:"));
    // It was no act: nothing counts.
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    assert_eq!(scene.permit().action(), "kill_process");
}

#[test]
fn where_everything_is_a_dry_run_people_have_nothing_done_either() {
    let mut scene = Scene::new(&format!("[policy]\ndry_run = true\n{SERVICE}{PEOPLE}"));
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    assert!(scene.permits.is_empty());
    let incident = scene.incident(1);
    assert_eq!(incident.outcome, Some(Outcome::WouldHave));
    assert!(scene.refused_by(1).starts_with("dry_run:"), "{incident:#?}");
    assert!(incident.proposed.is_some(), "and it is shown what");
}

#[test]
fn while_the_journal_cannot_be_written_nobody_has_anything_done() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    scene
        .engine
        .halt(Some("cannot write the journal".to_owned()));
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    scene.engine.halt(None);
    scene.pass(Duration::from_mins(10));
    assert!(
        scene.permits.is_empty(),
        "and nobody does it later, unasked"
    );
    assert!(scene.refused_by(1).starts_with("journal:"));
}

#[test]
fn one_that_does_not_come_back_calls_a_person_and_is_taken_when_it_does() {
    let mut scene = Scene::new(&format!("{SERVICE}{PEOPLE}"));
    scene.person(wish("kill_process", cruncher(800, "cruncher")));
    let permit = scene.permit();
    scene.pass(Duration::from_mins(5));
    assert_eq!(scene.incident(1).state, State::Escalated);
    assert!(scene.permits.is_empty());
    scene.effect(&permit, done());
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
    assert!(scene.incident(1).is_over());
}
