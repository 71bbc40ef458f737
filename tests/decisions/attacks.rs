//! What tries to make the core do harm: targets that change, actions that hang, lie or make things worse, settings that change in
//! the middle, and others who repair in phase with it.

use std::time::Duration;

use smart_monitor::model::{
    Effect, EffectResult, IncidentId, Outcome, Plan, Sample, Signal, State, Time,
};
use smart_monitor::policy::Permit;

use super::processes::{RUNAWAY, runs_away};
use super::{RESTART, SERVICE, Scene, done, key, settings};

pub(crate) const LADDER: &str = r#"
[[remedy]]
detector = "memory_pressure"
on = ["shop"]
step = [{ action = "kill_process" }, { action = "restart_service" }]
"#;

/// The service takes more memory than it may.
pub(crate) fn swells(scene: &mut Scene, pid: u32) {
    let sample = Sample::ServiceMemory {
        service: "shop".to_owned(),
        process: key(pid),
        resident: 101 << 20,
    };
    scene.signal(&Signal::Sample { sample });
}

fn effect_of(permit: &Permit, action: &str, at: Time, result: EffectResult) -> Signal {
    let effect = Effect {
        incident: permit.incident(),
        action: action.to_owned(),
        acted: Some(at),
        finished: at,
        result,
        verified: None,
        undo: None,
    };
    Signal::Effect { effect }
}

#[test]
fn a_target_that_is_another_by_now_costs_no_rung_and_is_no_fault_of_the_rule() {
    let mut scene = Scene::new(&format!("{SERVICE}{LADDER}"));
    scene.runs(700);
    swells(&mut scene, 700);
    let permit = scene.permit();
    let reason = "pid 700 is another process by now".to_owned();
    scene.effect(&permit, EffectResult::Refused { reason });
    let incident = scene.incident(1);
    assert_eq!(
        (incident.outcome, incident.rung, incident.tries),
        (Some(Outcome::Refused), 0, 0)
    );
    // The same plan again, after the cooldown, for as long as nobody says that the process is gone.
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.permit().plan(), permit.plan());
}

#[test]
fn who_starts_a_process_anew_each_time_does_not_have_it_ended_without_end() {
    let mut scene = Scene::new(&RUNAWAY.replace("[[process]]", "[policy]\n[[process]]"));
    let mut ended = Vec::new();
    for pid in 800..860 {
        runs_away(&mut scene, pid, "cruncher");
        if let Some(permit) = scene.permits.pop() {
            ended.push(scene.now);
            scene.exits(pid, 9);
            scene.effect(&permit, done());
        }
        scene.exits(pid, 9);
    }
    assert_eq!(
        ended.len(),
        5,
        "10 minutes, and 5 acts of which each helped: {ended:?}"
    );
    let waits: Vec<u64> = ended
        .windows(2)
        .map(|two| two[1].since(two[0]).as_secs())
        .collect();
    assert!(waits.is_sorted(), "{waits:?}");
}

#[test]
fn a_service_that_dies_at_every_start_is_given_up_and_tried_hourly() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 256);
    let (mut pid, mut acts) = (700, 0);
    for _ in 0..4 * 360 {
        if let Some(permit) = scene.permits.pop() {
            pid += 1;
            acts += 1;
            scene.starts(pid);
            scene.effect(&permit, done());
            scene.pass(Duration::from_millis(1));
            scene.exits(pid, 256);
        }
        scene.pass(Duration::from_secs(10));
    }
    assert_eq!(acts, 5 + 3, "5, then one after each of 3 whole hours");
    assert_eq!(scene.engine.open_incidents().count(), 1);
    assert!(scene.incident(1).steps.len() <= 64);
}

