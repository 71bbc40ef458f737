use std::fmt::Write as _;

use super::*;

const POLICY: &str = r#"
[policy]
boot_grace = "1m"

[[service]]
name = "web"
kind = "command"
command = ["web"]
check = { tcp = "127.0.0.1:1" }

[[service]]
name = "db"
kind = "command"
command = ["db"]

[[process]]
name = "batch"
comm = ["cruncher", "miner"]

[[remedy]]
name = "web-restart"
detector = "service_down"
on = ["web", "db"]
action = "restart_service"

[[remedy]]
name = "batch-slow"
detector = "runaway_cpu"
on = ["batch"]
severity = "warning"
action = "lower_priority"
nice = 15

[[remedy]]
name = "batch-kill"
detector = "memory_pressure"
on = ["batch"]
action = "kill_process"
approval = "10m"

[[remedy]]
name = "by-hand"
detector = "manual"
on = ["batch"]
action = "lower_priority"
undo_after = "10m"

[[maintenance]]
name = "backup"
on = ["db"]
schedule = "30 1 * * *"
duration = "2h"
"#;

fn suite(text: &str) -> Result<Suite, Unusable> {
    let text = format!("config = \"policy.toml\"\n{text}");
    Suite::parse(&text, Path::new("a.test.toml"), &mut |path| {
        assert_eq!(path, Path::new("policy.toml"));
        Ok(POLICY.to_owned())
    })
}

/// What becomes of these steps.
fn verdict(steps: &str) -> Verdict {
    let text = format!("[[test]]\nname = \"it\"\nsteps = [\n{steps}\n]\n");
    let suite = suite(&text).unwrap_or_else(|error| panic!("{}", error.render()));
    suite.run().remove(0)
}

fn passes(steps: &str) {
    let verdict = verdict(steps);
    assert!(verdict.ok, "{verdict:#?}");
}

/// What a failed test says.
fn failure(steps: &str) -> Failure {
    let verdict = verdict(steps);
    verdict.failure.expect("it fails")
}

#[test]
fn a_crash_is_answered_and_the_check_is_the_proof() {
    passes(
        r#"
        { at = "0s", started = "web" },
        { at = "1s", check = "web", ok = true },
        { at = "1s", expect = "state", on = "web", state = "healthy" },
        { at = "5s", exited = "web", status = "SIGKILL" },
        { at = "5s", expect = "act", action = "restart_service", on = "web", rule = "web-restart", detector = "service_down" },
        { at = "5s", expect = "state", on = "web", state = "acting", severity = "critical" },
        { at = "5s", expect = "none" },
        { at = "6s", expect = "state", on = "web", state = "verifying" },
        { at = "6s", check = "web", failure = "connect" },
        { at = "7s", check = "web", ok = true },
        { at = "7s", expect = "state", on = "web", state = "resolved", outcome = "fixed" },
        "#,
    );
}

#[test]
fn what_becomes_of_acts_can_be_said_from_a_step_on() {
    passes(
        r#"
        { at = "0s", started = "db" },
        { at = "5s", exited = "db", status = 3, effects = "failed" },
        { at = "5s", expect = "act" },
        { at = "5.5s", expect = "refused", guard = "cooldown", on = "db" },
        { at = "5.5s", effects = "refused" },
        { at = "7s", expect = "act" },
        { at = "7s", expect = "state", on = "db", state = "open", outcome = "refused" },
        { at = "7s", effects = "none" },
        { at = "10s", expect = "act" },
        { at = "11s", expect = "state", on = "db", state = "acting" },
        { at = "1h", expect = "none" },
        { at = "1h", expect = "state", on = "db", state = "escalated" },
        "#,
    );
}

