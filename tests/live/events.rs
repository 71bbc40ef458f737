//! `smart-monitor events` on the real kernel: what is brought about here is what it shows, also after odd names and with no reader.
//!
//! Needs root and a mounted cgroup v2 hierarchy; without them the tests fail, they are never skipped.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use smart_monitor::host::cgroupfs::CgroupFs;
use smart_monitor::host::procfs;
use smart_monitor_tests::{PATIENCE, binary, free_port, program, send, wait_until};

/// The command under test; it ends with its owner.
struct Events {
    child: Child,
}

impl Events {
    fn start(args: &[&str]) -> (Self, BufReader<ChildStdout>) {
        let mut command = program(binary().expect("it is built"));
        command.arg("events").args(args).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        (Self { child }, out)
    }

    /// Asks it to end, as Ctrl-C does.
    fn interrupt(&self) {
        let stat = procfs::stat(self.child.id()).expect("it runs");
        send(stat.key, Signal::INT).expect("it can be asked");
    }

    /// How it ended, and what it said on standard error.
    fn ended(&mut self) -> (ExitStatus, String) {
        let status = wait_until(PATIENCE, "it ends", || self.child.try_wait().ok().flatten());
        if status.is_err() {
            let _gone = self.child.kill();
        }
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut said).expect("it is text");
        (status.with_context(|| said.clone()).expect("it ends"), said)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Everything that was shown, as it comes.
#[derive(Clone, Default)]
struct Shown {
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Shown {
    fn read(out: BufReader<ChildStdout>) -> Self {
        let shown = Self::default();
        let lines = Arc::clone(&shown.lines);
        std::thread::spawn(move || {
            for line in out.lines() {
                let line = line.expect("it is UTF-8");
                let value = serde_json::from_str(&line);
                let value = value.with_context(|| line.clone()).expect("it is JSON");
                lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(value);
            }
        });
        shown
    }

    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = wait_until(PATIENCE, what, || {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.iter().find(|line| is(line)).cloned()
        });
        found.expect("it is shown")
    }
}

/// Brings about events until one is shown: from then on none is missed.
fn make_ready(shown: &Shown) {
    let ready = wait_until(PATIENCE, "the first event", || {
        let ran = program("true").status().expect("true is there");
        assert!(ran.success());
        let lines = shown.lines.lock().unwrap_or_else(PoisonError::into_inner);
        (!lines.is_empty()).then_some(())
    });
    ready.expect("the live tests need root and the kernel programs");
}

#[test]
fn what_happens_is_shown_as_json() {
    let (mut events, out) = Events::start(&["--json"]);
    let shown = Shown::read(out);
    make_ready(&shown);
    let of = |probe: &'static str, pid: u32| {
        move |line: &Value| line["probe"] == probe && line["pid"] == pid
    };

    let mut echo = program("echo");
    let odd = [&b"it's"[..], b"", b"a\nb\x1b[31m", b"\xff\xfe"];
    echo.args(odd.map(OsStr::from_bytes)).stdout(Stdio::null());
    let mut echo = echo.spawn().expect("echo is there");
    echo.wait().expect("it ends");
    let exec = shown.wait_for("the exec", of("process_exec", echo.id()));
    let argv = json!(["echo", "it's", "", "a\nb\u{1b}[31m", "\u{fffd}\u{fffd}"]);
    assert_eq!(
        (&exec["argv"], &exec["argv_lossy"]),
        (&argv, &json!(true)),
        "{exec}"
    );
    assert_eq!(
        (&exec["uid"], &exec["comm"]),
        (&json!(0), &json!("echo")),
        "{exec}"
    );
    assert_eq!(exec["parent_pid"], std::process::id(), "{exec}");
    assert!(exec["identity"]["cgroup"].is_string(), "{exec}");

    let mut sleeper = program("sleep").arg("60").spawn().expect("sleep is there");
    let key = procfs::stat(sleeper.id()).expect("it runs").key;
    send(key, Signal::TERM).expect("it is ours");
    sleeper.wait().expect("it ends");
    let signal = shown.wait_for("the signal", of("process_signal", sleeper.id()));
    assert_eq!(signal["signal_name"], "SIGTERM", "{signal}");
    assert_eq!(signal["sender_pid"], std::process::id(), "{signal}");
    let exit = shown.wait_for("the exit", of("process_exit", sleeper.id()));
    assert_eq!(
        (&exit["signal"], &exit["exit_code"]),
        (&json!(15), &Value::Null),
        "{exit}"
    );
    assert!(exit["monotonic_ns"].as_u64() >= signal["monotonic_ns"].as_u64());

