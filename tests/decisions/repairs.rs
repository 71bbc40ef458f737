//! A service is repaired, proven by its own answer, waited for, and given up.

use std::time::Duration;

use smart_monitor::model::{
    CheckFailure, CheckResult, Effect, EffectResult, IncidentId, Outcome, Sample, ServiceSignal,
    Signal, State,
};

use super::{RESTART, SERVICE, Scene, key, settings};

#[test]
fn a_crash_is_repaired_and_proven_by_the_services_own_answer() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    assert_eq!(
        scene.incident(1).state,
        State::Verifying,
        "started is not yet proven"
    );
    scene.answers();
    let incident = scene.incident(1);
    assert_eq!(
        (incident.state, incident.outcome),
        (State::Resolved, Some(Outcome::Fixed))
    );
    assert!(
        incident
            .evidence
            .facts
            .iter()
            .any(|(_, value)| value == "killed by SIGKILL (9)")
    );
}

#[test]
fn without_consent_nothing_is_done() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    scene.exits(700, 0);
    scene.pass(Duration::from_hours(1));
    assert!(scene.permits.is_empty());
    assert!(
        scene.refused_by(1).starts_with("consent:"),
        "{}",
        scene.refused_by(1)
    );
}

#[test]
fn a_crash_loop_waits_longer_each_time_then_is_given_up_and_tried_once_an_hour() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    let mut pid = 700;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let crashed = scene.now;
        scene.exits(pid, 256);
        while scene.permits.is_empty() {
            scene.pass(Duration::from_millis(100));
        }
        waits.push(scene.now.since(crashed).as_secs());
        pid += 1;
        scene.restarts(pid);
        scene.answers();
    }
    // Each wait counts from the action before, so it is a little shorter after a crash than the full 1, 2, 4, 8 s.
    assert_eq!(waits.first(), Some(&0), "the first is immediate");
    assert!(
        waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[4] >= 7,
        "{waits:?}"
    );
    scene.exits(pid, 256);
    scene.pass(Duration::from_mins(50));
    assert!(scene.permits.is_empty(), "it was given up");
    assert_eq!(scene.incident(6).state, State::Escalated);
    scene.pass(Duration::from_secs(700));
    scene.restarts(pid + 1);
    scene.answers();
    assert_eq!(scene.incident(6).outcome, Some(Outcome::Fixed));
    scene.exits(pid + 1, 256);
    scene.pass(Duration::from_mins(50));
    assert!(
        scene.permits.is_empty(),
        "one good try does not close the breaker"
    );
}

#[test]
fn an_act_without_effect_is_no_success() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    scene.pass(Duration::from_millis(10_005));
    let incident = scene.incident(1);
    assert_eq!(incident.outcome, Some(Outcome::NoEffect), "{incident:#?}");
    assert!(!incident.is_over());
}

#[test]
fn what_goes_down_again_at_once_is_not_waited_for() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    scene.pass(Duration::from_millis(20));
    scene.exits(701, 256);
    assert_eq!(scene.incident(1).outcome, Some(Outcome::NoEffect));
    scene.pass(Duration::from_secs(2));
    scene.restarts(702);
    scene.answers();
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
}

#[test]
fn an_end_that_is_heard_of_before_the_effect_counts_all_the_same() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    let permit = scene.permit();
    let acted = scene.now;
    scene.starts(701);
    scene.pass(Duration::from_millis(1));
    let change = ServiceSignal::Exited {
        process: key(701),
        status: Some(256),
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
    let effect = Effect {
        incident: permit.incident(),
        action: permit.action().to_owned(),
        acted: Some(acted),
        finished: scene.now,
        result: EffectResult::Done {
            detail: String::new(),
        },
        verified: None,
        undo: None,
    };
    scene.signal(&Signal::Effect { effect });
    assert_eq!(scene.incident(1).outcome, Some(Outcome::NoEffect));
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.permits.len(), 1, "it is tried again at once");
}

