//! What Docker and podman are asked over their socket: the Engine API, of which podman speaks the same. Paths have no version in them, which
//! every engine takes as its own newest; versions that one knows and another refuses are so never a matter.
//!
//! Everything has a bound: 1 MiB of an answer, 64 KiB of an event, and the caller's time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::task::JoinSet;

/// Where they listen, the first that is there.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];
/// Users whose podman is looked for.
const USERS: usize = 64;
/// Most of an answer that is read, bytes.
const BODY: usize = 1 << 20;
/// Longest event that is read, bytes.
const EVENT: usize = 64 << 10;
/// Longest part of what an engine says that is told on, characters.
const SAID: usize = 300;

/// Which socket to use: the one that is named, or else the first one that is there.
pub fn socket(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let mut usual = SOCKETS.into_iter().map(Path::new);
    let found = usual.find(|path| path.exists()).map(Path::to_owned);
    found.ok_or_else(|| {
        format!(
            "neither {} nor {} is there: is the engine running, and its socket enabled? `socket` names another",
            SOCKETS[0], SOCKETS[1]
        )
    })
}

/// The sockets of engines that are there: the usual ones, and those of users who run podman themselves.
pub fn sockets() -> Vec<PathBuf> {
    let users = std::fs::read_dir("/run/user").into_iter().flatten();
    let users = users.filter_map(|user| Some(user.ok()?.path().join("podman/podman.sock")));
    let all = SOCKETS
        .into_iter()
        .map(PathBuf::from)
        .chain(users.take(USERS));
    all.filter(|path| path.exists()).collect()
}

/// A container that runs, as a list of them has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// 64 hexadecimal digits.
    pub id: Option<String>,
    /// Its names, each after a slash.
    pub names: Option<Vec<String>>,
    /// From which image.
    pub image: Option<String>,
    /// Ports of it, and what they are on the host.
    pub ports: Option<Vec<Port>>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// The host's address that leads to it.
    #[serde(rename = "IP")]
    pub ip: Option<String>,
    /// The host's port that leads to it.
    pub public_port: Option<u16>,
    /// `tcp`, `udp`.
    #[serde(rename = "Type")]
    pub kind: Option<String>,
}

/// The containers that run.
pub async fn list(socket: &Path) -> Result<Vec<Listed>, String> {
    let answer = ask(socket, Method::GET, "/containers/json").await?;
    if answer.status != 200 {
        return Err(answer.why());
    }
    let read = serde_json::from_slice(&answer.body);
    read.map_err(|error| format!("its list of containers makes no sense: {error}"))
}

/// Whether a container can be called so: engines allow nothing that would have to be written otherwise in a path.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}

/// An engine's answer.
#[derive(Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// It is podman that answers.
    pub podman: bool,
    body: Vec<u8>,
}

impl Answer {
    /// What it says went wrong.
    pub fn why(&self) -> String {
        #[derive(Deserialize)]
        struct Wrong {
            message: Option<String>,
            cause: Option<String>,
        }
        let said = serde_json::from_slice::<Wrong>(&self.body).ok();
        let said = said.and_then(|said| said.message.or(said.cause));
        let said = said.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned());
        let said = said.trim().escape_debug().take(SAID).collect::<String>();
        format!("it answered with status {}: {said}", self.status)
    }
}

/// A container, as far as it is needed. Engines leave out what is empty, or write `null`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: Option<String>,
    /// Where it is in its life.
    pub state: Option<State>,
    /// Times that the engine started it anew by itself, since somebody started it.
    pub restart_count: Option<i64>,
    /// How the engine runs it.
    pub host_config: Option<HostConfig>,
    /// What it was made with.
    pub config: Option<Made>,
}

/// `State` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `running`, `exited`, ...
    pub status: Option<String>,
    /// Its first process; 0 for none.
    pub pid: Option<u32>,
    /// As a shell has it: 128 and the number of the signal where one ended it.
    pub exit_code: Option<i64>,
    /// The kernel killed in it for lack of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: Option<bool>,
    /// Why it could not be started.
    pub error: Option<String>,
    /// When it was started last, RFC 3339.
    pub started_at: Option<String>,
    /// When it ended last; year 1 for never.
    pub finished_at: Option<String>,
    /// What its health check says.
    pub health: Option<Health>,
    /// Somebody had it stopped. Of podman since 4.7, in its own API only.
    pub stopped_by_user: Option<bool>,
}

/// `State.Health` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`; `none` or nothing where it has no health check.
    pub status: Option<String>,
    /// Failures in a row.
    pub failing_streak: Option<u32>,
    /// The last runs, oldest first.
    pub log: Option<Vec<Run>>,
}

/// A run of a container's health check.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Run {
    /// Of the program.
    pub exit_code: Option<i64>,
    /// What it wrote.
    pub output: Option<String>,
}

/// `HostConfig` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// When the engine starts it anew.
    pub restart_policy: Option<RestartPolicy>,
}

/// See [`HostConfig`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`, or nothing.
    pub name: Option<String>,
    /// Of `on-failure`: so often at most; 0 for no limit.
    pub maximum_retry_count: Option<i64>,
}

/// `Config` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Made {
    /// What ends it in good order: a name in Docker, a number in podman.
    pub stop_signal: Option<serde_json::Value>,
    /// From which image.
    pub image: Option<String>,
}

