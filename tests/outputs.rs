//! Commands whose output nobody takes: a closed pipe, a full disk. None of them panics, whatever it has to say. Needs no daemon.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use smart_monitor_tests::{built, program};

/// Exit code when a command cannot say what it was asked for.
const NOT_WRITTEN: i32 = 2;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the checkout.
fn file(path: &str) -> String {
    checkout().join(path).display().to_string()
}

/// A file that is no configuration and no test of one. Removed at the end of the test.
struct Bad(PathBuf);

impl Bad {
    fn new(test: &str) -> Self {
        let name = format!("sm-outputs-{test}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "[nothing]\n").expect("it is written");
        Self(path)
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Commands that end without a daemon, and whether they have anything to say on standard output.
fn commands(bad: &Bad) -> Vec<(Vec<String>, bool)> {
    let bad = bad.0.display().to_string();
    let good = file("config/smart-monitor.toml");
    let policy = file("config/examples/tests/redis.test.toml");
    let (recording, was) = (
        file("tests/replay/demo_faults.jsonl"),
        file("tests/replay/demo_faults.toml"),
    );
    let nowhere = ["--socket", "/nonexistent/socket"];
    let stored = [nowhere.as_slice(), &["--state-dir", "/nonexistent/state"]].concat();
    let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let with = |words: &[&str], more: &[&str]| line(&[words, more].concat());
    let mut commands = vec![
        (line(&["check-config", &good]), true),
        (line(&["check-config", &bad]), false),
        (line(&["check-config", "/nonexistent"]), false),
        (line(&["test-policy", &policy]), true),
        (line(&["test-policy", &bad]), true),
        (line(&["test-policy", &policy, "--json"]), true),
        (line(&["replay", &recording, "--was", &was]), true),
        (line(&["replay", &recording, "--dump"]), true),
        (line(&["replay", &recording]), false),
        (line(&["replay", "/nonexistent"]), false),
        (line(&["audit", "--state-dir", "/nonexistent"]), false),
        (line(&["doctor"]), true),
        (line(&["simulate"]), false),
        (with(&["incidents"], &stored), false),
        (with(&["incidents", "1", "--json"], &stored), true),
        (with(&["explain", "1"], &stored), false),
        (
            line(&["status", "--json", "--socket", "/nonexistent"]),
            true,
        ),
        (line(&["--version"]), false),
        (line(&["nonsense"]), false),
    ];
    let asked: [&[&str]; 8] = [
        &["status"],
        &["silences"],
        &["approve", "1", "--yes"],
        &["reject", "1"],
        &["ack", "1"],
        &["silence", "auth", "--for", "1h", "--reason", "x"],
        &["unsilence", "1"],
        &["record", "/nonexistent/file"],
    ];
    commands.extend(asked.map(|words| (with(words, &nowhere), false)));
    commands
}

/// Where nothing can be written.
#[derive(Clone, Copy, Debug)]
enum Gone {
    /// A pipe of which the reader has gone away.
    Closed,
    /// A disk without space.
    Full,
}

impl Gone {
    fn stdio(self) -> Stdio {
        match self {
            Self::Closed => {
                let (reader, writer) = std::io::pipe().expect("a pipe is made");
                drop(reader);
                writer.into()
            }
            Self::Full => File::options()
                .write(true)
                .open("/dev/full")
                .expect("it opens")
                .into(),
        }
    }
}

fn run(words: &[String], stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = program(built().expect("it builds"));
    command.args(words).stdin(Stdio::null());
    let child = command.stdout(stdout).stderr(stderr).spawn();
    let child = child.expect("it starts");
    child.wait_with_output().expect("it ends")
}

/// Its exit code; a panic is none that a command has.
fn code(words: &[String], how: &str, status: ExitStatus) -> i32 {
    // A signal's is none at all.
    let code = status.code().unwrap_or(-1);
    assert!((0..=2).contains(&code), "{words:?}, {how}: {status}");
    code
}

#[test]
fn a_reader_that_has_gone_away_changes_nothing() {
    let bad = Bad::new("closed");
    for (words, _) in commands(&bad) {
        let both = run(&words, Stdio::null(), Stdio::null());
        let heard = code(&words, "heard", both.status);
        for (out, err, how) in [
            (Gone::Closed.stdio(), Stdio::null(), "stdout closed"),
            (Stdio::null(), Gone::Closed.stdio(), "stderr closed"),
            (Stdio::null(), Gone::Full.stdio(), "stderr full"),
            (Gone::Closed.stdio(), Gone::Closed.stdio(), "both closed"),
        ] {
            let unheard = code(&words, how, run(&words, out, err).status);
            assert_eq!(unheard, heard, "{words:?}, {how}");
        }
    }
}

#[test]
fn what_cannot_be_written_to_a_full_disk_is_an_error_that_says_so() {
    let bad = Bad::new("full");
    for (words, says) in commands(&bad) {
        let output = run(&words, Gone::Full.stdio(), Stdio::piped());
        let found = code(&words, "stdout full", output.status);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("panicked"), "{words:?}: {error}");
        if says {
            assert_eq!(found, NOT_WRITTEN, "{words:?}: {error}");
            assert!(
                error.contains("No space left on device"),
                "{words:?}: {error}"
            );
        }
        let neither = run(&words, Gone::Full.stdio(), Gone::Full.stdio());
        assert_eq!(
            code(&words, "both full", neither.status),
            found,
            "{words:?}"
        );
    }
}