#[test]
fn consent_given_later_counts_for_what_is_open() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    scene.exits(700, 9);
    assert!(scene.permits.is_empty());
    scene
        .engine
        .reconfigure(settings(&format!("{SERVICE}{RESTART}")));
    scene.pass(Duration::from_millis(1));
    scene.restarts(701);
}

#[test]
fn a_kill_of_ours_is_named_as_the_cause_and_does_not_hold_up_the_restart() {
    let kill =
        "[[remedy]]\ndetector = \"memory_pressure\"\non = [\"*\"]\naction = \"kill_process\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{kill}"));
    scene.runs(700);
    let sample = Sample::ServiceMemory {
        service: "shop".to_owned(),
        process: key(700),
        resident: 101 << 20,
    };
    scene.signal(&Signal::Sample { sample });
    let killed = scene.permit();
    assert_eq!(killed.action(), "kill_process");
    scene.exits(700, 9);
    assert_eq!(scene.incident(2).caused_by, Some(IncidentId(1)));
    scene.restarts(701);
    scene.effect(
        &killed,
        EffectResult::Done {
            detail: String::new(),
        },
    );
    let change = ServiceSignal::Exited {
        process: key(700),
        status: Some(9),
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
    scene.answers();
    for id in [1, 2] {
        assert_eq!(
            scene.incident(id).outcome,
            Some(Outcome::Fixed),
            "{:#?}",
            scene.incident(id)
        );
    }
}

#[test]
fn nothing_acts_while_the_journal_cannot_be_written_and_everything_after() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.engine.halt(Some(
        "cannot write the journal: no space left on device".to_owned(),
    ));
    scene.exits(700, 9);
    scene.pass(Duration::from_mins(1));
    assert!(scene.permits.is_empty());
    assert!(scene.refused_by(1).starts_with("journal:"));
    scene.engine.halt(None);
    scene.pass(Duration::from_secs(6));
    scene.restarts(701);
}

#[test]
fn a_hanging_service_is_restarted_and_its_exit_is_no_incident_of_its_own() {
    let latency =
        "[[remedy]]\ndetector = \"latency_spike\"\non = [\"*\"]\naction = \"restart_service\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{latency}"));
    scene.runs(700);
    for _ in 0..3 {
        scene.pass(Duration::from_secs(7));
        let failure = Some(CheckFailure::Timeout);
        let result = CheckResult::new("shop", Duration::from_secs(6), failure);
        scene.signal(&Signal::Check { result });
    }
    let permit = scene.permit();
    scene.exits(700, 15);
    scene.starts(701);
    scene.effect(
        &permit,
        EffectResult::Done {
            detail: String::new(),
        },
    );
    scene.answers();
    assert_eq!(
        scene.incident(1).outcome,
        Some(Outcome::Fixed),
        "{:#?}",
        scene.incident(1)
    );
    assert!(scene.engine.incident(IncidentId(2)).is_none());
}

#[test]
fn an_answer_of_something_else_does_not_bring_a_dead_service_back() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    scene.restarts(701);
    scene.exits(701, 256);
    scene.answers();
    assert!(
        !scene.incident(1).is_over(),
        "another program answers on its port"
    );
    for _ in 0..10 {
        scene.pass(Duration::from_secs(1));
        scene.answers();
    }
    assert_eq!(scene.permits.len(), 1, "and it is tried again");
}

#[test]
fn a_dry_run_names_the_action_where_the_audit_looks_for_it() {
    let mut scene = Scene::new(&format!("[policy]\ndry_run = true\n{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    assert!(scene.permits.is_empty());
    let said = scene.refused_by(1);
    assert!(said.starts_with("dry_run: "), "{said}");
    assert!(said.ends_with(" would have done restart_service"), "{said}");
    let incident = scene.incident(1);
    assert_eq!(incident.outcome, Some(Outcome::WouldHave));
    assert!(incident.rule.is_some(), "and the rule: {incident:#?}");
}
