//! Recorded signals, replayed into the core without root: the same signals must give the same decisions.
//!
//! `replay/NAME.jsonl` was written by `smart-monitor run --record` (processes that were no services of it left out), `NAME.toml` is the
//! configuration that was in force, `NAME.expected` what the core decided. After a change that is meant to decide differently,
//! run with `REPLAY_UPDATE=1` and read the difference.

#![expect(clippy::panic, reason = "a test's helper fails by panicking")]

use std::path::{Path, PathBuf};

use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::model::{Incident, IncidentId, Outcome, Time, View};
use smart_monitor::record::recorder::Recorded;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("replay")
}

fn settings(config: Config, dry_run: bool) -> Settings {
    let mut policy = config.policy;
    policy.dry_run = dry_run;
    Settings {
        detectors: config.detectors,
        policy,
        remedies: config.remedies,
        conditions: config.conditions,
        services: config.services,
        named: config.named,
        groups: config.groups,
        ..Settings::default()
    }
}

/// What the core decides on these signals, a line a decision, and its incidents at the end.
fn replay(name: &str, dry_run: bool) -> (Vec<String>, Vec<Incident>) {
    let config = Config::load(&folder().join(format!("{name}.toml"))).expect("it is good");
    let text = std::fs::read_to_string(folder().join(format!("{name}.jsonl"))).expect("it reads");
    let mut engine = Engine::new(settings(config, dry_run), IncidentId(1));
    let mut decisions = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let recorded: Recorded = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{name}.jsonl:{}: {error}", number + 1));
        // The time between two signals passes as it did: at most this often is the core woken in between.
        for _ in 0..1000 {
            let Some(wake) = engine.wake().filter(|wake| *wake < recorded.now) else {
                break;
            };
            let mut orders = Vec::new();
            engine.tick(wake, &mut orders);
            note(&orders, &mut decisions);
        }
        let mut orders = Vec::new();
        engine.observe(&recorded.signal, recorded.at, recorded.now, &mut orders);
        note(&orders, &mut decisions);
    }
    let mut view = View::default();
    engine.show(&mut view);
    (decisions, view.incidents.into_values().collect())
}

fn note(orders: &[Order], decisions: &mut Vec<String>) {
    for order in orders {
        decisions.push(match order {
            Order::Execute { permit, incident } => format!(
                "incident {} ({} of {}): {}",
                incident.id,
                incident.detector,
                incident.subject,
                permit.action()
            ),
            Order::Record(incident) => format!(
                "incident {} ({} of {}): {}{}",
                incident.id,
                incident.detector,
                incident.subject,
                incident.state.name(),
                incident
                    .outcome
                    .map(|outcome| format!(", {}", outcome.name()))
                    .unwrap_or_default(),
            ),
        });
    }
}

#[test]
fn recordings_replay_to_the_decisions_they_had() {
    let mut names = 0;
    for entry in std::fs::read_dir(folder()).expect("it is there") {
        let path = entry.expect("it reads").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        names += 1;
        let name = path
            .file_stem()
            .expect("it has a stem")
            .to_string_lossy()
            .into_owned();
        let (decisions, _) = replay(&name, false);
        let text = decisions.join("\n") + "\n";
        let expected = folder().join(format!("{name}.expected"));
        if std::env::var_os("REPLAY_UPDATE").is_some() {
            std::fs::write(&expected, &text).expect("it writes");
        }
        let expected = std::fs::read_to_string(expected).expect("it reads");
        assert_eq!(text, expected, "{name} is decided differently");
    }
    assert!(names > 0, "no recordings");
}

#[test]
fn a_replay_does_not_depend_on_when_it_runs() {
    assert_eq!(replay("demo_faults", false), replay("demo_faults", false));
}

#[test]
fn a_dry_run_executes_nothing_and_says_what_it_would_have_done() {
    let (decisions, incidents) = replay("demo_faults", true);
    assert!(
        decisions
            .iter()
            .all(|line| !line.ends_with("restart_service") && !line.ends_with("kill_process"))
    );
    let would = incidents
        .iter()
        .filter(|incident| incident.outcome == Some(Outcome::WouldHave));
    assert!(would.count() >= 5, "{decisions:#?}");
    assert!(incidents.iter().all(|incident| incident.actions == 0));
}

#[test]
fn every_time_of_a_story_is_in_order_of_cause() {
    let (_, incidents) = replay("demo_faults", false);
    for incident in incidents {
        let detected = incident.opened;
        assert!(
            incident.evidence.since <= incident.evidence.seen && incident.evidence.seen <= detected
        );
        assert!(
            incident
                .closed
                .is_some_and(|closed: Time| closed >= incident.evidence.seen),
            "{incident:#?}"
        );
    }
}
