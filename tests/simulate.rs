//! The simulated services of `smart-monitor simulate`, as their users meet them: over HTTP, by signals, by exit status.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use smart_monitor::host::signals::Held;
use smart_monitor::host::{Opened as _, procfs};
use smart_monitor_tests::built;

/// Far longer than anything here takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts what it tests; nothing of the host is touched"
)]
fn program(path: PathBuf) -> Command {
    Command::new(path)
}

/// A running service. Killed at the end of the test.
struct Service {
    child: Child,
    at: SocketAddr,
}

impl Service {
    fn start(name: &str, more: &[&str]) -> Self {
        Self::start_with(name, more, |_| {})
    }

    fn start_with(name: &str, more: &[&str], change: impl Fn(&mut Command)) -> Self {
        let at = free_port();
        let mut command = program(built().expect("it builds").clone());
        command.args(["simulate", "--name", name, "--listen", &at.to_string()]);
        command.args(more);
        change(&mut command);
        let service = Self {
            child: command.spawn().expect("start"),
            at,
        };
        eventually(|| TcpStream::connect(at).is_ok());
        service
    }

    fn get(&self, path: &str) -> (u16, String) {
        ask(self.at, "GET", path).expect("an answer")
    }

    fn health(&self) -> Value {
        serde_json::from_str(&self.get("/health").1).expect("JSON")
    }

    fn fault(&self, kind: &str) {
        let (code, body) = ask(self.at, "POST", &format!("/fault/{kind}")).expect("an answer");
        assert_eq!(code, 202, "{kind}: {body}");
    }

    fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            sleep(Duration::from_millis(5));
        }
    }

    fn lives(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    fn terminate(&self) {
        let stat = procfs::stat(self.child.id()).expect("it runs");
        Held::open(stat.key)
            .and_then(|held| held.terminate())
            .expect("SIGTERM");
    }

    fn resident_mib(&self) -> u64 {
        let health = self.health();
        health
            .get("resident_bytes")
            .and_then(Value::as_u64)
            .expect("a number")
            >> 20
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

fn ask(at: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.get(9..12).and_then(|code| code.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    Ok((code.expect("a status"), body.expect("a body")))
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "it never came to that");
        sleep(Duration::from_millis(20));
    }
}

fn smart_monitor(arguments: &[&str]) -> Output {
    program(built().expect("it builds").clone())
        .args(arguments)
        .output()
        .expect("run")
}

#[test]
fn it_reports_and_ends_cleanly_at_sigterm() {
    let mut auth = Service::start("auth", &[]);
    assert_eq!(auth.get("/work").0, 200);
    let health = auth.health();
    assert_eq!(
        (&health["name"], &health["status"]),
        (&"auth".into(), &"HEALTHY".into())
    );
    for key in ["cpu_percent", "resident_bytes", "error_rate", "heartbeat"] {
        assert!(health[key].is_number(), "{key} in {health}");
    }
    let (_, metrics) = auth.get("/metrics");
    for family in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "service_requests_total",
        "service_request_duration_seconds",
        "service_error_ratio",
        "service_heartbeat_timestamp_seconds",
    ] {
        assert!(
            metrics.contains(&format!("# TYPE {family} ")),
            "{family} in {metrics}"
        );
    }
    auth.terminate();
    assert_eq!(auth.ended().code(), Some(0));
}

