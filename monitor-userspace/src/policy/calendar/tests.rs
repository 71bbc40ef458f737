use super::*;

fn raw(schedule: &str, duration: &str, timezone: &str) -> Raw {
    let duration: jiff::SignedDuration = duration.parse().expect("it is a duration");
    Raw {
        name: "nightly".to_owned(),
        on: vec!["*".to_owned()],
        schedule: Some(schedule.to_owned()),
        duration: Some(Span(duration.unsigned_abs())),
        timezone: Some(timezone.to_owned()),
        ..Raw::default()
    }
}

fn once(from: &str, until: &str) -> Raw {
    Raw {
        name: "move".to_owned(),
        on: vec!["web".to_owned()],
        from: Some(from.to_owned()),
        until: Some(until.to_owned()),
        ..Raw::default()
    }
}

fn window(schedule: &str, duration: &str, timezone: &str) -> Window {
    Window::parse(&raw(schedule, duration, timezone)).expect(schedule)
}

fn at(text: &str) -> i64 {
    let time: Timestamp = text.parse().expect(text);
    nanos(time).expect(text)
}

fn told(window: &Window, time: &str) -> (bool, Option<String>) {
    let (open, until) = window.at(at(time));
    let until = until.map(|until| {
        let until = Timestamp::from_nanosecond(i128::from(until)).expect("it is a time");
        until.to_string()
    });
    (open, until)
}

fn sure(open: bool, until: &str) -> (bool, Option<String>) {
    (open, Some(until.to_owned()))
}

#[test]
fn a_window_opens_by_its_schedule_and_closes_after_its_duration() {
    let window = window("30 2 * * SUN", "2h", "UTC");
    for (time, open, until) in [
        ("2026-03-07T12:00:00Z", false, "2026-03-08T02:30:00Z"),
        (
            "2026-03-08T02:29:59.999999999Z",
            false,
            "2026-03-08T02:30:00Z",
        ),
        ("2026-03-08T02:30:00Z", true, "2026-03-08T04:30:00Z"),
        ("2026-03-08T04:29:59.5Z", true, "2026-03-08T04:30:00Z"),
        ("2026-03-08T04:30:00Z", false, "2026-03-15T02:30:00Z"),
    ] {
        assert_eq!(told(&window, time), sure(open, until), "{time}");
    }
}

#[test]
fn occurrences_that_overlap_or_touch_are_one() {
    let overlapping = window("0 22,23 * * *", "90m", "UTC");
    let touching = window("0 22,23 * * *", "1h", "UTC");
    let time = "2026-03-08T22:10:00Z";
    assert_eq!(told(&overlapping, time), sure(true, "2026-03-09T00:30:00Z"));
    assert_eq!(told(&touching, time), sure(true, "2026-03-09T00:00:00Z"));
    let always = window("* * * * *", "168h", "UTC");
    let (open, until) = always.at(at(time));
    let until = until.expect("it is looked at again");
    assert!(open && until > at(time) + 7 * DAY);
    assert!(always.at(until).0, "it does not close in between");
}

#[test]
fn clocks_that_go_forward_skip_nothing() {
    // 02:30 is not there on that night: it opens when the clocks have gone to 03:00.
    let berlin = window("30 2 * * *", "1h", "Europe/Berlin");
    for (time, open, until) in [
        ("2026-03-28T12:00:00Z", false, "2026-03-29T01:00:00Z"),
        ("2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z"),
        ("2026-03-29T01:00:00Z", true, "2026-03-29T02:00:00Z"),
        ("2026-03-29T02:00:00Z", false, "2026-03-30T00:30:00Z"),
    ] {
        assert_eq!(told(&berlin, time), sure(open, until), "{time}");
    }
    // A window that spans the change lasts as long as it says.
    let spans = window("0 1 * * *", "3h", "Europe/Berlin");
    let time = "2026-03-29T00:30:00Z";
    assert_eq!(told(&spans, time), sure(true, "2026-03-29T03:00:00Z"));
}