#[test]
fn people_allow_forbid_and_silence() {
    passes(
        r#"
        { at = "0s", raised = "memory_pressure", on = "batch" },
        { at = "0s", expect = "proposed", action = "kill_process", on = "batch", detector = "memory_pressure" },
        { at = "1s", expect = "none" },
        { at = "2s", approve = "batch", by = "ann" },
        { at = "2s", expect = "act", action = "kill_process", rule = "batch-kill" },
        { at = "3s", cleared = "memory_pressure", on = "batch" },
        { at = "3s", expect = "state", on = "batch", state = "resolved", outcome = "fixed" },
        { at = "10m", raised = "memory_pressure", on = "batch" },
        { at = "10m", reject = "batch" },
        { at = "10m", expect = "state", on = "batch", state = "escalated" },
        { at = "20m", silence = "web", for = "1h" },
        { at = "20m", started = "web" },
        { at = "21m", exited = "web" },
        { at = "21m", acknowledge = "web", detector = "service_down" },
        { at = "30m", expect = "refused", guard = "silence", on = "web" },
        { at = "30m", unsilence = "web" },
        { at = "31m", expect = "act", on = "web" },
        "#,
    );
}

#[test]
fn a_person_has_something_done_and_changed_back() {
    let text = r#"
        [[test]]
        name = "it"
        steps = [
            { at = "1m", asked = "restart_service", on = "batch" },
            { at = "1m", expect = "refused", guard = "consent", on = "batch" },
            { at = "2m", asked = "lower_priority", on = "batch", rule = "by-hand", by = "ann" },
            { at = "2m", expect = "act", on = "batch", rule = "by-hand" },
            { at = "3m", expect = "state", on = "batch", detector = "manual", outcome = "fixed" },
            { at = "3m", lifted = "batch" },
            { at = "4m", expect = "act", undo = true, on = "batch" },
            { at = "20m", expect = "none" },
        ]
    "#;
    let verdicts = suite(text).expect("it is good").run();
    assert!(verdicts.iter().all(|verdict| verdict.ok), "{verdicts:#?}");
}

#[test]
fn what_made_things_worse_is_changed_back_and_that_is_no_act() {
    let text = r#"
        [[test]]
        name = "it"
        acts = 1
        steps = [
            { at = "0s", raised = "runaway_cpu", on = "batch", severity = "warning", facts = { cpu = "99%", cores = 1 } },
            { at = "0s", expect = "act", action = "lower_priority", on = "batch" },
            { at = "1s", effects = "none" },
            { at = "1s", raised = "runaway_cpu", on = "batch", severity = "critical" },
            { at = "1s", expect = "act", action = "lower_priority", undo = true },
            { at = "2s", expect = "none" },
        ]
    "#;
    let verdicts = suite(text).expect("it is good").run();
    assert!(verdicts.iter().all(|verdict| verdict.ok), "{verdicts:#?}");
}

#[test]
fn a_machine_that_has_just_started_is_left_alone() {
    let text = r#"
        [[test]]
        name = "it"
        uptime = "10s"
        start = "2026-11-22T12:00:00+01:00"
        steps = [
            { at = "0s", clock = "2026-11-22T13:00:00Z" },
            { at = "0s", load = { cpus = 2, load1 = 0.5, cpu_some = 1.25 } },
            { at = "0s", lost = "process_exit", count = 3 },
            { at = "0s", raised = "memory_pressure", on = "batch" },
            { at = "0s", expect = "refused", guard = "early_boot", on = "batch" },
            { at = "51s", expect = "proposed", on = "batch" },
            { at = "52s", start_failed = "db", reason = "no such file" },
            { at = "52s", expect = "act", on = "db" },
        ]
    "#;
    let verdicts = suite(text).expect("it is good").run();
    assert!(verdicts.iter().all(|verdict| verdict.ok), "{verdicts:#?}");
}

#[test]
fn the_wall_clock_of_a_test_opens_and_closes_windows() {
    let text = r#"
        [[test]]
        name = "it"
        start = "2026-11-22T01:29:00Z"
        steps = [
            { at = "0s", started = "db" },
            { at = "2m", exited = "db" },
            { at = "1h", expect = "refused", guard = "maintenance", on = "db" },
            { at = "1h", expect = "none" },
            { at = "2h 2m", expect = "act", on = "db" },
        ]
    "#;
    let verdicts = suite(text).expect("it is good").run();
    assert!(verdicts.iter().all(|verdict| verdict.ok), "{verdicts:#?}");
}

