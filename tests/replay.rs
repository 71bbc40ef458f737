//! Recorded signals, replayed into the core without root: the same signals must give the same decisions.
//!
//! `replay/NAME.jsonl` was written by `smart-monitor replay --dump` of a recording (processes that were no services of it left out),
//! `NAME.toml` is the configuration that was in force, `NAME.expected` what the core decided. After a change that is meant to decide
//! differently, run with `REPLAY_UPDATE=1` and read the difference.

#[path = "replay/command.rs"]
mod command;
#[path = "replay/compare.rs"]
mod compare;
#[path = "replay/people.rs"]
mod people;

use std::path::{Path, PathBuf};

use smart_monitor::config::Config;
use smart_monitor::model::{Incident, Outcome, Time};
use smart_monitor::record::recording::{Entry, Header, InForce, Reader, Writer};
use smart_monitor::replay::{Choice, Decision, Replay, Side};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("replay")
}

/// The configuration of a recording, with a change.
fn config(name: &str, change: impl FnOnce(String) -> String) -> Config {
    let path = folder().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).expect("it reads");
    Config::parse(&change(text), &path).expect("it is good")
}

/// All entries of a recording, and what stands before them.
fn entries(path: &Path) -> (Option<Header>, Vec<Entry>) {
    let mut reader = Reader::open(path, false).expect("it opens");
    let header = reader.header().cloned();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().expect("it reads") {
        entries.push(entry);
    }
    (header, entries)
}

/// Everything that is decided.
fn decide(header: Option<&Header>, entries: &[Entry], choice: Choice) -> (Vec<Decision>, Replay) {
    let mut replay = Replay::new(header, choice).expect("its configuration is good");
    let mut decided = Vec::new();
    for entry in entries {
        replay.feed(entry.clone(), &mut decided).expect("it plays");
    }
    replay.play(&mut decided).expect("it plays");
    (decided, replay)
}

/// The same recording as `smart-monitor record` would have made it, but for the notes of what was ordered.
fn as_file(name: &str, to: &Path) {
    let (_, entries) = entries(&folder().join(format!("{name}.jsonl")));
    let path = folder().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).expect("it reads");
    let header = Header {
        next: smart_monitor::model::IncidentId(1),
        monotonic_ns: entries.first().expect("there are some").now.nanos(),
        in_force: InForce {
            config: Some(text),
            file: Some(path),
            ..InForce::default()
        },
        ..Header::default()
    };
    let file = smart_monitor::record::recording::create(to).expect("it is made");
    let mut writer = Writer::new(file, &header, u64::MAX).expect("it begins");
    let ordered = decide(Some(&header), &[], Choice::default()).0;
    assert!(ordered.is_empty(), "nothing is decided without signals");
    // What was ordered, where it was ordered: the replay of the lines says it.
    let was = Choice {
        was: Some(config(name, |text| text)),
        new: None,
    };
    let mut replay = Replay::new(None, was).expect("its configuration is good");
    let mut decided = Vec::new();
    for entry in &entries {
        replay.feed(entry.clone(), &mut decided).expect("it plays");
        compare::note(&mut writer, decided.drain(..));
        writer.add(entry).expect("it writes");
    }
    replay.play(&mut decided).expect("it plays");
    compare::note(&mut writer, decided.drain(..));
    let end = entries.last().expect("there are some").now;
    writer.finish(0, end).expect("it ends");
}

/// What the core decides on these signals, a line a decision, and its incidents at the end.
fn replay(name: &str, dry_run: bool) -> (Vec<String>, Vec<Incident>) {
    let config = config(name, |text| {
        assert!(!text.contains("dry_run"));
        text.replace("[policy]", &format!("[policy]\ndry_run = {dry_run}"))
    });
    let (header, entries) = entries(&folder().join(format!("{name}.jsonl")));
    let choice = Choice {
        was: Some(config),
        new: None,
    };
    let (decided, mut replay) = decide(header.as_ref(), &entries, choice);
    let incidents = replay.incidents(Side::Was);
    (decided.iter().map(line).collect(), incidents)
}

fn line(decision: &Decision) -> String {
    let incident = &decision.incident;
    let what = if let Some(act) = &decision.act {
        act.action.to_owned()
    } else {
        let outcome = incident
            .outcome
            .map(|outcome| format!(", {}", outcome.name()));
        format!("{}{}", incident.state.name(), outcome.unwrap_or_default())
    };
    format!(
        "incident {} ({} of {}): {what}",
        incident.id, incident.detector, incident.subject
    )
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
