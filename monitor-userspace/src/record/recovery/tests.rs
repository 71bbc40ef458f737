use std::time::Duration;

use super::*;
use crate::model::release::Source;
use crate::model::{Evidence, ProcessKey, Releases, Severity, Subject};
use crate::record::{Journal, journal};

fn started() -> Entry {
    Entry::Started {
        version: String::new(),
        pid: 1,
        boot: String::new(),
    }
}

#[test]
fn silences_in_force_outlive_the_daemon_and_the_machines_clock() {
    let folder =
        std::env::temp_dir().join(format!("smart-monitor-silences-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let at = |seconds: i64| seconds * 1_000_000_000;
    let journal = Journal::open(&folder, journal::Config::default()).expect("it opens");
    let write = |monotonic, unix, request| {
        let by = "root".to_owned();
        let entry = Entry::Person { by, request };
        let monotonic = Time::from_nanos(at(monotonic));
        let written = journal.append(monotonic, at(unix), vec![entry]);
        written.expect("it writes");
    };
    let silence = |id, until| Request::Silence {
        silence: Silence {
            id,
            on: "auth".to_owned(),
            detector: None,
            until: Time::from_nanos(at(until)),
            by: "root".to_owned(),
            reason: "upgrade".to_owned(),
        },
    };
    // A boot that has run for long: 1 ends after 10 s, 2 after an hour, 3 is ended by hand, so is 9, which had the highest number.
    write(5000, 1000, silence(1, 5010));
    write(5000, 1000, silence(2, 8600));
    write(5000, 1000, silence(3, 8600));
    write(5001, 1001, Request::Unsilence { id: 3 });
    write(5001, 1001, silence(9, 8600));
    write(5002, 1002, Request::Unsilence { id: 9 });
    // The machine has started anew since: its clock shows 20 s, a hundred seconds later.
    let now = Time::from_nanos(at(20));
    let recovered = recover(&folder, now, at(1100)).expect("it reads");
    let Request::Silence { silence } = silence(2, 20 + 3500) else {
        unreachable!()
    };
    assert_eq!(recovered.silences, [silence]);
    assert_eq!(recovered.next_silence, 10);
    std::fs::remove_dir_all(folder).expect("it goes");
}

#[test]
fn what_was_frozen_stands_in_one_line_and_stays() {
    let at = Time::default();
    let line = |log: &[&str]| {
        let (host, evidence) = (Subject::Host, Evidence::at(at));
        let id = IncidentId(3);
        let mut incident = Incident::new(id, "d", host, Severity::Warning, evidence, at);
        let lines: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        incident.evidence.frozen = (!lines.is_empty()).then(|| {
            Box::new(crate::model::evidence::Frozen {
                log: lines,
                ..Default::default()
            })
        });
        incident
    };
    let mut incidents = BTreeMap::new();
    for (log, kept) in [
        (&[][..], None),
        (&["a"], Some("a")),
        (&[], Some("a")),
        (&["b"], Some("b")),
    ] {
        keep(&mut incidents, 0, line(log));
        let frozen = incidents[&IncidentId(3)].1.evidence.frozen.as_ref();
        let first = frozen.and_then(|frozen| frozen.log.first());
        assert_eq!(first.map(String::as_str), kept);
    }
}

#[test]
fn what_was_under_way_is_told_at_the_next_start_and_no_more() {
    let folder = std::env::temp_dir().join(format!("smart-monitor-told-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let at = |seconds: i64| seconds * 1_000_000_000;
    let mut incident = Incident {
        actions: 1,
        state: State::Acting,
        ..Incident::new(
            IncidentId(7),
            "service_down",
            Subject::service("auth"),
            Severity::Critical,
            Evidence::at(Time::from_nanos(at(10))),
            Time::from_nanos(at(10)),
        )
    };
    let plan = Plan::RestartService {
        service: "auth".to_owned(),
        process: None,
        term_grace: Duration::ZERO,
        command: Vec::new(),
    };
    let intent = |incident: &Incident| Entry::Intent {
        incident: Box::new(incident.clone()),
        action: "restart_service".to_owned(),
        plan: plan.clone(),
        rule: String::new(),
        by: None,
        undo: false,
    };
    let journal = Journal::open(&folder, journal::Config::default()).expect("it opens");
    let write = |seconds, entry| {
        journal
            .append(
                Time::from_nanos(at(seconds)),
                at(1000 + seconds),
                vec![entry],
            )
            .expect("it writes");
    };
    let told = |seconds| {
        recover(&folder, Time::from_nanos(at(seconds)), at(1000 + seconds)).expect("it reads")
    };

    write(1, started());
    write(10, intent(&incident));
    let second = told(20);
    assert_eq!(second.under_way.len(), 1);
    assert_eq!(second.incidents[0].closed, Some(Time::from_nanos(at(20))));
    assert_eq!(second.incidents[0].outcome, Some(Outcome::Unknown));

    write(20, started());
    let third = told(30);
    assert!(third.under_way.is_empty(), "it was told before");
    assert_eq!(
        third.incidents, second.incidents,
        "and nothing about it changes any more"
    );

    // What this run leaves under way is told in its turn.
    incident.id = IncidentId(8);
    write(31, intent(&incident));
    let fourth = told(40);
    assert_eq!(
        fourth
            .under_way
            .iter()
            .map(|act| act.incident)
            .collect::<Vec<_>>(),
        [IncidentId(8)]
    );
    assert_eq!((fourth.incidents.len(), fourth.next), (2, IncidentId(9)));
    std::fs::remove_dir_all(folder).expect("it goes");
}

#[test]
fn silences_that_are_written_again_outlive_the_file_that_had_them() {
    let folder = std::env::temp_dir().join(format!("smart-monitor-again-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    // Every append begins a new file, and only one more is kept.
    let config = journal::Config {
        size: crate::config::units::Bytes(1),
        keep: 1,
        ..journal::Config::default()
    };
    let journal = Journal::open(&folder, config).expect("it opens");
    let write = |entries| {
        let written = journal.append(Time::default(), 0, entries);
        written.expect("it writes");
    };
    let silence = Silence {
        id: 4,
        on: "auth".to_owned(),
        detector: None,
        until: Time::from_nanos(1_000),
        by: "root (alice)".to_owned(),
        reason: "upgrade".to_owned(),
    };
    let in_force = [silence];
    assert!(restated(&[], std::iter::empty(), std::iter::empty()).is_empty());
    write(restated(&in_force, std::iter::empty(), std::iter::empty()));
    assert!(!journal.take_begun(), "it is in the first file");
    let told = || {
        let recovered = recover(&folder, Time::default(), 0).expect("it reads");
        recovered.silences
    };
    for _ in 0..4 {
        write(vec![Entry::Resumed]);
        assert!(journal.take_begun());
        write(restated(&in_force, std::iter::empty(), std::iter::empty()));
        assert_eq!(told(), in_force);
    }
    for _ in 0..2 {
        write(vec![Entry::Resumed]);
    }
    assert!(
        told().is_empty(),
        "it is gone where it is not written again"
    );
    std::fs::remove_dir_all(folder).expect("it goes");
}

#[test]
fn a_journal_that_was_changed_is_said_with_file_and_line() {
    let folder = std::env::temp_dir().join(format!("smart-monitor-said-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let journal = Journal::open(&folder, journal::Config::default()).expect("it opens");
    for _ in 0..4 {
        let written = journal.append(Time::default(), 0, vec![started()]);
        written.expect("it writes");
    }
    let said = || {
        let recovered = recover(&folder, Time::default(), 0).expect("it reads");
        recovered.changed()
    };
    assert_eq!(said(), None);
    let text = std::fs::read_to_string(journal.path()).expect("it reads");
    let lines: Vec<_> = text.lines().collect();
    let without = [lines[0], lines[2], lines[3], ""].join("\n");
    std::fs::write(journal.path(), without).expect("it writes");
    let one = said().expect("it was changed");
    assert!(one.contains("changed at journal.jsonl:2: limits"), "{one}");
    std::fs::write(journal.path(), text.replace('\n', "\r\n")).expect("it writes");
    let all = said().expect("it was changed");
    assert!(
        all.contains("at journal.jsonl:1 and 3 more places:"),
        "{all}"
    );
    std::fs::remove_dir_all(folder).expect("it goes");
}

/// A journal of its own, at whose times the monotonic clock is 1000 s behind the other.
struct Written {
    folder: std::path::PathBuf,
    journal: Journal,
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn seconds(seconds: i64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

impl Written {
    fn new(name: &str) -> Self {
        let name = format!("smart-monitor-left-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let journal = Journal::open(&folder, journal::Config::default()).expect("it opens");
        let written = Self { folder, journal };
        written.write(1, vec![started()]);
        written
    }

    fn write(&self, at: i64, entries: Vec<Entry>) {
        let unix_ns = (at + 1000) * 1_000_000_000;
        let written = self.journal.append(seconds(at), unix_ns, entries);
        written.expect("it writes");
    }

    /// What incident 7 holds at a start at this time, and whether it is over.
    fn held(&self, at: i64) -> Option<Held> {
        let unix_ns = (at + 1000) * 1_000_000_000;
        let recovered = recover(&self.folder, seconds(at), unix_ns).expect("it reads");
        let seven = recovered.incidents.into_iter().find(|it| it.id.0 == 7);
        let seven = seven.expect("it is known");
        assert!(seven.is_over(), "{seven:#?}");
        seven.held.map(|held| *held)
    }
}

fn seven(state: State) -> Incident {
    Incident {
        state,
        ..Incident::new(
            IncidentId(7),
            "runaway_cpu",
            Subject::service("web"),
            Severity::Warning,
            Evidence::at(seconds(2)),
            seconds(2),
        )
    }
}

fn undo_plan(nice: i32) -> Plan {
    Plan::RestorePriority {
        process: ProcessKey {
            pid: 41,
            start_ticks: 9,
        },
        comm: "web".to_owned(),
        nice: vec![(41, nice)],
    }
}

fn intent_of(incident: Incident, undo: bool) -> Entry {
    Entry::Intent {
        incident: Box::new(incident),
        action: "lower_priority".to_owned(),
        plan: undo_plan(0),
        rule: "calm".to_owned(),
        by: None,
        undo,
    }
}

fn will_change() -> Entry {
    Entry::WillChange {
        incident: IncidentId(7),
        action: "lower_priority".to_owned(),
        undo: undo_plan(0),
    }
}

fn effect_of(result: EffectResult, undo: Option<Plan>) -> Entry {
    Entry::Effect {
        effect: Effect {
            incident: IncidentId(7),
            action: "lower_priority".to_owned(),
            acted: None,
            finished: seconds(5),
            result,
            verified: None,
            undo,
        },
    }
}

fn was_done() -> EffectResult {
    EffectResult::Done {
        detail: String::new(),
    }
}

fn was_not() -> EffectResult {
    EffectResult::Failed {
        reason: String::new(),
    }
}

fn holding(mut incident: Incident, due: Option<i64>) -> Entry {
    incident.held = Some(Box::new(Held {
        action: "lower_priority".to_owned(),
        rule: "calm".to_owned(),
        undo: undo_plan(0),
        due: due.map(seconds),
        tries: 0,
    }));
    Entry::Incident {
        incident: Box::new(incident),
    }
}

#[test]
fn what_was_begun_when_the_daemon_died_is_changed_back_at_once() {
    let open = || seven(State::Acting);
    // Announced only: nothing was changed yet.
    let written = Written::new("begun");
    written.write(3, vec![intent_of(open(), false)]);
    assert_eq!(written.held(100), None);
    // About to be changed, or changed: nobody knows.
    written.write(4, vec![will_change()]);
    let held = written.held(100).expect("it is changed back");
    assert_eq!((held.due, held.undo), (Some(seconds(100)), undo_plan(0)));
    assert_eq!(
        (held.action.as_str(), held.rule.as_str()),
        ("lower_priority", "calm")
    );
    // Another start that dies as early knows it still.
    written.write(101, vec![started()]);
    assert!(written.held(200).is_some());
    // Done, and the core had not said yet what is to become of it; what was really changed counts.
    let changed = Some(undo_plan(3));
    written.write(202, vec![effect_of(was_done(), changed)]);
    assert_eq!(written.held(300).map(|held| held.undo), Some(undo_plan(3)));
    // Or it came to nothing, and left nothing.
    written.write(303, vec![effect_of(was_not(), None)]);
    assert_eq!(written.held(400), None);
}

#[test]
fn an_undo_in_whose_midst_the_daemon_died_is_done_again_until_it_is_known_to_be_done() {
    let written = Written::new("undo");
    let over = || seven(State::Resolved);
    written.write(
        3,
        vec![intent_of(seven(State::Acting), false), will_change()],
    );
    written.write(5, vec![effect_of(was_done(), Some(undo_plan(0)))]);
    written.write(6, vec![holding(over(), Some(600))]);
    let held = written.held(100).expect("it is in force");
    assert_eq!(
        held.due,
        Some(seconds(600)),
        "in its time, not at the start"
    );
    let mut incident = over();
    incident.held = Some(Box::new(held));
    written.write(600, vec![intent_of(incident, true)]);
    assert!(written.held(601).is_some(), "begun is not done");
    written.write(602, vec![effect_of(was_not(), None)]);
    assert!(written.held(603).is_some(), "failed is not done");
    // Done, and it died before the line about the incident.
    written.write(604, vec![effect_of(was_done(), None)]);
    assert_eq!(written.held(605), None);
}

#[test]
fn what_is_in_force_is_restated_in_a_new_file_and_outlives_the_one_that_had_it() {
    let written = Written::new("restated");
    let mut incident = seven(State::Resolved);
    incident.evidence.frozen = Some(Box::default());
    incident.held = Some(Box::new(Held {
        action: "lower_priority".to_owned(),
        rule: "calm".to_owned(),
        undo: undo_plan(0),
        due: None,
        tries: 2,
    }));
    let again = restated(&[], std::iter::once(incident), std::iter::empty());
    assert!(
        matches!(&again[..], [Entry::Incident { incident }] if incident.evidence.frozen.is_none()),
        "how the host was is long: {again:?}"
    );
    written.write(3, again);
    let held = written.held(100).expect("it is in force");
    assert_eq!((held.due, held.tries), (None, 2));
}

#[test]
fn what_is_to_be_changed_back_is_not_pushed_out_by_other_incidents() {
    let written = Written::new("pushed");
    written.write(
        3,
        vec![intent_of(seven(State::Acting), false), will_change()],
    );
    let many = (8..8 + 2 * INCIDENTS as u64).map(|id| Entry::Incident {
        incident: Box::new(Incident {
            id: IncidentId(id),
            ..seven(State::Resolved)
        }),
    });
    written.write(4, many.collect());
    assert!(written.held(100).is_some());
}

#[test]
fn releases_are_known_again_and_a_roll_back_that_was_cut_short_counts() {
    let folder = std::env::temp_dir().join(format!("smart-monitor-known-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let journal = Journal::open(&folder, journal::Config::default()).expect("it opens");
    let mut known = Known::default();
    let process = ProcessKey {
        pid: 7,
        start_ticks: 9,
    };
    known.started_with(process, "v1", Time::from_nanos(50));
    known.proven();
    known.started_with(ProcessKey { pid: 8, ..process }, "v2", Time::from_nanos(60));
    let entry = |known: &Known| Entry::Releases {
        service: "shop".to_owned(),
        known: known.clone(),
    };
    let how = Releases {
        source: Source::Git {
            path: "/srv/shop".into(),
        },
        build: vec!["make".to_owned()],
        schema_check: Vec::new(),
        backup_check: Vec::new(),
        limit: Duration::from_mins(1),
        proven_after: Duration::from_mins(5),
    };
    let undo = Plan::SwitchRelease {
        service: "shop".to_owned(),
        from: "v1".to_owned(),
        to: "v2".to_owned(),
        forward: true,
        how: Box::new(how),
        process: None,
        ran: None,
        term_grace: Duration::from_secs(5),
        command: vec!["shop".to_owned()],
    };
    let entries = vec![
        started(),
        entry(&Known::default()),
        entry(&known),
        Entry::WillChange {
            incident: IncidentId(3),
            action: "rollback_release".to_owned(),
            undo,
        },
    ];
    // Written 1000 ns after a boot at 5000 by the wall clock; read 400 ns later in another boot, whose clock shows 100.
    let written = journal.append(Time::from_nanos(1_000), 6_000, entries);
    written.expect("it writes");
    let recovered = recover(&folder, Time::from_nanos(100), 6_400).expect("it reads");
    known.left("v2");
    known.changed = Some(Time::from_nanos(60 - 1_000 - 300));
    assert_eq!(recovered.releases.get("shop"), Some(&known));
    std::fs::remove_dir_all(folder).expect("it goes");
}