#[test]
fn a_failed_test_says_what_was_expected_and_what_happened_instead() {
    let crash = r#"{ at = "0s", started = "web" }, { at = "5s", exited = "web" },"#;
    let restart =
        "restart_service for service_down of service web by web-restart at 5.000s (incident 1)";
    let acting = "incident 1 (service_down of service web) is acting; last: decided: restart_service (rule web-restart)";
    let cases = [
        (
            r#"expect = "act", action = "kill_process", on = "web""#,
            "kill_process on web",
            format!("something else was done: {restart}"),
        ),
        (
            r#"expect = "act", on = "db""#,
            "an act on db",
            format!("something else was done: {restart}"),
        ),
        (
            r#"expect = "none""#,
            "no act that no step before expected",
            format!("something was done: {restart}"),
        ),
        (
            r#"expect = "refused", guard = "cooldown", on = "web""#,
            "a refusal by cooldown on web",
            acting.to_owned(),
        ),
        (
            r#"expect = "refused", on = "db""#,
            "a refusal on db",
            "there is no incident on db".to_owned(),
        ),
        (
            r#"expect = "proposed", on = "web", action = "restart_service""#,
            "restart_service on web waiting for a person's word",
            acting.to_owned(),
        ),
        (
            r#"expect = "state", on = "web", state = "resolved", outcome = "fixed""#,
            "an incident on web that is resolved with the outcome fixed",
            acting.to_owned(),
        ),
        (
            r#"expect = "state", on = "web", state = "healthy""#,
            "web is healthy",
            format!("web is down; {acting}"),
        ),
        (
            r#"cleared = "latency_spike", on = "web""#,
            "an open incident of latency_spike on web",
            "there is none that could clear".to_owned(),
        ),
        (
            r#"exited = "db""#,
            "that db runs",
            "it does not: nothing has started it".to_owned(),
        ),
        (
            r#"approve = "web""#,
            "something of web that a person can speak about",
            acting.to_owned(),
        ),
        (
            r#"unsilence = "web""#,
            "a silence on web",
            "no step before this one asks for it".to_owned(),
        ),
    ];
    for (step, expected, happened) in cases {
        let written = format!("{{ at = \"5s\", {step} }}");
        let after = "{ at = \"9s\", expect = \"none\" }";
        let failure = failure(&format!("{crash}\n{written},\n{after},"));
        assert_eq!(failure.step, written);
        assert_eq!((failure.line, failure.column), (6, 1), "{written}");
        assert_eq!(failure.at, "5.000s");
        assert_eq!(failure.expected, expected, "{written}");
        assert_eq!(failure.happened, happened, "{written}");
        let told = "    5.000s  incident 1 (service_down of service web): decided: restart_service (rule web-restart)";
        assert!(
            failure.story.iter().any(|line| line == told),
            "{failure:#?}"
        );
    }
}

#[test]
fn too_many_acts_are_counted_where_their_number_is_written() {
    let text =
        "[[test]]\nname = \"it\"\nacts = 0\nsteps = [{ at = \"0s\", start_failed = \"db\" }]\n";
    let failure = suite(text).expect("it is good").run().remove(0).failure;
    let failure = failure.expect("it fails");
    assert_eq!((failure.line, failure.column), (4, 8));
    assert_eq!(failure.expected, "0 acts in all");
    assert!(
        failure.happened.starts_with("1: restart_service for"),
        "{failure:#?}"
    );
}

#[test]
fn what_comes_out_depends_on_the_file_alone() {
    let text = r#"
        [[test]]
        name = "it"
        acts = 0
        steps = [{ at = "0s", started = "web" }, { at = "1s", exited = "web" }, { at = "9h", expect = "none" }]
    "#;
    let suite = suite(text).expect("it is good");
    assert_eq!(suite.run(), suite.run());
    assert!(!suite.run()[0].ok);
}

/// The mistakes of a file, a line each: where, what, what to do.
fn mistakes(text: &str) -> String {
    let Err(Unusable::Mistakes(ConfigError::Mistakes(found))) = suite(text) else {
        panic!("it has mistakes: {text}");
    };
    let mut out = String::new();
    for mistake in found {
        let help = mistake.help.unwrap_or_default();
        writeln!(
            out,
            "{}:{}: {} ({help})",
            mistake.line, mistake.column, mistake.message
        )
        .expect("a string takes it");
    }
    out
}