#[test]
fn an_action_that_never_comes_back_is_told_of_and_not_repeated() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    let permit = scene.permit();
    scene.pass(Duration::from_hours(24));
    assert!(scene.permits.is_empty());
    assert_eq!(scene.incident(1).state, State::Escalated);
    assert_eq!(
        scene.engine.wake(),
        None,
        "there is nothing to wait for but the effect"
    );
    scene.starts(701);
    scene.effect(&permit, done());
    scene.answers();
    assert_eq!(
        scene.incident(1).outcome,
        Some(Outcome::Fixed),
        "late, and true"
    );
}

#[test]
fn effects_of_other_acts_other_incidents_and_earlier_times_are_not_taken_for_this_ones() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    scene.exits(700, 9);
    let first = scene.permit();
    let told = scene.now;
    scene.signal(&effect_of(&first, "kill_process", told, done()));
    assert_eq!(scene.incident(1).state, State::Acting, "another action's");
    let reason = "no such program".to_owned();
    scene.signal(&effect_of(
        &first,
        "restart_service",
        told,
        EffectResult::Failed { reason },
    ));
    scene.pass(Duration::from_secs(2));
    let second = scene.permit();
    assert_eq!(second.incident(), IncidentId(1));
    scene.signal(&effect_of(&first, "restart_service", told, done()));
    assert_eq!(
        scene.incident(1).state,
        State::Acting,
        "the first act's, told a second time"
    );
    scene.starts(701);
    scene.effect(&second, done());
    scene.effect(
        &second,
        EffectResult::Failed {
            reason: "a lie".to_owned(),
        },
    );
    scene.answers();
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
}

const WORSE: &str = r#"
[[remedy]]
detector = "connect_failure"
on = ["shop"]
severity = "warning"
step = [{ action = "kill_process" }, { action = "restart_service" }]
"#;

fn found(scene: &mut Scene, severity: smart_monitor::model::Severity) {
    let finding = smart_monitor::model::Finding::Raised {
        subject: smart_monitor::model::Subject::service("shop"),
        severity,
        evidence: smart_monitor::model::Evidence::at(scene.now),
    };
    let mut orders = Vec::new();
    scene
        .engine
        .find("connect_failure", finding, scene.now, &mut orders)
        .expect("there is such a detector");
    scene.take(orders);
}

/// A warning is acted upon, and grows critical before or after the host is changed.
fn grows(after: bool, undo: &Plan) -> Scene {
    use smart_monitor::model::Severity::{Critical, Warning};
    let mut scene = Scene::new(&format!("{SERVICE}{WORSE}"));
    scene.runs(700);
    scene.pass(Duration::from_secs(1));
    found(&mut scene, Warning);
    let permit = scene.permit();
    scene.pass(Duration::from_millis(1));
    if !after {
        found(&mut scene, Critical);
        scene.pass(Duration::from_millis(1));
    }
    scene.effect_with(&permit, done(), Some(undo.clone()));
    if after {
        scene.pass(Duration::from_millis(1));
        found(&mut scene, Critical);
    }
    scene
}

fn undo(pid: u32) -> Plan {
    Plan::RestorePriority {
        process: key(pid),
        comm: "shop".to_owned(),
        nice: vec![(pid, 0)],
    }
}

#[test]
fn what_made_things_worse_is_undone_and_then_the_next_rung_is_tried() {
    let mut scene = grows(true, &undo(700));
    let back = scene.permit();
    assert!(back.grounds().undo && *back.plan() == undo(700));
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Worse));
    scene.pass(Duration::from_mins(1));
    assert!(
        scene.permits.is_empty(),
        "nothing else while it is being undone"
    );
    scene.effect(&back, done());
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.permit().action(), "restart_service");
}

#[test]
fn what_grew_worse_before_the_act_is_not_its_doing() {
    let mut scene = grows(false, &undo(700));
    assert!(scene.permits.is_empty());
    assert_eq!(scene.incident(1).state, State::Verifying);
    scene.pass(Duration::from_secs(11));
    assert_eq!(scene.incident(1).outcome, Some(Outcome::NoEffect));
    let back = scene.permit();
    assert!(back.grounds().undo, "what did not help is not left behind");
    scene.effect(&back, done());
    scene.pass(Duration::from_secs(1));
    let next = scene.permit();
    assert!(next.action() == "restart_service" && !next.grounds().undo);
}

