use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{ClientError, get_json, send_json};
use super::*;
use crate::model::kernel_view::{NoKernel, ProbeCount, ProbeRow, ProgramCost, RunQueue};
use crate::model::view::ServiceView;
use crate::model::{
    Evidence, Incident, IncidentId, Service, ServiceState, Severity, State, Subject, Time,
};

/// A kernel half with one probe.
struct OneProbe;

impl KernelView for OneProbe {
    fn probes(&self) -> Vec<ProbeRow> {
        vec![ProbeRow {
            name: "process_exit".to_owned(),
            on: true,
            ..ProbeRow::default()
        }]
    }
    fn counters(&self) -> Vec<ProbeCount> {
        Vec::new()
    }
    fn run_queue(&self) -> Option<RunQueue> {
        None
    }
    fn reclaim(&self) -> Option<monitor_common::counters::ReclaimTotals> {
        None
    }
    fn costs(&self) -> Vec<ProgramCost> {
        Vec::new()
    }
}

fn incident(id: u64, state: State) -> Incident {
    Incident {
        state,
        ..Incident::new(
            IncidentId(id),
            "service_down",
            Subject::service("auth"),
            Severity::Critical,
            Evidence::at(Time::from_nanos(5)),
            Time::from_nanos(6),
        )
    }
}

fn sources(kernel: Arc<dyn KernelView>) -> Sources {
    let mut view = View::default();
    for id in 1..=5 {
        let state = if id < 5 { State::Resolved } else { State::Open };
        view.incidents.insert(IncidentId(id), incident(id, state));
    }
    if let Some(last) = view.incidents.get_mut(&IncidentId(5)) {
        last.caused_by = Some(IncidentId(4));
    }
    let row = ServiceView {
        service: Service::new("auth"),
        state: ServiceState::Down,
    };
    view.services.insert("auth".to_owned(), row);
    Sources {
        view: Arc::new(Mutex::new(view)),
        kernel,
        own: Arc::new(Own::started_now()),
        unhealthy: Box::new(Vec::new),
        limitations: Box::new(Vec::new),
        people: people::refusing(),
        recordings: Arc::new(recording::NoRecordings),
        take_beat: Box::new(|_, _| Ok(())),
    }
}

fn start(sources: Sources) -> SocketAddr {
    let http = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = http.local_addr().unwrap();
    let forever = std::future::pending::<()>();
    tokio::spawn(serve(Arc::new(sources), None, Some(http), forever));
    address
}

struct Answer {
    code: u16,
    headers: hyper::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        code: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[("host", "127.0.0.1")]).await
}

#[tokio::test]
async fn incidents_come_oldest_first_and_as_many_as_asked_for() {
    let address = start(sources(Arc::new(OneProbe)));
    let ids = |answer: &Answer| {
        let listed: answers::Incidents = serde_json::from_str(&answer.body).unwrap();
        let ids: Vec<_> = listed.incidents.iter().map(|one| one.id.0).collect();
        ids
    };
    assert_eq!(
        ids(&get(address, "/api/v1/incidents").await),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        ids(&get(address, "/api/v1/incidents?limit=2").await),
        [4, 5]
    );
    let bad = get(address, "/api/v1/incidents?limit=many").await;
    assert_eq!(bad.code, 400);
    assert!(bad.error().contains("limit"));
}

#[tokio::test]
async fn what_was_frozen_comes_with_one_incident_and_not_with_many() {
    let sources = sources(Arc::new(OneProbe));
    for incident in sources.view.lock().unwrap().incidents.values_mut() {
        incident.evidence.frozen = Some(Box::default());
    }
    let address = start(sources);
    let one = get(address, "/api/v1/incidents/4").await.json();
    assert!(one["incident"]["evidence"]["frozen"].is_object(), "{one}");
    for path in ["/api/v1/incidents", "/api/v1/status"] {
        let many = get(address, path).await.body;
        assert!(!many.contains("frozen"), "{many}");
    }
}