#[test]
fn mistakes_are_shown_where_they_stand_with_what_was_meant() {
    let text = r#"
[[test]]
name = "a"
start = "yesterday"
effects = "doen"
steps = [
{ at = "5s", exited = "wbe" },
{ at = "4s", exited = "web", status = "SIGKIL" },
{ at = "6s", exited = "web", expect = "act" },
{ at = "6s", expect = "actt" },
{ at = "6s", expect = "act", guard = "cooldown" },
{ at = "6s", exited = "web", stauts = 1 },
]
"#;
    // What does not even read is told alone.
    let unread = mistakes(text);
    assert!(
        unread.starts_with("13:30: unknown field `stauts`"),
        "{unread}"
    );
    assert!(unread.ends_with("(did you mean `status`?)\n"), "{unread}");
    let text = text.replace("stauts = 1", "guard = \"limit\"");
    let expected = "\
5:9: `yesterday` is no time between 1678 and 2262 (write it with its zone, such as \"2026-01-01T12:00:00Z\" or \"2026-01-01T13:00:00+01:00\")
6:11: no effect is called `doen` (did you mean `done`?)
8:23: no service is called `wbe` (did you mean `web`?)
9:8: this step comes before the one above it, at 5s (write steps in the order of their times)
9:39: nothing ends with the status \"SIGKIL\" (write an exit code, 0 to 255, or a signal, such as \"SIGKILL\")
10:39: this step has both `exited` and `expect` (make it two steps with the same `at`)
11:23: no expectation is called `actt` (did you mean `act`?)
12:38: `guard` means nothing beside `expect = \"act\"` (what can stand there: action, on, rule, detector, undo)
13:38: `guard` means nothing beside `exited` (what can stand there: status, effects)
";
    assert_eq!(mistakes(&text), expected);
}