/// A person's word for a proposal, and the same configuration read again.
#[test]
fn a_no_outlives_a_reload() {
    let text = format!(
        "{SERVICE}[[remedy]]\ndetector = \"service_down\"\non = [\"shop\"]\naction = \"restart_service\"\napproval = \"10m\"\n"
    );
    let mut scene = Scene::new(&text);
    scene.runs(700);
    scene.exits(700, 9);
    assert!(scene.incident(1).proposed.is_some());
    scene.signal(&Signal::Person {
        by: "ann".to_owned(),
        request: smart_monitor::model::Request::Reject {
            incident: IncidentId(1),
        },
    });
    scene.engine.reconfigure(settings(&text));
    scene.pass(Duration::from_mins(1));
    assert_eq!(scene.incident(1).state, State::Escalated);
    assert!(scene.incident(1).proposed.is_none(), "it was refused once");
}

#[test]
fn evidence_of_before_the_act_does_not_end_the_wait_for_its_proof() {
    let mut scene = grows(false, &undo(700));
    // The deciding signal is new, but what it rests on began before the act.
    let mut evidence =
        smart_monitor::model::Evidence::at(scene.now.after(Duration::from_millis(5)));
    evidence.since = scene.now.before(Duration::from_secs(1));
    let finding = smart_monitor::model::Finding::Raised {
        subject: smart_monitor::model::Subject::service("shop"),
        severity: smart_monitor::model::Severity::Critical,
        evidence,
    };
    scene.pass(Duration::from_millis(5));
    let mut orders = Vec::new();
    scene
        .engine
        .find("connect_failure", finding, scene.now, &mut orders)
        .expect("there is such a detector");
    scene.take(orders);
    assert_eq!(scene.incident(1).state, State::Verifying);
}

#[test]
fn an_undo_that_would_touch_init_is_refused_and_the_ladder_goes_on() {
    let mut scene = grows(true, &undo(1));
    scene.pass(Duration::from_secs(2));
    let permit = scene.permit();
    assert!(permit.action() == "restart_service" && !permit.grounds().undo);
}

#[test]
fn another_trouble_of_a_process_that_is_being_ended_does_not_end_it_a_second_time() {
    let cpu = "[[remedy]]\ndetector = \"connect_failure\"\non = [\"shop\"]\naction = \"restart_service\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{LADDER}{cpu}"));
    scene.runs(700);
    scene.pass(Duration::from_mins(2));
    swells(&mut scene, 700);
    assert_eq!(scene.permits.len(), 1);
    let finding = smart_monitor::model::Finding::Raised {
        subject: smart_monitor::model::Subject::service("shop"),
        severity: smart_monitor::model::Severity::Critical,
        evidence: smart_monitor::model::Evidence::at(scene.now).about(key(700), "shop"),
    };
    let mut orders = Vec::new();
    let now = scene.now;
    scene
        .engine
        .find("connect_failure", finding, now, &mut orders)
        .expect("there is one");
    scene.take(orders);
    scene.pass(Duration::from_secs(3));
    assert_eq!(scene.permits.len(), 1);
    assert_eq!(
        scene.incident(2).caused_by,
        None,
        "its process has not ended"
    );
    assert!(
        scene.refused_by(2).starts_with("in_flight:"),
        "{}",
        scene.refused_by(2)
    );
}

#[test]
fn strangers_cannot_take_the_room_of_what_the_configuration_names() {
    let all = "[detectors.connect_failure]\nfailures = 1\nscope = \"all\"\n";
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{all}"));
    scene.runs(700);
    for n in 0..10_000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        scene.kernel(|header| {
            monitor_common::Event::TcpConnect(super::attempt(header, 111, [10, 0, high, low], 1))
        });
    }
    scene.exits(700, 9);
    assert_eq!(scene.permits.len(), 1);
}
