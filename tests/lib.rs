//! Shared by the end-to-end tests beside this file: a daemon of the test's own, and the certainty that it goes away.
//!
//! A [`Site`] is a private folder with everything one daemon needs: state, socket, port, configuration, log. When it is dropped, every
//! process that came of it is ended, found by the state folder in its environment. Touches nothing else of the host.

#[expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "what it holds is its own, and a test that panics has failed"
)]
pub mod lab;
pub mod restraints;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use smart_monitor::api::answers::{Health, Incidents, Status};
use smart_monitor::api::client::get_json_blocking;
use smart_monitor::host::signals::Held;
use smart_monitor::host::{Opened as _, procfs};
use smart_monitor::model::{Incident, ProcessKey, ServiceState};
use smart_monitor::simulate::fault_client;

/// Far longer than anything here takes; what runs into it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary: the one in `SMART_MONITOR_BIN`, or else what `cargo xtask build` left in this checkout.
pub fn binary() -> Result<PathBuf> {
    let named = std::env::var_os("SMART_MONITOR_BIN").map(PathBuf::from);
    let built = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/release/smart-monitor"
    );
    let path = named.unwrap_or_else(|| built.into());
    let path = path.canonicalize().with_context(|| {
        let path = path.display();
        format!("no daemon at {path}: run `cargo xtask build`, or set SMART_MONITOR_BIN")
    })?;
    Ok(path)
}

/// The binary for tests that need neither root nor kernel programs: the one in `SMART_MONITOR_BIN`, or else the one of this checkout,
/// brought up to date by the cargo that runs the test.
pub fn built() -> Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if let Some(path) = std::env::var_os("SMART_MONITOR_BIN") {
            return Ok(path.into());
        }
        let cargo = std::env::var_os("CARGO").context("run by cargo, or with SMART_MONITOR_BIN")?;
        let mut build = program(cargo);
        build.args(["build", "--quiet", "--package", "monitor-userspace"]);
        build.args(["--bin", "smart-monitor", "--message-format", "json"]);
        let output = build.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "smart-monitor does not build");
        let messages = String::from_utf8(output.stdout)?;
        let mut messages = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let path = messages.find_map(|message| {
            let path = message.get("executable")?.as_str()?;
            Some(PathBuf::from(path))
        });
        path.context("cargo does not name the binary")
    });
    match built {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error:#}"),
    }
}

/// A program of the test's own.
#[expect(
    clippy::disallowed_methods,
    reason = "tests start the daemon, and the processes that it sees"
)]
pub fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(path)
}

/// Whether this process, and what it starts, may make itself a less likely victim of the kernel's OOM killer: `CAP_SYS_RESOURCE`, bit 24.
pub fn may_lower_oom_score() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mut lines = status.lines();
    let held = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let held = u64::from_str_radix(held.context("no CapEff in /proc/self/status")?.trim(), 16)?;
    Ok(held & (1 << 24) != 0)
}

