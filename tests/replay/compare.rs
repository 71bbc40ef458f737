//! Two configurations over the same signals: effects go to the acts that a run has, and what nobody did is said to be so.

use std::collections::BTreeMap;
use std::io::Write;

use smart_monitor::model::{EffectResult, IncidentId, Signal, Subject};
use smart_monitor::record::recording::{Entry, Note, What, Writer};
use smart_monitor::replay::{Acts, Differences, Summary};

use super::*;

/// What the hot thread writes down of its orders.
pub(super) fn note(writer: &mut Writer<impl Write>, decided: impl Iterator<Item = Decision>) {
    for decision in decided {
        let incident = &decision.incident;
        let mut notes = vec![Note::Incident {
            incident: incident.id,
            detector: incident.detector.clone(),
            subject: incident.subject.clone(),
        }];
        notes.extend(decision.act.map(|act| Note::Act {
            incident: incident.id,
            action: act.action.to_owned(),
        }));
        for note in notes {
            let entry = Entry {
                at: decision.at,
                now: decision.at,
                what: What::Note(Box::new(note)),
            };
            writer.add(&entry).expect("it writes");
        }
    }
}

struct Compared {
    differences: Vec<Decision>,
    acts: BTreeMap<(&'static str, String), Acts>,
    new: Vec<Incident>,
}

fn compare(change: impl FnOnce(String) -> String, entries: &[Entry]) -> Compared {
    let choice = Choice {
        was: Some(config("demo_faults", |text| text)),
        new: Some(config("demo_faults", change)),
    };
    let (decided, mut replay) = decide(None, entries, choice);
    let mut summary = Summary::default();
    for decision in &decided {
        summary.add(decision);
    }
    Compared {
        differences: Differences::default().between(decided),
        acts: summary.acts(true),
        new: replay.incidents(Side::New),
    }
}

fn demo() -> Vec<Entry> {
    entries(&folder().join("demo_faults.jsonl")).1
}

/// The configuration without its consent to this.
pub(super) fn without_remedy(text: &str, detector: &str) -> String {
    let remedy = format!("[[remedy]]\ndetector = \"{detector}\"");
    let (before, after) = text.split_once(&remedy).expect("it is there");
    let rest = after.split_once("[[remedy]]").map_or("", |(_, rest)| rest);
    format!("{before}[[remedy]]{rest}")
}

#[test]
fn the_same_configuration_decides_the_same() {
    let same = compare(|text| text, &demo());
    assert!(same.differences.is_empty(), "{:#?}", same.differences);
    assert!(!same.acts.is_empty());
    for acts in same.acts.values() {
        assert_eq!((acts.was, acts.gone, acts.would_have), (acts.new, 0, 0));
        assert_eq!(acts.kept, acts.was);
    }
}

#[test]
fn what_is_not_done_any_more_is_told_with_what_it_was_worth() {
    let without = compare(|text| without_remedy(&text, "latency_spike"), &demo());
    let payment = ("restart_service", "service payment".to_owned());
    let acts = without.acts[&payment];
    assert!(
        acts.gone >= 1 && acts.gone_fixed >= 1 && acts.gone < acts.was,
        "{acts:?}"
    );
    let was: Vec<String> = without.differences.iter().map(line).collect();
    assert!(
        was.iter()
            .any(|line| line.ends_with("(latency_spike of service payment): restart_service")),
        "{was:#?}"
    );
    assert!(
        without
            .differences
            .iter()
            .all(|decision| decision.incident.detector != "memory_pressure"),
        "{was:#?}"
    );
}

#[test]
fn effects_reach_the_same_incident_under_another_number() {
    // One more incident at the very beginning shifts all numbers of the new run.
    let mut entries = demo();
    let first = entries.first().expect("there are some").clone();
    let process = entries.iter().find_map(|entry| match &entry.what {
        What::Signal(Signal::Service {
            service,
            change: smart_monitor::model::ServiceSignal::Started { process, .. },
        }) if service == "inventory" => Some((entry.now, *process)),
        _ => None,
    });
    let (after, process) = process.expect("it is started");
    let sample = smart_monitor::model::Sample::ServiceMemory {
        service: "inventory".to_owned(),
        process,
        resident: 100 << 20,
    };
    let place = entries
        .iter()
        .position(|entry| entry.now > after)
        .expect("there are more");
    let now = entries[place].now;
    entries.insert(
        place,
        Entry {
            at: now,
            now,
            what: What::Signal(Signal::Sample { sample }),
        },
    );
    assert_eq!(entries.first(), Some(&first));
    let lower = |text: String| text.replace("memory_max = \"200MiB\"", "memory_max = \"90MiB\"");
    let compared = compare(lower, &entries);
    let inventory = ("kill_process", "service inventory".to_owned());
    assert!(
        compared.acts[&inventory].would_have >= 1,
        "{:?}",
        compared.acts
    );
    let refused = compared.new.iter().flat_map(|incident| &incident.steps);
    let told = refused.filter(|step| step.detail.contains("it was not done in the recording"));
    assert!(told.count() >= 1, "{:#?}", compared.new);
    let auth = compared.new.iter().find(|incident| {
        incident.detector == "service_down" && incident.subject == Subject::service("auth")
    });
    let auth = auth.expect("it goes down in the new run too");
    assert!(auth.id > IncidentId(1), "its number is another");
    assert_eq!(auth.outcome, Some(Outcome::Fixed), "{auth:#?}");
}

#[test]
fn effects_of_a_recording_are_those_of_its_own_numbers() {
    // As if it had begun in the middle of a daemon's life: numbers of the recording are not those of the replay.
    let folder = std::env::temp_dir().join(format!("sm-replay-numbers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("it is made");
    let path = folder.join("a.rec");
    let _ = std::fs::remove_file(&path);
    as_file("demo_faults", &path);
    let (header, mut shifted) = entries(&path);
    std::fs::remove_dir_all(&folder).expect("it goes");
    for entry in &mut shifted {
        match &mut entry.what {
            What::Note(note) => match note.as_mut() {
                Note::Incident { incident, .. } | Note::Act { incident, .. } => incident.0 += 1000,
                _ => {}
            },
            What::Signal(Signal::Effect { effect }) => effect.incident.0 += 1000,
            What::Signal(_) => {}
        }
    }
    let (decided, replay) = decide(header.as_ref(), &shifted, Choice::default());
    let lines: Vec<String> = decided.iter().map(line).collect();
    let expected = std::fs::read_to_string(super::folder().join("demo_faults.expected"));
    assert_eq!(lines.join("\n") + "\n", expected.expect("it reads"));
    assert_eq!(replay.missed(), 0);
    // Without its acts, it is all counterfactual; and the acts of the recording are missed when nothing may be done.
    let without: Vec<Entry> = shifted
        .iter()
        .filter(
            |entry| !matches!(&entry.what, What::Note(note) if matches!(**note, Note::Act { .. })),
        )
        .cloned()
        .collect();
    let (decided, _) = decide(header.as_ref(), &without, Choice::default());
    let mut acts = decided.iter().filter_map(|decision| decision.act.as_ref());
    assert!(acts.all(|act| act.recorded.is_none()));
    let done = decided
        .iter()
        .filter(|decision| decision.incident.outcome == Some(Outcome::Fixed));
    assert_eq!(done.count(), 0);
    let effects = shifted.iter().filter(|entry| {
        matches!(&entry.what, What::Signal(Signal::Effect { effect }) if matches!(effect.result, EffectResult::Done { .. }))
    });
    let mut dry = header.expect("it has one");
    dry.in_force.dry_run = true;
    let (_, replay) = decide(Some(&dry), &shifted, Choice::default());
    assert_eq!(replay.missed(), effects.count() as u64);
}