#[test]
fn clocks_that_go_back_open_it_once() {
    // 02:30 is there twice on that night, at 00:30 and at 01:30 UTC.
    let berlin = window("30 2 * * *", "20m", "Europe/Berlin");
    for (time, open, until) in [
        ("2026-10-25T00:29:59Z", false, "2026-10-25T00:30:00Z"),
        ("2026-10-25T00:30:00Z", true, "2026-10-25T00:50:00Z"),
        ("2026-10-25T00:50:00Z", false, "2026-10-26T01:30:00Z"),
        ("2026-10-25T01:30:00Z", false, "2026-10-26T01:30:00Z"),
        ("2026-10-25T01:40:00Z", false, "2026-10-26T01:30:00Z"),
    ] {
        assert_eq!(told(&berlin, time), sure(open, until), "{time}");
    }
    let spans = window("0 1 * * *", "3h", "Europe/Berlin");
    let time = "2026-10-25T01:30:00Z";
    assert_eq!(told(&spans, time), sure(true, "2026-10-25T02:00:00Z"));
}

/// What is found from the last occurrence backwards is what a walk through all occurrences forward finds.
#[test]
fn the_answer_does_not_depend_on_where_the_search_begins() {
    for (schedule, minutes) in [
        ("30 2 * * *", 20),
        ("0 3 * * *", 61),
        ("*/20 1-3 * * *", 10),
        ("15 * * * *", 30),
        ("0 0 * * SUN", 1_500),
        ("0 2 L * *", 60),
        ("59 1,2 25,29 3,10 *", 1),
    ] {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
        ] {
            let window = window(schedule, &format!("{minutes}m"), zone);
            let Times::Again {
                schedule: cron,
                zone,
                duration,
            } = &window.times
            else {
                panic!("it has a schedule");
            };
            for day in [
                "2026-03-07",
                "2026-03-28",
                "2026-04-04",
                "2026-10-03",
                "2026-10-24",
                "2026-10-31",
            ] {
                let begin = at(&format!("{day}T00:00:00Z"));
                let mut starts = Vec::new();
                let mut time = begin - 8 * DAY;
                while time < begin + 3 * DAY {
                    let next =
                        cron.find_next_occurrence(&zoned(time, zone).expect("a time"), false);
                    time = nanos(next.expect("it comes").timestamp()).expect("a time");
                    starts.push(time);
                }
                for step in 0..(2 * 24 * 4) {
                    let now = begin + step * 900 * SECOND;
                    let expected = starts
                        .iter()
                        .any(|start| (*start..start + duration).contains(&now));
                    let (open, until) = window.at(now);
                    let until = until.expect("it changes");
                    assert_eq!(open, expected, "{schedule} {minutes}m {zone:?} {now}");
                    assert!(until > now);
                    assert_eq!(window.at(until - 1).0, open, "{schedule} until {until}");
                    assert_ne!(window.at(until).0, open, "{schedule} at {until}");
                }
            }
        }
    }
}

#[test]
fn a_window_for_once_is_open_once() {
    let window = Window::parse(&once("2026-03-29T03:00:00+02:00", "2026-03-29T05:00:00Z"));
    let window = window.expect("it reads");
    for (time, expected) in [
        ("2026-03-29T00:59:59Z", sure(false, "2026-03-29T01:00:00Z")),
        ("2026-03-29T01:00:00Z", sure(true, "2026-03-29T05:00:00Z")),
        ("2026-03-29T05:00:00Z", (false, None)),
    ] {
        assert_eq!(told(&window, time), expected, "{time}");
    }
    for time in [i64::MIN, i64::MAX] {
        assert!(!window.at(time).0);
    }
}

#[test]
fn the_ends_of_time_are_no_end_of_the_daemon() {
    let window = window("* * * * *", "168h", "Europe/Berlin");
    for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        let (_, until) = window.at(time);
        assert!(until.is_none_or(|until| until > time || until == i64::MAX));
    }
}

type Change = fn(&mut Raw);