#[tokio::test]
async fn an_incident_comes_with_what_it_caused() {
    let address = start(sources(Arc::new(OneProbe)));
    let answer = get(address, "/api/v1/incidents/4").await.json();
    assert_eq!(answer["incident"]["id"], 4);
    assert_eq!(answer["causes"], json!([5]));
    assert!(
        answer["clock"]["unix_ns"].as_i64().unwrap()
            > answer["clock"]["monotonic_ns"].as_i64().unwrap()
    );
}

#[tokio::test]
async fn whatever_cannot_be_answered_is_json_with_the_right_code() {
    let address = start(sources(Arc::new(OneProbe)));
    for (method, path, code) in [
        ("GET", "/api/v1/incidents/77", 404),
        ("GET", "/api/v1/incidents/one", 400),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/", 404),
        ("POST", "/api/v1/status", 403),
        ("DELETE", "/metrics", 403),
    ] {
        let answer = ask(address, method, path, &[("host", "localhost")]).await;
        assert_eq!(answer.code, code, "{method} {path}");
        assert!(
            !answer.error().is_empty(),
            "{method} {path}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn nothing_is_changed_over_http() {
    let address = start(sources(Arc::new(OneProbe)));
    for (method, path) in [
        ("POST", "/api/v1/incidents/5/approve"),
        ("POST", "/api/v1/incidents/5/acknowledge"),
        ("POST", "/api/v1/silences"),
        ("DELETE", "/api/v1/silences/1"),
        ("PUT", "/api/v1/nothing"),
    ] {
        let refused = ask(address, method, path, &[("host", "localhost")]).await;
        assert_eq!(refused.code, 403, "{method} {path}");
        assert!(refused.error().contains("socket"), "{}", refused.body);
    }
    // Not even there, for who finds a way around the method.
    let path = "/api/v1/incidents/5/approve";
    assert_eq!(get(address, path).await.code, 404);
    let head = ask(address, "HEAD", "/health", &[("host", "localhost")]).await;
    assert_eq!(head.code, 200);
    let listed = get(address, "/api/v1/silences").await;
    assert_eq!(listed.json()["silences"], json!([]));
}

#[tokio::test]
async fn heartbeats_are_taken_on_loopback_and_not_from_web_pages() {
    let address = start(sources(Arc::new(OneProbe)));
    let path = "/api/v1/heartbeats/auth";
    let taken = ask(address, "POST", path, &[("host", "localhost")]).await;
    assert_eq!(
        (taken.code, taken.json()),
        (200, json!({"service": "auth"}))
    );
    let page = [("host", "localhost"), ("origin", "http://evil.example")];
    assert_eq!(ask(address, "POST", path, &page).await.code, 403);
    let foreign = [("host", "evil.example")];
    assert_eq!(ask(address, "POST", path, &foreign).await.code, 421);
    assert_eq!(
        ask(address, "DELETE", path, &[("host", "localhost")])
            .await
            .code,
        403
    );
    let unknown = ask(
        address,
        "POST",
        "/api/v1/heartbeats/none",
        &[("host", "localhost")],
    )
    .await;
    assert_eq!(unknown.code, 404);
    assert!(unknown.error().contains("none"), "{}", unknown.body);
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_on_loopback() {
    let address = start(sources(Arc::new(OneProbe)));
    let refused = ask(address, "GET", "/health", &[("host", "evil.example:9464")]).await;
    assert_eq!(refused.code, 421);
    assert!(refused.error().contains("evil.example"), "{}", refused.body);
    assert_eq!(
        ask(address, "GET", "/health", &[("host", "localhost:1")])
            .await
            .code,
        200
    );
}

#[tokio::test]
async fn a_service_that_is_down_leaves_the_daemon_well() {
    let address = start(sources(Arc::new(OneProbe)));
    let health = get(address, "/health").await;
    assert_eq!(health.code, 200);
    let expected = json!({"status": "HEALTHY", "reasons": [], "services": {"auth": "DOWN"}});
    assert_eq!(health.json(), expected);
}

#[tokio::test]
async fn a_daemon_that_cannot_observe_or_act_is_unhealthy() {
    let health = get(start(sources(Arc::new(NoKernel))), "/health").await;
    assert_eq!(health.code, 503);
    assert!(
        health.body.contains("no kernel probe is on"),
        "{}",
        health.body
    );

    let halted = sources(Arc::new(OneProbe));
    halted.view.lock().unwrap().halted = Some("the journal is full".to_owned());
    let health = get(start(halted), "/health").await;
    assert_eq!(health.code, 503);
    assert!(
        health.body.contains("the journal is full"),
        "{}",
        health.body
    );
}

#[tokio::test]
async fn the_status_leaves_out_what_is_over() {
    let address = start(sources(Arc::new(OneProbe)));
    let answer = get(address, "/api/v1/status").await;
    let status: answers::Status = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        status
            .view
            .incidents
            .keys()
            .map(|id| id.0)
            .collect::<Vec<_>>(),
        [5]
    );
    assert!(status.own.resident_bytes > 0);
    assert_eq!(status.probes.len(), 1);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let address = start(sources(Arc::new(OneProbe)));
    let classic = get(address, "/metrics").await;
    assert!(
        classic.headers["content-type"]
            .to_str()
            .unwrap()
            .contains("version=0.0.4")
    );
    assert!(
        classic
            .body
            .contains("# TYPE smart_monitor_build_info gauge")
    );
    let accept = ("accept", "application/openmetrics-text; version=1.0.0");
    let open = ask(address, "GET", "/metrics", &[("host", "localhost"), accept]).await;
    assert!(
        open.headers["content-type"]
            .to_str()
            .unwrap()
            .contains("openmetrics-text")
    );
    assert!(open.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_hold_the_server() {
    let http = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = http.local_addr().unwrap();
    let limits = Limits {
        connections: 2,
        header: Duration::from_millis(200),
        ..Limits::default()
    };
    let router = routes::refusing("nobody may".to_owned());
    tokio::spawn(async move {
        let forever = std::future::pending::<()>();
        connections::serve(None, Some((http, router)), limits, forever).await
    });
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // All places are taken by clients that say nothing; each is closed in turn, and this one gets its own.
    // Only the beginning: the whole answer need not come within the time of a connection on a busy machine.
    let mut next = TcpStream::connect(address).await.unwrap();
    next.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(30), next.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go() {
    let http = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = http.local_addr().unwrap();
    let limits = Limits {
        connections: 1,
        connection: Duration::from_millis(300),
        finish: Duration::from_millis(100),
        ..Limits::default()
    };
    // More than the kernel's buffers hold.
    let router = routes::refusing("no".repeat(16 << 20));
    tokio::spawn(async move {
        let forever = std::future::pending::<()>();
        connections::serve(None, Some((http, router)), limits, forever).await
    });
    let mut deaf = TcpStream::connect(address).await.unwrap();
    deaf.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), get(address, "/")).await;
    assert_eq!(answer.unwrap().code, 403);
}

#[tokio::test]
async fn a_huge_header_is_refused() {
    let address = start(sources(Arc::new(OneProbe)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}

fn socket(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sm-api-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder.join("s.sock")
}

#[tokio::test]
async fn the_command_line_reads_over_the_socket_what_the_server_writes() {
    let path = socket("client");
    let listener = bind_socket(&path).unwrap();
    let sources = Arc::new(sources(Arc::new(OneProbe)));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(sources, Some(listener), None, async {
        let _ = stopped.await;
    }));
    let status: answers::Status =
        serde_json::from_value(get_json(&path, "/api/v1/status").await.unwrap()).unwrap();
    assert_eq!(status.view.services["auth"].state, ServiceState::Down);
    let missing = get_json(&path, "/api/v1/incidents/99").await.unwrap_err();
    assert!(matches!(missing, ClientError::NotFound { .. }), "{missing}");

    drop(stop);
    server.await.unwrap().unwrap();
    assert!(!path.exists());
    let gone = get_json(&path, "/api/v1/status").await.unwrap_err();
    assert!(matches!(gone, ClientError::NotRunning { .. }), "{gone}");
    let never = get_json(&path.with_extension("none"), "/")
        .await
        .unwrap_err();
    assert!(never.to_string().contains("smart-monitor run"), "{never}");
    let _ = std::fs::remove_dir_all(path.parent().unwrap());
}

/// Takes one recording, and says what was asked for.
#[derive(Debug, Default)]
struct OneRecording(Mutex<Option<answers::Recording>>);

impl Recordings for OneRecording {
    fn start(&self, path: &Path, size: u64, time: Option<Duration>) -> Result<(), String> {
        let mut one = self.0.lock().unwrap();
        if one.is_some() {
            return Err("one at a time".to_owned());
        }
        *one = Some(answers::Recording {
            file: path.to_owned(),
            signals: 0,
            lost: 0,
            bytes: 0,
            most_bytes: size,
            seconds: 0.0,
            most_seconds: time.map(|time| time.as_secs_f64()),
            over: None,
        });
        Ok(())
    }
    fn progress(&self) -> Option<answers::Recording> {
        self.0.lock().unwrap().clone()
    }
    fn stop(&self) {
        if let Some(one) = self.0.lock().unwrap().as_mut() {
            one.over = Some("asked".to_owned());
        }
    }
}

#[tokio::test]
async fn recordings_are_begun_and_ended_over_the_socket_alone() {
    let (path, recording) = (socket("recording"), "/api/v1/recording");
    let listener = bind_socket(&path).unwrap();
    let http = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = http.local_addr().unwrap();
    let mut sources = sources(Arc::new(OneProbe));
    sources.recordings = Arc::<OneRecording>::default();
    let forever = std::future::pending::<()>();
    tokio::spawn(serve(
        Arc::new(sources),
        Some(listener),
        Some(http),
        forever,
    ));

    for method in ["POST", "DELETE"] {
        let refused = ask(address, method, recording, &[("host", "localhost")]).await;
        assert_eq!(refused.code, 403, "{method}");
        assert!(refused.error().contains("socket"), "{}", refused.body);
    }
    assert_eq!(
        get(address, recording).await.code,
        404,
        "nothing is recorded"
    );
    let send = async |method: Method, body: Value| send_json(&path, method, recording, &body).await;
    for (wrong, word) in [
        (json!({"path": "a.rec"}), "`path`"),
        (json!({"path": "/a.rec", "size": 5}), "`size`"),
        (json!({"path": "/a.rec", "for_seconds": 0}), "`for_seconds`"),
        (json!({"path": "/a.rec", "sise": 5}), "sise"),
        (json!([]), "body"),
    ] {
        let error = send(Method::POST, wrong).await.unwrap_err();
        let bad = matches!(error, ClientError::Refused { code: 400, .. });
        assert!(bad && error.to_string().contains(word), "{error}");
    }
    let long = json!({"path": format!("/{}", "a".repeat(5_000))});
    let error = send(Method::POST, long).await.unwrap_err();
    let large = matches!(error, ClientError::Refused { code: 413, .. });
    assert!(
        large && error.to_string().contains("larger than 4096 bytes"),
        "{error}"
    );
    let wanted = json!({"path": "/a.rec", "for_seconds": 7});
    let begun = send(Method::POST, wanted.clone()).await.unwrap();
    assert_eq!(begun["most_seconds"], json!(7.0));
    assert_eq!(begun["most_bytes"], json!(256 << 20));
    let again = send(Method::POST, wanted).await.unwrap_err();
    assert!(
        matches!(again, ClientError::Refused { code: 409, .. }),
        "{again}"
    );
    assert_eq!(get(address, recording).await.json()["over"], Value::Null);
    let ended = send(Method::DELETE, Value::Null).await.unwrap();
    assert_eq!(ended["over"], "asked");
    let _ = std::fs::remove_dir_all(path.parent().unwrap());
}