/// Looks until there is something, or fails.
pub fn wait_until<T>(
    within: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(
            Instant::now() < deadline,
            "waited {within:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A loopback port that nobody listens on, different each time.
pub fn free_port() -> Result<SocketAddr> {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if !given.contains(&address.port()) {
            given.push(address.port());
            return Ok(address);
        }
    }
}

/// `GET` over TCP: status and body.
pub fn http_get(at: SocketAddr, path: &str) -> Result<(u16, String)> {
    http_send("GET", at, path, "")
}

/// Any request over TCP: status and body.
pub fn http_send(method: &str, at: SocketAddr, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let code = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((code, body.to_owned()))
}

/// Everything one daemon needs. One at a time: they share two cores and one kernel.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    /// Where its exporter and API listen.
    pub http: SocketAddr,
    /// Lines that are added to `[daemon]`.
    pub daemon_lines: String,
    mounted: bool,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    /// A new one; waits until no other test has one.
    pub fn new() -> Result<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            rustix::process::geteuid().is_root(),
            "the live tests need root: cargo xtask test --live, or sudo"
        );
        let folder = new_folder()?;
        let http = free_port()?;
        let daemon_lines = String::new();
        Ok(Self {
            folder,
            http,
            daemon_lines,
            mounted: false,
            _alone: alone,
        })
    }

    /// A path within its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The daemon's state folder.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// Writes the configuration: this text after a `[daemon]` table for this place.
    pub fn configure(&self, text: &str) -> Result<()> {
        let daemon = format!(
            "[daemon]\nstate_dir = \"{}\"\nsocket = \"{}\"\nhttp = \"{}\"\nstop_grace = \"2s\"\ndiscover = false\n{}\n",
            self.state().display(),
            self.socket().display(),
            self.http,
            self.daemon_lines,
        );
        Ok(fs::write(self.config(), daemon + text)?)
    }

    /// Writes an executable script, of which the kernel says this name.
    pub fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        // Renamed into its place: a running one is not changed.
        let new = self.path("script.new");
        fs::write(&new, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(new, &path)?;
        Ok(path)
    }

    /// Puts a small file system of its own in the place of the state folder.
    pub fn mount_state(&mut self, size: &str) -> Result<()> {
        fs::create_dir_all(self.state())?;
        let mut mount = program("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(self.state());
        ensure!(mount.status()?.success(), "cannot mount a tmpfs");
        self.mounted = true;
        Ok(())
    }

    /// The command that runs a daemon here.
    pub fn command(&self) -> Result<Command> {
        let mut command = program(binary()?);
        command.arg("run").arg("--config").arg(self.config());
        // What it says about its own mistakes must not depend on the caller's wishes.
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        Ok(command)
    }

    /// Starts a daemon and waits until it observes.
    pub fn start(&self) -> Result<Daemon> {
        self.start_with(|_| {})
    }

    /// The same, with a changed command.
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Result<Daemon> {
        let number = (1..=u32::MAX).find(|n| !self.path(&format!("{n}.log")).exists());
        let log = self.path(&format!("{}.log", number.unwrap_or(0)));
        let output = File::create(&log)?;
        let mut command = self.command()?;
        command.stdout(output.try_clone()?).stderr(output);
        change(&mut command);
        let child = command.spawn().context("cannot start the daemon")?;
        let (socket, http) = (self.socket(), self.http);
        let mut daemon = Daemon {
            child,
            socket,
            http,
            log,
        };
        daemon.wait_for("that it observes", |daemon| {
            let up = daemon.log().contains(" observing ") && daemon.health().is_ok();
            up.then_some(())
        })?;
        Ok(daemon)
    }

    /// Runs a daemon that must end by itself.
    pub fn run_to_its_end(&self, change: impl FnOnce(&mut Command)) -> Result<Output> {
        let mut command = self.command()?;
        change(&mut command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the daemon")?;
        let ended = wait_until(PATIENCE, "the daemon ends by itself", || {
            child.try_wait().ok().flatten()
        });
        if ended.is_err() {
            child.kill()?;
        }
        let output = child.wait_with_output()?;
        ended.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(output)
    }

    /// The journal: its lines, oldest first.
    pub fn journal(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.state().join("journal.jsonl"))?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// Processes of services that daemons of this place started, zombies left out: by service.
    pub fn running(&self) -> Result<BTreeMap<String, Vec<ProcessKey>>> {
        let mine = format!("SMART_MONITOR_STATE_DIR={}", self.state().display());
        let mut running: BTreeMap<String, Vec<ProcessKey>> = BTreeMap::new();
        for stat in procfs::processes()?.iter().filter(|stat| stat.state != 'Z') {
            let environ = fs::read(format!("/proc/{}/environ", stat.key.pid)).unwrap_or_default();
            let mut pairs = environ.split(|byte| *byte == 0);
            if !pairs.any(|pair| pair == mine.as_bytes()) {
                continue;
            }
            let mut pairs = environ.split(|byte| *byte == 0);
            let name = pairs.find_map(|pair| pair.strip_prefix(b"SMART_MONITOR_SERVICE="));
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            running.entry(name).or_default().push(stat.key);
        }
        Ok(running)
    }

    fn clean_up(&self) -> Result<()> {
        // A service may be starting another process just now.
        wait_until(PATIENCE, "its processes are gone", || {
            let running = self.running().ok()?;
            for process in running.values().flatten() {
                if let Ok(held) = Held::open(*process) {
                    let _gone = held.kill();
                    let _later = held.wait(PATIENCE);
                }
            }
            running.is_empty().then_some(())
        })?;
        if self.mounted {
            let unmounted = program("umount").arg(self.state()).status()?;
            ensure!(unmounted.success(), "cannot unmount the state folder");
        }
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = self.clean_up() {
            eprintln!("cannot clean up {}: {error:#}", self.folder.display());
        }
    }
}

fn new_folder() -> Result<PathBuf> {
    let stem = format!("smart-monitor-test-{}", std::process::id());
    for attempt in 0..1000 {
        let path = std::env::temp_dir().join(format!("{stem}-{attempt}"));
        // Others may look in: some tests run as another user.
        match DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
        }
    }
    bail!("{stem}-* exist already in the temporary folder; remove them")
}