#[test]
fn what_cannot_be_meant_is_refused_in_words() {
    let zone = "Europe/Berlin";
    for (schedule, duration, zone, expected) in [
        ("0 0 31 2 *", "1h", zone, "never comes about"),
        ("0 0 30 2 *", "1h", "UTC", "never comes about"),
        (", 2 * * *", "1h", zone, "never comes about"),
        ("0 , * * *", "1h", zone, "never comes about"),
        ("0 2 * *", "1h", zone, "write minute, hour"),
        ("0 0 2 * * *", "1h", zone, "write minute, hour"),
        ("61 2 * * *", "1h", zone, "`schedule` is `61 2 * * *`: "),
        ("0 2 * * nosuchday", "1h", zone, "; write minute, hour"),
        ("", "1h", zone, "write minute, hour"),
        ("0 2 * * *", "169h", zone, "at most 7 days"),
        ("0 2 * * *", "0s", zone, "more than nothing"),
        (
            "0 2 * * *",
            "1h",
            "Europe/Berlim",
            "no time zone `Europe/Berlim`",
        ),
        ("0 2 * * *", "1h", "../../etc/passwd", "no time zone"),
    ] {
        let error = Window::parse(&raw(schedule, duration, zone)).expect_err(schedule);
        assert!(error.starts_with("window `nightly`: "), "{error}");
        assert!(error.contains(expected), "{schedule}: {error}");
    }
    let (day, later) = ("2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z");
    for (from, until, expected) in [
        (later, day, "is not after"),
        (day, day, "is not after"),
        (day, "2062-03-30T00:00:00Z", "is the year right?"),
        (day, "2026-03-30", "write a time as"),
        (
            "2026-03-29T00:00:00",
            later,
            "`from` is `2026-03-29T00:00:00`; write a time as",
        ),
    ] {
        let error = Window::parse(&once(from, until)).expect_err(until);
        assert!(error.contains(expected), "{error}");
    }
    let good = raw("0 2 * * *", "1h", "UTC");
    let changes: [(Change, &str); 8] = [
        (|raw| raw.duration = None, "needs a `duration`"),
        (|raw| raw.schedule = None, "it says no time"),
        (
            |raw| raw.from = Some(String::new()),
            "both `schedule` and `from`",
        ),
        (
            |raw| raw.until = Some(String::new()),
            "`until` goes with `from`",
        ),
        (|raw| raw.on.clear(), "`on` is empty"),
        (|raw| raw.name.clear(), "no name"),
        (
            |raw| {
                *raw = Raw {
                    timezone: Some("UTC".to_owned()),
                    ..once("a", "b")
                }
            },
            "`timezone` goes with `schedule`",
        ),
        (
            |raw| {
                *raw = Raw {
                    until: None,
                    ..once("a", "b")
                }
            },
            "`from` needs an `until`",
        ),
    ];
    assert!(Window::parse(&good).is_ok());
    for (change, expected) in changes {
        let mut raw = good.clone();
        change(&mut raw);
        let error = Window::parse(&raw).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let unknown = toml::from_str::<Raw>("name = \"a\"\non = [\"*\"]\nshedule = \"* * * * *\"");
    assert!(
        unknown
            .expect_err("it is refused")
            .message()
            .contains("shedule")
    );
}

#[test]
fn no_schedule_however_odd_is_more_than_refused() {
    let pieces = [
        "0",
        "5",
        "59",
        "61",
        "*",
        "*/5",
        "1-5",
        "5-1",
        "L",
        "W",
        "15W",
        "LW",
        "#",
        "SUN#2",
        "5L",
        "+",
        "+5",
        "?",
        "@daily",
        "@",
        "/",
        "-",
        ",",
        "JAN",
        "MON-FRI",
        "99999999999",
        "*/0",
        "0/0",
        "ß",
        "é",
        " ",
        "1,2,3",
        "31",
        "29",
        "2",
    ];
    let mut number = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |limit: usize| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        usize::try_from(number % limit as u64).expect("it is small")
    };
    let mut taken = 0;
    for _ in 0..3_000 {
        let mut fields = ["30", "2", "*", "*", "SUN"].map(str::to_owned);
        for _ in 0..=below(2) {
            let pieces = (0..=below(2)).map(|_| pieces[below(pieces.len())]);
            fields[below(5)] = pieces.collect();
        }
        if let Ok(window) = Window::parse(&raw(&fields.join(" "), "1h", "Europe/Berlin")) {
            taken += 1;
            let _ = window.at(at("2026-10-25T00:30:00Z"));
        }
    }
    assert!(taken > 20, "only {taken} schedules were asked");
}

