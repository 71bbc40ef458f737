//! What people ask for, and what is changed back, replays as it was: a person's word is a signal, and its time passes as time does.

use std::path::Path;

use smart_monitor::model::{
    Effect, EffectResult, IncidentId, Plan, ProcessKey, Request, Sample, Signal, State, Subject,
};
use smart_monitor::record::recording::What;

use super::*;

const CONFIG: &str = r#"
[[process]]
name = "batch"
comm = ["cruncher"]
[[remedy]]
name = "by-hand"
detector = "manual"
on = ["batch"]
action = "lower_priority"
undo_after = "10m"
"#;

const PROCESS: ProcessKey = ProcessKey {
    pid: 800,
    start_ticks: 8,
};

fn entry(second: i64, signal: Signal) -> Entry {
    let at = Time::from_nanos(second * 1_000_000_000);
    Entry {
        at,
        now: at,
        what: What::Signal(signal),
    }
}

fn person(second: i64, request: Request) -> Entry {
    let by = "ann".to_owned();
    entry(second, Signal::Person { by, request })
}

fn effect(second: i64, incident: u64, undo: bool) -> Entry {
    let at = Time::from_nanos(second * 1_000_000_000);
    let undo = undo.then(|| Plan::RestorePriority {
        process: PROCESS,
        comm: "cruncher".to_owned(),
        nice: vec![(800, 0)],
    });
    let effect = Effect {
        incident: IncidentId(incident),
        action: "lower_priority".to_owned(),
        acted: Some(at),
        finished: at,
        result: EffectResult::Done {
            detail: "so it was".to_owned(),
        },
        verified: Some("nice 10".to_owned()),
        undo,
    };
    entry(second, Signal::Effect { effect })
}

fn wish(second: i64) -> Entry {
    let subject = Subject::Process {
        process: PROCESS,
        comm: "cruncher".to_owned(),
        group: None,
    };
    let request = Request::Act {
        action: "lower_priority".to_owned(),
        subject,
        rule: None,
        dry_run: false,
    };
    person(second, request)
}

#[test]
fn acts_of_people_and_what_is_changed_back_replay_as_they_were() {
    let undo = Request::Undo {
        incident: IncidentId(2),
    };
    let later = Sample::Clock { unix_ns: 0 };
    let entries = [
        wish(1000),
        effect(1001, 1, true),
        // Its ten minutes pass.
        entry(1700, Signal::Sample { sample: later }),
        effect(1701, 1, false),
        wish(1800),
        effect(1801, 2, true),
        person(1900, undo),
        effect(1901, 2, false),
    ];
    let choice = || Choice {
        was: Some(Config::parse(CONFIG, Path::new("people.toml")).expect("it is good")),
        new: None,
    };
    let (decided, mut replay) = decide(None, &entries, choice());
    let acts: Vec<(u64, i64)> = decided
        .iter()
        .filter(|decision| decision.act.is_some())
        .map(|decision| {
            let second = decision.at.nanos() / 1_000_000_000;
            (decision.incident.id.0, second)
        })
        .collect();
    assert_eq!(acts, [(1, 1000), (1, 1601), (2, 1800), (2, 1900)]);
    for incident in replay.incidents(Side::Was) {
        assert_eq!(incident.state, State::Resolved);
        assert_eq!(incident.outcome, Some(Outcome::Fixed));
        assert!(incident.held.is_none(), "{incident:#?}");
    }
    let lines = |decided: &[Decision]| decided.iter().map(line).collect::<Vec<_>>();
    let again = decide(None, &entries, choice()).0;
    assert_eq!(lines(&decided), lines(&again));
}
