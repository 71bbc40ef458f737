//! A daemon of the bench's own, and the certainty that it goes away.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use smart_monitor::api::answers::{Condition, Health, Incidents, OneIncident, Status};
use smart_monitor::api::client::get_json_blocking;
use smart_monitor::host::signals::Held;
use smart_monitor::host::{Opened as _, procfs};
use smart_monitor::model::{Incident, ProcessKey, ServiceState};

/// How long the daemon may take to observe, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// A private folder that goes away with its owner.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let stem = format!("smart-monitor-bench-{}", std::process::id());
        for attempt in 0..100 {
            let path = std::env::temp_dir().join(format!("{stem}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", path.display()));
                }
            }
        }
        bail!("{stem}-* exist already in the temporary folder; remove them")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// A running daemon. Ends with its owner.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and returns at once.
    pub(crate) fn start(binary: &Path, folder: &Folder, config: &str) -> Result<Self> {
        Self::start_with(binary, folder, config, |_| {})
    }

    /// The same, with a changed command.
    pub(crate) fn start_with(
        binary: &Path,
        folder: &Folder,
        config: &str,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let (file, socket, log) = (
            folder.file("config.toml"),
            folder.file("socket"),
            folder.file("log"),
        );
        std::fs::write(&file, config)?;
        let output = File::create(&log)?;
        let mut command = program(binary);
        command
            .arg("run")
            .arg("--config")
            .arg(file)
            .arg("--state-dir")
            .arg(folder.file("state"))
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        change(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child, socket, log })
    }

    /// Waits until it observes; looks that often.
    pub(crate) fn wait_until_up(&mut self, look: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            let health = self.ask::<Health>("/health");
            if health
                .as_ref()
                .is_ok_and(|health| health.status != Condition::Unhealthy)
            {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(20).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!(
                    "the daemon does not observe ({}; ended: {ended:?}); its last lines:\n{}",
                    health.map_or_else(
                        |error| error.to_string(),
                        |health| health.reasons.join("; ")
                    ),
                    last.join("\n")
                );
            }
            std::thread::sleep(look);
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn status(&self) -> Result<Status> {
        self.ask("/api/v1/status")
    }

    /// The highest number of an incident so far; zero when there is none.
    pub(crate) fn last_incident(&self) -> Result<u64> {
        let incidents: Incidents = self.ask("/api/v1/incidents")?;
        Ok(incidents
            .incidents
            .last()
            .map_or(0, |incident| incident.id.0))
    }

    /// Waits until a service is healthy; its process.
    pub(crate) fn healthy(&self, service: &str) -> Result<ProcessKey> {
        let begin = Instant::now();
        loop {
            let mut services = self.status()?.view.services;
            // It is shown a moment after the daemon is up.
            let view = services.remove(service);
            let healthy = view.as_ref().filter(|it| it.state == ServiceState::Healthy);
            match healthy.and_then(|it| it.service.process) {
                Some(process) => return Ok(process),
                None if begin.elapsed() > PATIENCE => {
                    bail!("service {service} is not healthy: {view:?}")
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Every incident that is kept.
    pub(crate) fn incidents(&self) -> Result<Vec<Incident>> {
        let all: Incidents = self.ask("/api/v1/incidents?limit=100000")?;
        Ok(all.incidents)
    }

    /// One incident. A list of hundreds would keep the daemon busy.
    fn incident(&self, id: u64) -> Option<Incident> {
        let answer: OneIncident = self.ask(&format!("/api/v1/incidents/{id}")).ok()?;
        Some(answer.incident)
    }

    fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(serde_json::from_value(get_json_blocking(
            &self.socket,
            path,
        )?)?)
    }

    /// Waits for an incident to be over.
    pub(crate) fn over(&self, id: u64) -> Result<Incident> {
        let begin = Instant::now();
        loop {
            let incident = self.incident(id);
            match incident {
                Some(incident) if incident.is_over() => return Ok(incident),
                other if begin.elapsed() > PATIENCE => {
                    bail!("incident {id} is not over after {PATIENCE:?}: {other:#?}")
                }
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            let stat = procfs::stat(self.child.id()).context("the daemon is not in /proc")?;
            let held = Held::open(stat.key)?;
            held.terminate()?;
            if !held.wait(PATIENCE)? {
                held.kill()?;
            }
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: cannot end the daemon: {error:#}");
        }
    }
}

/// A program of the bench's own: the daemon, another supervisor, an installer.
#[expect(
    clippy::disallowed_methods,
    reason = "a bench starts what it measures; nothing of the host is touched"
)]
pub(crate) fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(path)
}

/// Kills and reaps every child, until there are none: when one dies, its own become ours.
pub(crate) fn sweep() -> Result<()> {
    let begin = Instant::now();
    loop {
        let own = std::process::id();
        let mut children = procfs::processes()?;
        children.retain(|process| process.parent == own);
        if children.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("these do not die, kill them by hand: {children:?}");
        }
        for child in children {
            if let Ok(held) = Held::open(child.key) {
                let _gone = held.kill();
                let _later = held.wait(Duration::from_millis(500));
                held.reap();
            }
        }
    }
}