#[test]
fn the_calendar_knows_all_windows_and_until_when() {
    let mut other = raw("0 2 * * *", "3h", "UTC");
    other.name = "other".to_owned();
    let windows =
        [raw("0 3 * * *", "1h", "UTC"), other].map(|raw| Window::parse(&raw).expect("it reads"));
    let mut calendar = Calendar::new(windows.to_vec()).expect("they are two");
    assert_eq!(calendar.next_change(), None);
    // A clock that jumps forward and back gives the answer of where it is.
    for (time, open, until) in [
        (
            "2026-03-08T01:00:00Z",
            &[] as &[&str],
            "2026-03-08T02:00:00Z",
        ),
        ("2026-03-08T02:00:00Z", &["other"], "2026-03-08T03:00:00Z"),
        (
            "2026-03-08T03:30:00Z",
            &["nightly", "other"],
            "2026-03-08T04:00:00Z",
        ),
        (
            "2026-03-08T03:30:01Z",
            &["nightly", "other"],
            "2026-03-08T04:00:00Z",
        ),
        ("2026-03-08T04:00:00Z", &["other"], "2026-03-08T05:00:00Z"),
        (
            "2026-03-08T03:59:59Z",
            &["nightly", "other"],
            "2026-03-08T04:00:00Z",
        ),
        (
            "2020-01-01T03:59:59Z",
            &["nightly", "other"],
            "2020-01-01T04:00:00Z",
        ),
        ("2036-01-01T05:00:00Z", &[], "2036-01-02T02:00:00Z"),
    ] {
        let names = calendar.open(at(time)).iter().map(|open| &*open.name);
        assert_eq!(names.collect::<Vec<_>>(), open, "{time}");
        assert_eq!(calendar.next_change(), Some(at(until)), "{time}");
    }
    assert!(Calendar::default().open(0).is_empty());
    let [first, _] = windows;
    let error = Calendar::new(vec![first.clone(), first.clone()]).expect_err("they are alike");
    assert!(error.contains("two windows are called `nightly`"));
    let many = (0..65).map(|number| Window {
        name: format!("w{number}"),
        ..first.clone()
    });
    assert!(
        Calendar::new(many.collect())
            .expect_err("they are many")
            .contains("of 64 at most")
    );
}

#[derive(Deserialize)]
struct File {
    maintenance: Vec<Raw>,
}

#[test]
fn the_windows_of_the_documents_are_in_order() {
    let documents = include_str!("../../../../docs/configuration.md");
    let (_, chapter) = documents
        .split_once("## [[maintenance]]")
        .expect("it is there");
    let (_, example) = chapter.split_once("```toml").expect("it has an example");
    let (example, _) = example.split_once("```").expect("that has an end");
    let file: File = toml::from_str(example).expect("it reads");
    let windows: Vec<Window> = file
        .maintenance
        .iter()
        .map(|raw| Window::parse(raw).expect("it is good"))
        .collect();
    assert_eq!(windows.len(), 3);
    // The first Sunday of November 2026 is its first day; the second is none.
    let open = |window: usize, time| windows[window].at(at(time)).0;
    assert!(open(1, "2026-11-01T04:00:00Z") && !open(1, "2026-11-08T04:00:00Z"));
    assert!(open(0, "2026-11-08T01:00:00Z") && !open(0, "2026-11-08T03:00:00Z"));
    assert!(open(2, "2026-11-15T00:00:00Z"));
}
