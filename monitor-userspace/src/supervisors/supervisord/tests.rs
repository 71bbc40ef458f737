use super::*;
use crate::host::procfs;

fn table(text: &str) -> toml::Table {
    toml::from_str(text).expect("it is TOML")
}

fn info(state: &str, pid: u32, exit_status: i64) -> Info {
    Info {
        name: "web".to_owned(),
        group: "web".to_owned(),
        state: state.to_owned(),
        pid,
        exit_status,
        spawn_error: "Exited too quickly".to_owned(),
    }
}

fn judged(known: &mut Known, info: &Info) -> Seen {
    known.judge(info, &Settings::default()).expect("it is told")
}

#[test]
fn what_with_says_is_checked() {
    let words = read("web", &table("")).expect("all of it may be left out");
    assert_eq!(words, ["/var/run/supervisor.sock", "web"]);
    let all = "program = \"g:web\"\nsocket = \"/s\"\nusername = \"u\"\npassword_env = \"P\"";
    assert_eq!(read("x", &table(all)).expect("it is good"), ["/s", "g:web"]);
    for (text, says) in [
        ("program = \"g:*\"", "one program"),
        ("program = \"g:\"", "one program"),
        ("program = \"a b\"", "one program"),
        ("socket = \"s\"", "absolute"),
        ("username = \"u\"", "password_file"),
        ("password_env = \"P\"", "username"),
        (
            "username = \"u\"\npassword_env = \"P\"\npassword_file = \"/p\"",
            "one of",
        ),
        ("sockets = \"/s\"", "unknown field"),
    ] {
        let refused = read("web", &table(text)).expect_err(text);
        assert!(refused.contains(says), "{text}: {refused}");
    }
}

#[test]
fn only_what_ended_by_itself_is_a_fault() {
    let mut known = Known::default();
    let phase = |known: &mut Known, state, status| judged(known, &info(state, 0, status)).phase;
    assert_eq!(phase(&mut known, "STOPPED", 0), Phase::Stopped);
    assert_eq!(phase(&mut known, "STOPPING", 0), Phase::Stopping);
    assert_eq!(phase(&mut known, "BACKOFF", 0), Phase::Starting);
    let Phase::Failed { why, gave_up } = phase(&mut known, "FATAL", 0) else {
        panic!("FATAL is a fault")
    };
    assert!(gave_up && why.contains("Exited too quickly"), "{why}");
    for (status, says) in [(-1, "signal"), (0, "expect"), (3, "code 3")] {
        let Phase::Failed { why, gave_up } = phase(&mut known, "EXITED", status) else {
            panic!("EXITED is a fault")
        };
        assert!(!gave_up && why.contains(says), "{status}: {why}");
    }
    known.with.may_finish = true;
    assert_eq!(phase(&mut known, "EXITED", 0), Phase::Stopped);
    assert!(matches!(
        phase(&mut known, "EXITED", 3),
        Phase::Failed { .. }
    ));
    let unknown = known.judge(&info("UNKNOWN", 0, 0), &Settings::default());
    assert!(unknown.is_err());
}

#[test]
fn what_we_stopped_and_could_not_start_was_not_stopped_by_anybody() {
    let mut known = Known {
        unstarted: Some("supervisord refuses: NO_FILE".to_owned()),
        ..Known::default()
    };
    let seen = judged(&mut known, &info("STOPPED", 0, 0));
    let Phase::Failed { why, gave_up } = seen.phase else {
        panic!("{seen:?}")
    };
    assert!(why.contains("NO_FILE") && !gave_up, "{why}");
    assert_eq!(seen.healer, None, "they do nothing about it");
    // One that has run since and is stopped then is meant to be.
    judged(&mut known, &info("RUNNING", std::process::id(), 0));
    let seen = judged(&mut known, &info("STOPPED", 0, 0));
    assert_eq!(seen.phase, Phase::Stopped);
}

#[test]
fn what_is_configured_anew_is_not_forgotten() {
    let source = Supervisord::default();
    let with = |text: &str| {
        source.configure(&BTreeMap::from([("web".to_owned(), table(text))]));
    };
    with("");
    source.unstarted("web", Some("why".to_owned()));
    let unstarted = || source.known("web").expect("it is there").unstarted;
    with("username = \"u\"\npassword_env = \"P\"");
    assert_eq!(unstarted().as_deref(), Some("why"));
    with("program = \"other\"");
    assert_eq!(unstarted(), None);
}

#[test]
fn who_leaves_an_end_so_is_not_waited_for_again() {
    let mut known = Known::default();
    let pid = std::process::id();
    let running = info("RUNNING", pid, 0);
    let seen = judged(&mut known, &running);
    assert_eq!(seen.process, procfs::stat(pid).map(|stat| stat.key));
    // Three retries, each after one more second, and a second to run each time; three more to be sure.
    let patience = seen.healer.map(|healer| healer.patience);
    assert_eq!(patience, Some(Duration::from_secs(6 + 8 + 3)));
    // An end that they expect says nothing of others.
    assert_eq!(judged(&mut known, &info("EXITED", 0, 0)).healer, None);
    assert!(judged(&mut known, &running).healer.is_some());
    assert_eq!(judged(&mut known, &info("EXITED", 0, -1)).healer, None);
    assert_eq!(judged(&mut known, &running).healer, None);
}

#[test]
fn an_end_that_they_have_not_noticed_is_named() {
    let ended = ProcessKey {
        pid: u32::MAX,
        start_ticks: 7,
    };
    let mut known = Known {
        process: Some(ended),
        ..Known::default()
    };
    let seen = judged(&mut known, &info("RUNNING", u32::MAX, 0));
    assert_eq!(seen.process, Some(ended));
    assert_eq!(judged(&mut known, &info("EXITED", 0, 0)).process, None);
}

#[test]
fn settings_are_read_where_they_are_told() {
    let record: Record = [
        ("autorestart", &["0"][..]),
        ("startretries", &["1000000"]),
        ("startsecs", &["x"]),
        ("exitcodes", &["0", "2"]),
    ]
    .into_iter()
    .map(|(name, texts)| {
        (
            name.to_owned(),
            texts.iter().map(|it| (*it).to_owned()).collect(),
        )
    })
    .collect();
    let settings = Settings::of(&record);
    assert_eq!(settings.restarts, Some(false));
    assert_eq!(settings.expected, [0, 2]);
    assert_eq!(settings.start_seconds, 1);
    assert_eq!(settings.patience(), PATIENCE);
    assert_eq!(Settings::of(&Record::new()), Settings::default());
}
