use std::path::PathBuf;

use clap::Parser as _;

use super::*;
use crate::config::units::Bytes;
use crate::model::incident::StepKind;
use crate::model::{
    Effect, EffectResult, Evidence, Incident, IncidentId, Plan, Request, Severity, State, Subject,
    Time,
};
use crate::record::journal::Config as JournalConfig;
use crate::record::{Entry, Journal};

/// Seconds that the wall clock is ahead of the monotonic one.
const AHEAD: i64 = 1_000_000;

/// What a command prints, and its exit code.
#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A state folder with a journal, gone with it.
struct Site {
    folder: PathBuf,
    journal: Journal,
}

fn at(millis: i64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// Milliseconds of the monotonic clock, on the wall clock, as RFC 3339.
fn instant(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(AHEAD * 1000 + millis)
        .expect("an instant")
        .to_string()
}

impl Site {
    fn new(name: &str) -> Self {
        Self::rotating(name, 16 << 20)
    }

    fn rotating(name: &str, size: u64) -> Self {
        let name = format!("smart-monitor-audit-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let config = JournalConfig {
            size: Bytes(size),
            keep: 1000,
            ..JournalConfig::default()
        };
        let journal = Journal::open(&folder, config).expect("it opens");
        Self { folder, journal }
    }

    fn write(&self, millis: i64, entry: Entry) {
        let unix_ns = (AHEAD * 1000 + millis) * 1_000_000;
        self.journal
            .append(at(millis), unix_ns, vec![entry])
            .expect("it writes");
    }

    fn record(&self, millis: i64, incident: &Incident) {
        let incident = Box::new(incident.clone());
        self.write(millis, Entry::Incident { incident });
    }

    fn started(&self, millis: i64) {
        let (version, boot) = ("9.9.9".to_owned(), String::new());
        self.write(
            millis,
            Entry::Started {
                version,
                pid: 1,
                boot,
            },
        );
    }

    /// Announces an act and says how it went.
    fn act(&self, millis: i64, incident: &mut Incident, by: Option<&str>, result: EffectResult) {
        incident.state = State::Acting;
        incident.actions += 1;
        let plan = Plan::RestartService {
            service: "web".to_owned(),
            process: None,
            term_grace: Duration::ZERO,
            command: Vec::new(),
        };
        let intent = Entry::Intent {
            incident: Box::new(incident.clone()),
            action: "restart_service".to_owned(),
            plan,
            rule: "web-down".to_owned(),
            by: by.map(str::to_owned),
            undo: false,
        };
        self.write(millis, intent);
        let done = matches!(result, EffectResult::Done { .. });
        let effect = Effect {
            incident: incident.id,
            action: "restart_service".to_owned(),
            acted: done.then(|| at(millis + 5)),
            finished: at(millis + 10),
            result,
            verified: None,
            undo: None,
        };
        self.write(millis + 10, Entry::Effect { effect });
        incident.state = State::Verifying;
        self.record(millis + 10, incident);
    }

    /// The output of `audit`, and whether it ended well.
    fn run(&self, args: &[&str]) -> (String, bool) {
        let cli = Cli::try_parse_from([&["audit"], args].concat()).expect("it parses");
        let mut out = Vec::new();
        let now = (AHEAD + 10_000) * 1_000_000_000;
        let code = audit(&self.folder, cli.args, now, Paint::none(), &mut out).expect("it reads");
        let text = String::from_utf8(out).expect("text");
        (text, code == ExitCode::SUCCESS)
    }

    /// How many entries are listed with these options, as JSON.
    fn count(&self, args: &[&str]) -> usize {
        let (text, _) = self.run(&[args, &["--json"]].concat());
        text.lines().count()
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let (text, _) = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn done() -> EffectResult {
    EffectResult::Done {
        detail: "pid 7".to_owned(),
    }
}

/// Raised at this time, 200 ms after the first signal and at once after the one that decided.
fn incident(id: u64, on: &str, millis: i64) -> Incident {
    let evidence = Evidence::at(at(millis)).since(at(millis - 200));
    Incident {
        rule: Some("web-down".to_owned()),
        ..Incident::new(
            IncidentId(id),
            "service_down",
            Subject::service(on),
            Severity::Critical,
            evidence,
            at(millis),
        )
    }
}

fn recover(incident: &mut Incident, millis: i64, outcome: Option<Outcome>) {
    incident.state = State::Resolved;
    incident.closed = Some(at(millis));
    incident.outcome = outcome.or(incident.outcome);
    incident.step(at(millis), StepKind::Recovered, "it answers");
}

fn would(incident: &mut Incident, millis: i64) {
    incident.outcome = Some(Outcome::WouldHave);
    let words = "dry_run: dry run: would have done restart_service";
    incident.step(at(millis), StepKind::Refused, words);
}

/// Web goes down: the first restart does nothing, the second, which ann allows, helps. Db recovers by itself after a guard refused.
/// Api is given up.
fn some_trouble(site: &Site) {
    site.started(0);
    let mut web = incident(1, "web", 1_000);
    site.record(1_000, &web);
    site.act(1_001, &mut web, None, done());
    web.state = State::Open;
    web.outcome = Some(Outcome::NoEffect);
    site.record(3_000, &web);
    site.write(
        3_500,
        Entry::Person {
            by: "ann".to_owned(),
            request: Request::Approve { incident: web.id },
        },
    );
    site.act(4_000, &mut web, Some("ann"), done());
    recover(&mut web, 5_000, Some(Outcome::Fixed));
    site.record(5_000, &web);
    let mut db = incident(2, "db", 6_000);
    db.step(
        at(6_000),
        StepKind::Refused,
        "consent: no [[remedy]] covers it",
    );
    site.record(6_000, &db);
    db.step(at(6_001), StepKind::Refused, "cooldown: 3 s more");
    recover(&mut db, 8_000, None);
    site.record(8_000, &db);
    let mut api = incident(3, "api", 9_000);
    let reason = "no such program".to_owned();
    site.act(9_001, &mut api, None, EffectResult::Failed { reason });
    api.state = State::Escalated;
    api.outcome = Some(Outcome::Failed);
    api.step(at(9_100), StepKind::Escalated, "limit: 5 actions");
    site.record(9_100, &api);
}

#[test]
fn entries_are_listed_with_who_what_and_what_came_of_it() {
    let site = Site::new("list");
    some_trouble(&site);
    let (text, good) = site.run(&[]);
    assert!(good);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines.len(),
        1 + site.count(&[]),
        "a heading, and one line an entry"
    );
    let find = |what: &[&str]| {
        let mut found = lines
            .iter()
            .filter(|line| what.iter().all(|part| line.contains(part)));
        let line = found
            .next()
            .unwrap_or_else(|| panic!("no {what:?} in\n{text}"));
        assert_eq!(found.next(), None, "{what:?}");
        *line
    };
    find(&["daemon", "started: version 9.9.9, pid 1"]);
    find(&["ann ", "approves"]);
    // What came of an act stands where it was announced; it acted 5 ms after, and the incident was seen at 1.000 s.
    let first = find(&["restart_service, service web", "no_effect"]);
    assert!(
        first.contains("rule web-down") && first.contains("6.00 ms"),
        "{first}"
    );
    let second = find(&["restart_service, service web", "fixed"]);
    assert!(
        second.contains("ann, rule web-down") && second.contains("3.00 s"),
        "{second}"
    );
    assert!(second.contains("4.00 s"), "recovered: {second}");
    find(&["failed: restart_service: no such"]);
    find(&["resolved: service_down, service db", "2.00 s"]);
    assert!(
        lines.iter().all(|line| line.chars().count() <= 120),
        "{text}"
    );
}

#[test]
fn only_what_is_asked_for_is_listed() {
    let site = Site::new("filters");
    some_trouble(&site);
    for (args, expected) in [
        (&[] as &[&str], 17),
        (&["--acts"], 6),
        (&["--service", "web"], 10),
        (&["--service", "nobody"], 0),
        (&["--rule", "web-down", "--acts"], 6),
        (&["--rule", "other"], 0),
        (&["--action", "restart_service"], 6),
        (&["--action", "kill_process"], 0),
        (&["--incident", "2"], 2),
        (&["--by", "ann"], 3),
        (&["--by", "bob"], 0),
        (&["--outcome", "fixed", "--acts"], 2),
        (&["--outcome", "no_effect", "--acts"], 2),
        (&["--outcome", "failed"], 3),
        (&["--outcome", "worse"], 0),
        (&["--service", "web", "--outcome", "fixed", "--acts"], 2),
        (&["--limit", "3"], 3),
        (&["--limit", "100"], 17),
        (&["--limit", "0"], 0),
        (&["--since", "24h"], 17),
        (&["--since", "1s"], 0),
    ] {
        assert_eq!(site.count(args), expected, "{args:?}");
    }
    let (from, to) = (instant(6_000), instant(9_000));
    assert_eq!(site.count(&["--since", &from, "--until", &to]), 2);
    assert_eq!(site.count(&["--until", &from]), 11);
    assert_eq!(site.run(&["--service", "nobody"]).0, "no entries\n");
    // The newest, in the order they came.
    let (all, _) = site.run(&["--json"]);
    let (last, _) = site.run(&["--json", "--limit", "2"]);
    assert!(all.ends_with(&last) && !last.is_empty());
}

#[test]
fn json_is_what_is_stored_and_nothing_else() {
    let site = Site::rotating("json", 3_000);
    some_trouble(&site);
    let stored = Stored::open(&site.folder).expect("it opens");
    let names: Vec<_> = stored.names().map(str::to_owned).collect();
    assert!(names.len() > 2, "several generations: {names:?}");
    let text = |name| std::fs::read_to_string(site.folder.join(name)).expect("it reads");
    let all: String = names.iter().map(text).collect();
    assert_eq!(site.run(&["--json"]).0, all);
    assert_eq!(site.count(&["--acts"]), 6, "over generations, too");
}

#[test]
fn verify_names_the_place_of_damage_and_prints_the_last_sum() {
    let site = Site::rotating("verify", 3_000);
    some_trouble(&site);
    let (text, good) = site.run(&["--verify"]);
    assert!(good && text.contains("chain      whole"), "{text}");
    let last = std::fs::read_to_string(site.journal.path()).expect("it reads");
    let sum = last
        .trim_end()
        .rsplit('"')
        .nth(1)
        .expect("a sum")
        .to_owned();
    assert!(text.contains(&format!("last sum   {sum}\n")), "{text}");
    let path = site.folder.join("journal.1.jsonl");
    let lines = std::fs::read_to_string(&path).expect("it reads");
    std::fs::write(&path, lines.replacen("web-down", "web-gone", 1)).expect("it writes");
    let (text, good) = site.run(&["--verify"]);
    assert!(!good && text.contains("BROKEN"), "{text}");
    assert!(text.starts_with("journal.1.jsonl:3: "), "{text}");
    let found = site.json(&["--verify"]);
    assert_eq!(found["breaks"][0]["line"], 3);
    assert_eq!(found["last"], sum);
}

#[test]
fn lines_without_sums_are_told_and_a_failure_unless_they_are_known_to_be_old() {
    let site = Site::new("unsummed");
    let (text, good) = site.run(&["--verify"]);
    assert!(
        good && text.contains("chain      nothing to check"),
        "{text}"
    );
    some_trouble(&site);
    let whole = std::fs::read_to_string(site.journal.path()).expect("it reads");
    let forged = "{\"unix_ns\":1,\"monotonic_ns\":1,\"entry\":\"ended\"}\n".repeat(2);
    std::fs::write(site.journal.path(), forged + &whole).expect("it writes");
    let (text, good) = site.run(&["--verify"]);
    assert!(!good && text.contains("2 lines carry no sum"), "{text}");
    assert!(!text.contains("whole"), "{text}");
    let (text, good) = site.run(&["--verify", "--old"]);
    assert!(good && !text.contains("whole"), "{text}");
    assert_eq!(site.json(&["--verify", "--old"])["verdict"], "unchecked");
    // What is broken is not excused.
    std::fs::write(site.journal.path(), whole.replace('\n', "\r\n")).expect("it writes");
    let (text, good) = site.run(&["--verify", "--old"]);
    assert!(!good && text.contains("BROKEN"), "{text}");
}

#[test]
fn the_summary_adds_up() {
    let site = Site::new("summary");
    some_trouble(&site);
    let mut web = incident(4, "web", 20_000);
    web.evidence.since = at(19_400);
    site.record(20_000, &web);
    site.act(20_100, &mut web, None, done());
    recover(&mut web, 21_000, Some(Outcome::Fixed));
    site.record(21_000, &web);
    let found = site.json(&["--summary"]);
    let of = |name: &str| {
        let all = found["services"].as_array().expect("a list");
        all.iter()
            .find(|one| one["name"] == name)
            .expect("it is there")
            .clone()
    };
    let web = of("web");
    let numbers = [
        "incidents",
        "acts",
        "fixed",
        "recovered_without_act",
        "refused",
        "escalated",
    ];
    let numbers =
        |one: &serde_json::Value| numbers.map(|name| one[name].as_u64().expect("a number"));
    assert_eq!(numbers(&web), [2, 3, 2, 0, 0, 0]);
    // 200 and 600 ms; 4 s and 1 s.
    assert_eq!(
        web["to_detect"],
        serde_json::json!({"count": 2, "mean_s": 0.4, "median_s": 0.4})
    );
    assert_eq!(
        web["to_recover"],
        serde_json::json!({"count": 2, "mean_s": 2.5, "median_s": 2.5})
    );
    let db = of("db");
    assert_eq!(
        numbers(&db),
        [1, 0, 0, 1, 1, 0],
        "no consent is no refusal by a guard"
    );
    let api = of("api");
    assert_eq!(numbers(&api), [1, 1, 0, 0, 0, 1]);
    assert_eq!(api["to_recover"]["mean_s"], serde_json::Value::Null);
    // What failed was never judged by a signal.
    let rule = serde_json::json!({"name": "web-down", "action": "restart_service", "acts": 4, "judged": 3, "fixed": 2});
    assert_eq!(found["rules"], serde_json::json!([rule]));
    let (text, _) = site.run(&["--summary"]);
    assert!(text.contains("66 %") && text.contains("2.50 s"), "{text}");
    let later = instant(15_000);
    let found = site.json(&["--summary", "--since", &later]);
    assert_eq!(found["services"].as_array().map(Vec::len), Some(1));
    let found = site.json(&["--summary", "--service", "db"]);
    assert_eq!(found["services"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_was_under_way_when_the_daemon_ended_is_unknown() {
    let site = Site::new("unknown");
    site.started(0);
    let mut web = incident(1, "web", 1_000);
    site.act(1_000, &mut web, None, done());
    assert_eq!(site.count(&["--outcome", "unknown"]), 0);
    site.started(5_000);
    assert_eq!(
        site.count(&["--outcome", "unknown"]),
        2,
        "its intent and its effect"
    );
    let found = site.json(&["--summary"]);
    assert_eq!(found["rules"][0]["judged"], 0);
}

#[test]
fn a_dry_run_tells_what_recovered_without_it() {
    let site = Site::new("shadow");
    site.started(0);
    // After 2, 4, 9 and 60 s; one without an end, and one in which the daemon ended.
    for (id, seconds) in [
        (1, Some(2)),
        (2, Some(4)),
        (3, Some(9)),
        (4, Some(60)),
        (5, None),
    ] {
        let opened = i64::try_from(id).expect("small") * 100_000;
        let mut web = incident(id, "web", opened);
        would(&mut web, opened + 500);
        site.record(opened + 500, &web);
        if let Some(seconds) = seconds {
            recover(&mut web, opened + 500 + seconds * 1000, None);
            site.record(opened + 500 + seconds * 1000, &web);
        }
        if id == 5 {
            site.write(599_000, Entry::Ended);
            site.started(600_000);
        }
    }
    let mut open = incident(6, "web", 700_000);
    would(&mut open, 700_500);
    site.record(700_500, &open);
    let mut acted = incident(7, "web", 800_000);
    would(&mut acted, 800_500);
    site.act(801_000, &mut acted, None, done());
    let (text, _) = site.run(&["--shadow"]);
    let expected = "rule web-down would have done restart_service on web 6 times: 3 recovered by themselves within 20.0 s, median 4.00 s; \
                    1 recovered by itself later, median 60.0 s; 1 is still open; 1 ended unseen\n";
    assert_eq!(text.replace("1 min 0 s", "60.0 s"), expected);
    let found = site.json(&["--shadow", "--within", "3s"]);
    let rule = &found["rules"][0];
    let numbers = [
        &rule["times"],
        &rule["recovered"]["count"],
        &rule["recovered_later"]["count"],
    ];
    assert_eq!(
        numbers.map(serde_json::Value::as_u64),
        [Some(6), Some(1), Some(3)]
    );
    assert_eq!(
        site.json(&["--shadow", "--service", "db"])["rules"],
        serde_json::json!([])
    );
}

#[test]
fn the_oldest_incidents_give_way_and_are_counted() {
    let site = Site::new("bounded");
    some_trouble(&site);
    let stored = Stored::open(&site.folder).expect("it opens");
    let mut book = Book::of_at_most(2);
    let unreadable = walk(&stored, |line, _| {
        book.take(line);
        ControlFlow::Continue(())
    });
    assert_eq!(unreadable.expect("it reads"), 0);
    let kept: Vec<_> = book
        .cases(&Filter::default())
        .map(|case| case.on.clone())
        .collect();
    assert_eq!(
        (kept, book.dropped),
        (vec!["db".to_owned(), "api".to_owned()], 1)
    );
}

#[test]
fn what_cannot_be_read_or_does_not_go_together_is_said() {
    let site = Site::new("refused");
    let parse = |args: &[&str]| Cli::try_parse_from([&["audit"], args].concat());
    for wrong in [
        &["--verify", "--summary"] as &[&str],
        &["--verify", "--since", "1h"],
        &["--summary", "--by", "ann"],
        &["--within", "5s"],
        &["--outcome", "good"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    let error = |folder: &Path, args: &[&str]| {
        let args = parse(args).expect("it parses").args;
        let error =
            audit(folder, args, 0, Paint::none(), &mut Vec::new()).expect_err("it is refused");
        format!("{error:#}")
    };
    assert!(error(&site.folder, &["--since", "yesterday"]).contains("yesterday"));
    assert!(error(&site.folder.join("none"), &[]).contains("--state-dir"));
    std::fs::remove_file(site.journal.path()).expect("it goes");
    assert!(error(&site.folder, &[]).contains("there is no journal"));
}