/// A running daemon. Killed with its owner; what it started ends with its [`Site`].
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    http: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Its process.
    pub fn process(&self) -> Result<ProcessKey> {
        let stat = procfs::stat(self.child.id()).context("the daemon is not in /proc")?;
        Ok(stat.key)
    }

    /// Waits for something; fails with the daemon's last words.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let mut ended = None;
        let found = wait_until(PATIENCE, what, || {
            let found = look(self);
            if found.is_none() {
                ended = self.child.try_wait().ok().flatten();
            }
            found.map(Some).or_else(|| ended.map(|_| None))
        });
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("the daemon ended ({ended:?}); {}", self.last_words()),
            Err(error) => bail!("{error}; {}", self.last_words()),
        }
    }

    /// The end of its log, and what it knows.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        let knows = self.incidents().map(|all| format!("{all:#?}"));
        format!(
            "the end of its log:\n{}\nits incidents: {}",
            lines.join("\n"),
            knows.unwrap_or_default()
        )
    }

    /// What it has said so far, and its services with it.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `GET` over its socket.
    pub fn ask<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(serde_json::from_value(get_json_blocking(
            &self.socket,
            path,
        )?)?)
    }

    /// `/health`, over its socket.
    pub fn health(&self) -> Result<Health> {
        self.ask("/health")
    }

    /// `/api/v1/status`, over its socket.
    pub fn status(&self) -> Result<Status> {
        self.ask("/api/v1/status")
    }

    /// Its incidents, oldest first.
    pub fn incidents(&self) -> Result<Vec<Incident>> {
        let all: Incidents = self.ask("/api/v1/incidents?limit=1000")?;
        Ok(all.incidents)
    }

    /// Over TCP, as others see it.
    pub fn get(&self, path: &str) -> Result<Value> {
        let (code, body) = http_get(self.http, path)?;
        ensure!(code == 200, "{path}: status {code}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Sum of a metric over all label sets that contain this text.
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let (code, page) = http_get(self.http, "/metrics")?;
        ensure!(code == 200, "/metrics: status {code}");
        let mut sum = 0.0;
        for line in page
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(labels))
        {
            let value = line.rsplit(' ').next().unwrap_or_default();
            sum += value
                .parse::<f64>()
                .with_context(|| format!("no number in: {line}"))?;
        }
        Ok(sum)
    }

    /// A service's process, if it runs.
    pub fn service(&self, name: &str) -> Option<ProcessKey> {
        let mut services = self.status().ok()?.view.services;
        services.remove(name)?.service.process
    }

    /// Waits until a service is healthy.
    pub fn healthy(&mut self, name: &str) -> Result<ProcessKey> {
        self.wait_for(&format!("{name} is healthy"), |daemon| {
            let view = daemon.status().ok()?.view.services.remove(name)?;
            (view.state == ServiceState::Healthy)
                .then_some(view.service.process)
                .flatten()
        })
    }

    /// Waits for an incident.
    pub fn incident(&mut self, what: &str, is: impl Fn(&Incident) -> bool) -> Result<Incident> {
        self.wait_for(what, |daemon| {
            daemon.incidents().ok()?.into_iter().find(&is)
        })
    }

    /// Waits until it has said this.
    pub fn says(&mut self, text: &str) -> Result<()> {
        let what = format!("the log says `{text}`");
        self.wait_for(&what, |daemon| daemon.log().contains(text).then_some(()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        send(self.process()?, signal)
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.said_nothing_unseemly()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        self.ended()
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = wait_until(PATIENCE, "the daemon ends", || {
            child.try_wait().ok().flatten()
        });
        let status = ended.with_context(|| self.last_words())?;
        self.said_nothing_unseemly()?;
        Ok(status)
    }

    fn said_nothing_unseemly(&self) -> Result<()> {
        let log = self.log();
        ensure!(!log.contains("panicked"), "the daemon panicked:\n{log}");
        ensure!(
            !log.contains("stack backtrace"),
            "a back trace is no message:\n{log}"
        );
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Sends a signal to a process that the test started, or that came of it.
pub fn send(process: ProcessKey, signal: rustix::process::Signal) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.pid)?).context("no process")?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    ensure!(
        procfs::runs(process),
        "{process} is not the process that was meant"
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "tests do to theirs what users do"
    )]
    rustix::process::pidfd_send_signal(&pidfd, signal)?;
    Ok(())
}

/// A simulated service of the configuration.
#[derive(Debug)]
pub struct Simulated {
    /// Its name.
    pub name: &'static str,
    /// Where it listens.
    pub at: SocketAddr,
}

impl Simulated {
    /// On a port of its own.
    pub fn new(name: &'static str) -> Result<Self> {
        let at = free_port()?;
        Ok(Self { name, at })
    }

    /// Its `[[service]]`, with a quick check.
    pub fn toml(&self) -> String {
        self.toml_with("")
    }

    /// The same, with more lines before its check.
    pub fn toml_with(&self, lines: &str) -> String {
        let Self { name, at } = self;
        format!(
            r#"
[[service]]
name = "{name}"
kind = "command"
command = ["smart-monitor", "simulate", "--name", "{name}", "--listen", "{at}"]
listen = ["{at}"]
{lines}
[service.check]
http = "http://{at}/health"
interval = "100ms"
timeout = "500ms"
"#
        )
    }

    /// Makes it misbehave.
    pub fn fault(&self, kind: &str, settings: &[(&str, &str)]) -> Result<()> {
        let owned = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        fault_client::inject(self.at, kind, &owned.collect())?;
        Ok(())
    }
}

/// The name of a file, for messages and names.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