#[test]
fn a_taken_port_is_one_clear_message() {
    let auth = Service::start("auth", &[]);
    let second = smart_monitor(&["simulate", "--listen", &auth.at.to_string()]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(
        said.contains(&auth.at.to_string()) && said.contains("--listen"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn each_crash_ends_it_in_its_own_way() {
    let mut ends = Vec::new();
    for how in ["exit", "abort", "segv", "kill"] {
        let mut service = Service::start(how, &[]);
        service.fault(&format!("crash?how={how}"));
        let status = service.ended();
        ends.push((status.code(), status.signal()));
    }
    assert_eq!(
        ends,
        [
            (Some(101), None),
            (None, Some(6)),
            (None, Some(11)),
            (None, Some(9))
        ]
    );
}

#[test]
fn hanging_it_lives_and_answers_nothing_but_sigterm() {
    let mut auth = Service::start("auth", &[]);
    auth.fault("hang");
    eventually(|| ask(auth.at, "GET", "/health").is_err());
    assert!(
        TcpStream::connect(auth.at).is_ok(),
        "the backlog takes connections"
    );
    assert!(auth.lives());
    auth.terminate();
    assert_eq!(auth.ended().code(), Some(0));
}

#[test]
fn refusing_it_lives_and_its_callers_suffer() {
    let mut auth = Service::start("auth", &[]);
    let calls = format!("auth={}", auth.at);
    let gateway = Service::start("gateway", &["--calls", &calls, "--rate", "50"]);
    assert_eq!(gateway.health()["status"], "HEALTHY");
    auth.fault("refuse");
    eventually(|| {
        let refused = TcpStream::connect(auth.at).map_err(|error| error.kind());
        refused.err() == Some(std::io::ErrorKind::ConnectionRefused)
    });
    assert!(auth.lives());
    eventually(|| gateway.health()["status"] == "DEGRADED");
}

#[test]
fn errors_come_at_their_ratio_until_they_are_ended() {
    let auth = Service::start("auth", &[]);
    let errors = || (0..20).filter(|_| auth.get("/work").0 == 500).count();
    auth.fault("errors?ratio=0.5");
    eventually(|| auth.get("/work").0 == 500);
    assert_eq!(errors(), 10);
    auth.fault("none");
    eventually(|| auth.get("/work").0 == 200 && auth.get("/work").0 == 200);
    assert_eq!(errors(), 0);
}

#[test]
fn a_leak_stops_at_its_bound_and_can_be_given_back() {
    let auth = Service::start("auth", &[]);
    // What an unoptimised program takes by itself grows with it.
    let own = auth.resident_mib();
    auth.fault("leak?mib_per_s=500&max_mib=64");
    eventually(|| auth.resident_mib() >= own + 60);
    sleep(Duration::from_millis(500));
    let full = auth.resident_mib();
    assert!(full < own + 76, "{full} MiB, {own} before");
    auth.fault("none");
    eventually(|| auth.resident_mib() < own + 12);
}

#[test]
fn spinning_it_says_how_much_it_burns() {
    let auth = Service::start("auth", &["--heartbeat", "200ms"]);
    auth.fault("spin?threads=1");
    eventually(|| {
        auth.health()["cpu_percent"]
            .as_f64()
            .is_some_and(|percent| percent > 20.0)
    });
    auth.fault("none");
    eventually(|| {
        auth.health()["cpu_percent"]
            .as_f64()
            .is_some_and(|percent| percent < 20.0)
    });
}

#[test]
fn it_tells_a_supervisor_that_it_lives() {
    let folder = std::env::temp_dir().join(format!("simulate-notify-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let heard = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("a sign of life");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut auth = Service::start_with("auth", &["--heartbeat", "50ms"], |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert_eq!([heard(), heard()], ["READY=1", "WATCHDOG=1"]);
    drop(std::fs::remove_dir_all(&folder));
    sleep(Duration::from_millis(200));
    assert!(
        auth.lives(),
        "nobody listens any more, and it does not mind"
    );
}

#[test]
fn the_command_line_injects_faults_and_passes_on_what_the_service_says() {
    let mut auth = Service::start("auth", &[]);
    let at = auth.at.to_string();
    let wrong = smart_monitor(&["simulate", "fault", "--at", &at, "melt"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("crash, leak, spin"));
    let right = smart_monitor(&["simulate", "fault", "--at", &at, "crash", "how=exit"]);
    assert_eq!(right.status.code(), Some(0));
    assert_eq!(auth.ended().code(), Some(101));
    let gone = smart_monitor(&["simulate", "fault", "--at", &at, "crash"]);
    assert_eq!(gone.status.code(), Some(2));
}