/// Something that happened to a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Event {
    /// `kill`, `die`, `start`, ...
    #[serde(rename = "Action")]
    pub action: Option<String>,
    /// To whom.
    #[serde(rename = "Actor")]
    pub actor: Option<Actor>,
    /// When, nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: Option<i64>,
}

/// See [`Event`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Actor {
    /// What is said of it.
    #[serde(rename = "Attributes")]
    pub attributes: Option<Attributes>,
}

/// See [`Actor`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Attributes {
    /// The container's name.
    pub name: Option<String>,
    /// The number of the signal, of `kill`, from Docker.
    pub signal: Option<String>,
}

/// A container; none when there is none of this name. With it, whether the engine is podman.
pub async fn inspect(socket: &Path, name: &str) -> Result<(Option<Container>, bool), String> {
    let answer = ask(socket, Method::GET, &format!("/containers/{name}/json")).await?;
    if answer.status == 404 {
        return Ok((None, answer.podman));
    }
    if answer.status != 200 {
        return Err(answer.why());
    }
    let read = serde_json::from_slice(&answer.body);
    let container: Container =
        read.map_err(|error| format!("what it says of {name} makes no sense: {error}"))?;
    Ok((Some(container), answer.podman))
}

/// Whether somebody had a container stopped, as podman 4.7 and later say; none where it does not say.
pub async fn stopped_by_user(socket: &Path, name: &str) -> Result<Option<bool>, String> {
    let answer = ask(
        socket,
        Method::GET,
        &format!("/v4.0.0/libpod/containers/{name}/json"),
    )
    .await?;
    let read = serde_json::from_slice::<Container>(&answer.body).ok();
    let state = read.and_then(|container| container.state);
    Ok(state.and_then(|state| state.stopped_by_user))
}

/// Asks an engine for anything.
pub async fn ask(socket: &Path, method: Method, path: &str) -> Result<Answer, String> {
    let mut driver = JoinSet::new();
    let response = send(socket, method, path, &mut driver).await?;
    let (status, podman) = (response.status().as_u16(), is_podman(&response));
    let read = Limited::new(response.into_body(), BODY).collect().await;
    let body = read
        .map_err(|error| format!("its answer breaks off or has more than {BODY} bytes: {error}"))?;
    Ok(Answer {
        status,
        podman,
        body: body.to_bytes().to_vec(),
    })
}

/// Hears what happens to containers from a time on (nanoseconds since 1970), until the engine goes away: why. `begun` once it listens.
pub async fn events(
    socket: &Path,
    since: i64,
    begun: impl FnOnce(),
    mut heard: impl FnMut(&Event),
) -> Result<(), String> {
    let mut driver = JoinSet::new();
    let (seconds, nanos) = (since / 1_000_000_000, since % 1_000_000_000);
    // {"type":["container"]}
    let path = format!(
        "/events?since={seconds}.{nanos:09}&filters=%7B%22type%22%3A%5B%22container%22%5D%7D"
    );
    let response = send(socket, Method::GET, &path, &mut driver).await?;
    if response.status() != 200 {
        return Err(format!(
            "it tells of no events: status {}",
            response.status()
        ));
    }
    begun();
    let mut body = response.into_body();
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("its events break off: {error}"))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        lines.take(&bytes, |line| match serde_json::from_slice(line) {
            Ok(event) => heard(&event),
            Err(error) => tracing::warn!(%error, "an event of a container engine makes no sense"),
        });
    }
    Err("its events ended".to_owned())
}

/// Bytes to lines, each of bounded length.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    /// What comes until the next line feed belongs to one that is too long.
    skip: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.skip && self.rest.len().saturating_add(part.len()) <= EVENT {
                self.rest.extend_from_slice(part);
            } else if !self.skip {
                tracing::warn!(
                    "an event of a container engine is longer than {EVENT} bytes: passed over"
                );
                self.skip = true;
                self.rest.clear();
            }
            if part.ends_with(b"\n") {
                if !self.rest.trim_ascii().is_empty() {
                    line(self.rest.trim_ascii());
                }
                self.rest.clear();
                self.skip = false;
            }
        }
    }
}

fn is_podman(response: &Response<Incoming>) -> bool {
    response.headers().contains_key("libpod-api-version")
}

/// Sends a request on a connection of its own, which ends with `driver`.
async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    driver: &mut JoinSet<Result<(), hyper::Error>>,
) -> Result<Response<Incoming>, String> {
    let at = |what: &str, error: &dyn std::fmt::Display| {
        let mut why = format!("{what} {}", socket.display());
        let _ = write!(why, ": {error}");
        why
    };
    let stream = tokio::net::UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| at("cannot connect to", &error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| at("no HTTP at", &error))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| at("cannot ask", &error))?;
    driver.spawn(connection);
    let sent = sender.send_request(request).await;
    sent.map_err(|error| at("no answer from", &error))
}

/// Waits for what is asked on a thread that may wait, for so long at most.
pub fn block<T>(
    within: Duration,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot wait for an answer: {error}"))?;
    let late = || format!("no answer within {within:?}");
    runtime.block_on(async {
        tokio::time::timeout(within, asked)
            .await
            .map_err(|_| late())?
    })
}

#[cfg(test)]
#[path = "containers/tests.rs"]
mod tests;