    let nobody = free_port().expect("a port");
    assert!(TcpStream::connect(nobody).is_err());
    let refused = shown.wait_for("the refusal", |line| {
        line["probe"] == "tcp_connect" && line["peer_port"] == nobody.port()
    });
    assert_eq!(refused["error_name"], "ECONNREFUSED", "{refused}");
    assert_eq!(refused["pid"], std::process::id(), "{refused}");

    let tree = CgroupFs::open().expect("mountinfo reads");
    let tree = tree.expect("the live tests need a mounted cgroup v2 hierarchy");
    let name = format!("smart-monitor-test-events-{}", std::process::id());
    let folder = tree.mount().join(&name);
    fs::create_dir(&folder).expect("the live tests need root");
    let id = fs::metadata(&folder).expect("it is there").ino();
    fs::remove_dir(&folder).expect("an empty cgroup can be removed");
    for change in ["made", "removed"] {
        let line = shown.wait_for(change, |line| {
            line["changed_cgroup_id"] == id && line["change"] == change
        });
        assert_eq!(line["path"], format!("/{name}"), "{line}");
    }

    events.interrupt();
    let (status, said) = events.ended();
    assert!(status.success(), "{status}: {said}");
    assert!(
        said.contains("process_exec") && said.contains(" lost"),
        "{said}"
    );
}

#[test]
fn a_socket_without_a_known_process_is_that_of_who_has_it_open() {
    let probes = "--probe=socket_error,connect_error";
    let (mut events, out) = Events::start(&[probes, "--json"]);
    let shown = Shown::read(out);
    let nobody = free_port().expect("a port");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let own = socket.local_addr().expect("its address");
    socket.connect(nobody).expect("it is local");
    let told = wait_until(PATIENCE, "an error of the socket", || {
        // The answer to an earlier one is returned instead of being sent.
        let _ = socket.send(b"x");
        let lines = shown.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |line: &&Value| line["local_port"] == own.port();
        lines.iter().find(of).cloned()
    });
    let told = told.expect("the live tests need root and the kernel programs");
    assert_eq!(told["error_name"], "ECONNREFUSED", "{told}");
    assert_eq!(told["protocol"], "UDP", "{told}");
    assert_eq!(told["pid"], std::process::id(), "{told}");
    let found = (&told["pid_from"], &told["socket_holders"]);
    assert_eq!(found, (&json!("socket"), &json!(1)), "{told}");
    assert!(told["comm"].as_str() != Some(""), "{told}");
    let process = &told["identity"]["process"]["key"]["pid"];
    assert_eq!(process, std::process::id(), "{told}");
    // Nobody listens at such a path; the probe is attached because it was asked for.
    let path = format!("/nonexistent/{}", std::process::id());
    assert!(UnixStream::connect(&path).is_err());
    let refused = shown.wait_for("the missing socket", |line| line["path"] == path);
    assert_eq!(refused["error_name"], "ENOENT", "{refused}");
    assert_eq!(refused["pid"], std::process::id(), "{refused}");
    assert_eq!(refused.get("pid_from"), None, "the kernel knew it");
    events.interrupt();
    let (status, said) = events.ended();
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let (mut events, mut out) = Events::start(&["--probe", "process_exit"]);
    let mut line = String::new();
    out.read_line(&mut line).expect("it is text");
    assert!(line.starts_with("TIME "), "{line}");
    // With nothing more to be written, too.
    drop(out);
    let (status, said) = events.ended();
    assert!(status.success(), "{status}: {said}");
    assert_eq!(said, "");
}

#[test]
fn a_count_of_what_passes_the_filter_is_shown_in_columns() {
    let folder = std::env::temp_dir().join(format!("smart-monitor-events-{}", std::process::id()));
    fs::create_dir(&folder).expect("it is new");
    let script = folder.join("sm-leaver");
    fs::write(&script, "#!/bin/sh\nexit $1\n").expect("it is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let filter = ["--failed", "--comm", "sm-leaver", "--count", "1"];
    let (mut events, mut out) = Events::start(&filter);
    let mut heading = String::new();
    out.read_line(&mut heading).expect("it is text");
    for code in ["0", "3"] {
        let status = program(&script).arg(code).status().expect("it runs");
        assert_eq!(
            status.code().map(|code| code.to_string()).as_deref(),
            Some(code)
        );
    }
    let mut lines = String::new();
    out.read_to_string(&mut lines).expect("it is text");
    fs::remove_dir_all(&folder).expect("it is ours");
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let what = heading.find("WHAT").expect("a heading");
    assert!(
        lines[what..].starts_with("exit code 3 after "),
        "{heading}{lines}"
    );
    let (status, said) = events.ended();
    assert!(
        status.success() && said.contains("1 event in "),
        "{status}: {said}"
    );
}