#[test]
fn each_mistake_has_words_of_its_own() {
    let cases = [
        (
            r#"raised = "latency_spik", on = "web""#,
            "did you mean `latency_spike`?",
        ),
        (r#"raised = "latency_spike""#, "add `on`: a service"),
        (
            r#"raised = "latency_spike", on = "webb""#,
            "did you mean `web`?",
        ),
        (
            r#"raised = "latency_spike", on = "peer nowhere""#,
            "no service or process",
        ),
        (r#"check = "web""#, "write either `ok = true`"),
        (
            r#"check = "web", named = "tpc", ok = true"#,
            "did you mean `tcp`?",
        ),
        (r#"check = "web", ok = false"#, "write either `ok = true`"),
        (
            r#"check = "web", failure = "timeuot""#,
            "did you mean `timeout`?",
        ),
        (r#"started = "batch""#, "no service is called `batch`"),
        ("load = { cpu_some = 950.0 }", "0 to 100, per cent"),
        ("load = { cpu_some = nan }", "0 to 100, per cent"),
        (r#"lost = "process_exits""#, "did you mean `process_exit`?"),
        (r#"silence = "web""#, "for example `for = \"1h\"`"),
        (r#"exited = "web", status = 256"#, "an exit code, 0 to 255"),
        (r#"clock = "2026-11-22""#, "write it with its zone"),
        (
            r#"expect = "act", rule = "web-restrat""#,
            "did you mean `web-restart`?",
        ),
        (
            r#"expect = "act", action = "reboot""#,
            "known: clean_folder",
        ),
        (
            r#"expect = "refused", on = "web", guard = "consnet""#,
            "did you mean `consent`?",
        ),
        (r#"expect = "state", on = "web""#, "say which `state`"),
        (
            r#"expect = "state", on = "web", state = "escalatd""#,
            "did you mean `escalated`?",
        ),
        (
            r#"expect = "state", on = "web", outcome = "fixt""#,
            "did you mean `fixed`?",
        ),
        (
            r#"on = "web""#,
            "neither says what happens nor what is expected",
        ),
    ];
    for (step, words) in cases {
        let text = format!("[[test]]\nname = \"a\"\nsteps = [{{ at = \"0s\", {step} }}]\n");
        let found = mistakes(&text);
        assert!(found.contains(words), "{step}: {found}");
        assert!(found.starts_with("4:"), "{step}: {found}");
    }
    let none = mistakes("");
    assert!(none.contains("there is no [[test]]"), "{none}");
    let twice = "[[test]]\nname = \"a\"\nsteps = []\n".repeat(2);
    let twice = mistakes(&twice);
    assert!(twice.contains("two tests are called `a`"), "{twice}");
    assert!(twice.contains("no steps"), "{twice}");
    let nothing =
        mistakes("[[test]]\nname = \"a\"\nsteps = [{ at = \"0s\", started = \"web\" }]\n");
    assert!(
        nothing.starts_with("3:8: this test expects nothing"),
        "{nothing}"
    );
    let long =
        mistakes("[[test]]\nname = \"a\"\nsteps = [{ at = \"9000h\", expect = \"none\" }]\n");
    assert!(long.contains("366 days"), "{long}");
}

#[test]
fn mistakes_of_the_configuration_are_shown_in_the_configuration() {
    let path = Path::new("sub/a.test.toml");
    let text = "config = \"../b.toml\"\n";
    let missing = Suite::parse(text, path, &mut |_| Err("it is not there".to_owned()));
    let missing = missing.expect_err("there is none").render();
    assert!(
        missing.contains("sub/a.test.toml:1:10: cannot read sub/../b.toml"),
        "{missing}"
    );
    let bad = Suite::parse(text, path, &mut |_| Ok("[polcy]\n".to_owned()));
    let bad = bad.expect_err("it has a mistake").render();
    assert!(bad.contains("b.toml:1:2"), "{bad}");
    let gone = Suite::load(Path::new("/nonexistent/a.toml")).expect_err("there is none");
    assert!(
        gone.render().contains("/nonexistent/a.toml"),
        "{}",
        gone.render()
    );
}

/// A file that uses everything.
const EVERYTHING: &str = r#"
[[test]]
name = "everything"
start = "2026-11-22T12:00:00Z"
uptime = "1h"
effects = "done"
dry_run = false
acts = 2
steps = [
{ at = "0s", started = "web" }, { at = "1s", check = "web", ok = true, latency = "5ms" },
{ at = "2s", raised = "runaway_cpu", on = "batch", severity = "warning", facts = { a = 1 } },
{ at = "3s", cleared = "runaway_cpu", on = "batch", reason = "gone" },
{ at = "4s", load = { cpu_some = 95.0 } }, { at = "4s", lost = "process_exit", count = 3 },
{ at = "5s", silence = "*", for = "1h", by = "ann" }, { at = "5s", unsilence = "*" },
{ at = "6s", exited = "web", status = 3, effects = "failed" }, { at = "6s", expect = "act", rule = "web-restart" },
{ at = "7s", raised = "memory_pressure", on = "batch" }, { at = "7s", approve = "batch" },
{ at = "8s", expect = "refused", guard = "cooldown", on = "web" }, { at = "8s", expect = "none" },
{ at = "9s", start_failed = "db" }, { at = "9s", clock = "2026-11-22T13:00:00Z" },
{ at = "1h", expect = "state", on = "web", state = "escalated" },
]
"#;

/// Numbers that only look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(most.max(1)).expect("it fits")).expect("it fits")
    }
}

#[test]
fn whatever_is_written_is_run_or_refused_and_never_a_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let words: Vec<&str> = EVERYTHING.split_whitespace().collect();
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(text.len());
            match numbers.below(5) {
                0 => {
                    text.remove(at);
                }
                1 => text.insert(
                    at,
                    "0189\"{}[],=.\nsmhé\u{0}-"
                        .chars()
                        .nth(numbers.below(20))
                        .unwrap_or('x'),
                ),
                2 => {
                    let word = words[numbers.below(words.len())];
                    text.splice(at..at, word.chars());
                }
                3 => {
                    let end = (at + numbers.below(40)).min(text.len());
                    text.drain(at..end);
                }
                _ => {
                    let other = numbers.below(text.len());
                    text.swap(at, other);
                }
            }
        }
        let text: String = text.into_iter().collect();
        match suite(&text) {
            Ok(suite) => {
                suite.run();
                ran += 1;
            }
            Err(error) => {
                assert!(!error.render().is_empty());
                refused += 1;
            }
        }
    }
    assert!(
        ran > 50 && refused > 1_000,
        "{ran} ran, {refused} were refused"
    );
}
