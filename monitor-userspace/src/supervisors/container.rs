//! `kind = "container"`: containers of Docker or podman, asked and told over the engine's socket.
//!
//! Ends are seen at once (pidfd) and then explained by the engine: its events say who was told to end (`events`), its description how it
//! ended (`meaning`). What it starts anew by itself (its restart policy) is left to it for as long as that may take.

mod discover;
mod events;
mod meaning;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;

use super::{Nudge, Phase, Seen, Source, Spec, Tools};
use crate::host::cgroup::{Hierarchy, place};
use crate::host::containers::{self, Container};
use crate::host::{HostError, clock, procfs};
use events::Stream;
use meaning::Facts;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "container",
    summary: "a container of Docker or podman, over the engine's socket",
    read: Some(read),
    source: Some(source),
    discover: Some(discover::discover),
};

/// How long the engine may take to say how a container is.
const LOOK: Duration = Duration::from_secs(2);
/// How long it may take for what it is told, beside the time that the container has to end.
const ACT: Duration = Duration::from_secs(30);
/// How often to look although the engine tells of changes.
const SELDOM: Duration = Duration::from_secs(30);
/// How often where it does not tell of a stop (podman before 4.7): one that takes longer is seen under way.
const OFTEN: Duration = Duration::from_millis(500);

/// `with` of such a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// The container; called as the service is when none.
    name: Option<String>,
    /// The engine's socket; Docker's when none, or else podman's.
    socket: Option<PathBuf>,
}

fn read(service: &str, with: &toml::Table) -> Result<Vec<String>, String> {
    let (name, socket) = parse(service, with)?;
    let mut words = vec![name];
    words.extend(socket.map(|socket| socket.display().to_string()));
    Ok(words)
}

fn parse(service: &str, with: &toml::Table) -> Result<(String, Option<PathBuf>), String> {
    let with = With::deserialize(with.clone()).map_err(|error| error.message().to_owned())?;
    let name = with.name.unwrap_or_else(|| service.to_owned());
    if !containers::is_name(&name) {
        return Err(format!(
            "no container can be called {name:?}: `name` is one as `docker ps` shows it"
        ));
    }
    if with
        .socket
        .as_ref()
        .is_some_and(|socket| !socket.is_absolute())
    {
        return Err("`socket` must be an absolute path".to_owned());
    }
    Ok((name, with.socket))
}

fn source(tools: Tools) -> Arc<dyn Source> {
    Arc::new(Containers {
        nudge: tools.nudge,
        services: Mutex::default(),
        says_little: AtomicBool::new(false),
    })
}

#[derive(Debug)]
struct Containers {
    nudge: Nudge,
    services: Mutex<BTreeMap<String, One>>,
    /// An engine does not say whether a container that ended was stopped.
    says_little: AtomicBool,
}

/// A container of the configuration.
#[derive(Clone, Debug)]
struct One {
    name: String,
    /// Its engine's events.
    stream: Arc<Stream>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(service: &str, why: String) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why,
    }
}

impl Containers {
    fn one(&self, service: &str) -> Result<One, HostError> {
        let known = lock(&self.services).get(service).cloned();
        known.ok_or_else(|| HostError::NoService(service.to_owned()))
    }

    /// Tells the engine to do something with a container, and waits until it has.
    fn tell(&self, service: &str, what: &str, within: Duration) -> Result<(), HostError> {
        let one = self.one(service)?;
        let path = format!("/containers/{}/{what}", one.name);
        let asked = one.stream.socket().and_then(|socket| {
            containers::block(within, containers::ask(&socket, Method::POST, &path))
        });
        let answer = asked.map_err(|why| failed(service, why))?;
        match answer.status {
            // 304: it was so already.
            200..=299 | 304 => Ok(()),
            _ => Err(failed(service, answer.why())),
        }
    }

    fn see(&self, one: &One) -> Result<Seen, String> {
        let socket = one.stream.socket()?;
        let (found, podman, stopped) = containers::block(LOOK, async {
            let (found, podman) = containers::inspect(&socket, &one.name).await?;
            let over = found.as_ref().is_some_and(meaning::is_over);
            let stopped = if over && podman {
                containers::stopped_by_user(&socket, &one.name).await?
            } else {
                None
            };
            Ok((found, podman, stopped))
        })?;
        let Some(container) = found else {
            if !one.stream.word(&one.name).there {
                let at = socket.display();
                return Err(format!(
                    "the engine at {at} has no container called {}",
                    one.name
                ));
            }
            // Whoever removes one wants it gone.
            return Ok(Seen {
                phase: Phase::Stopped,
                process: None,
                cgroup_id: 0,
                healer: None,
            });
        };
        if podman && stopped.is_none() && meaning::is_over(&container) {
            self.says_little.store(true, Ordering::Relaxed);
        }
        one.stream
            .found(&one.name, meaning::is_stopping(&container));
        let state = container.state.as_ref();
        let pid = state.and_then(|state| state.pid).filter(|pid| *pid != 0);
        let process = pid.and_then(procfs::stat).map(|stat| stat.key);
        let facts = Facts {
            container: &container,
            podman,
            stopped_by_user: stopped,
            runs: process.is_some(),
            listening: one.stream.listening(),
            word: &one.stream.word(&one.name),
            now: clock::unix_nanos(),
        };
        Ok(Seen {
            phase: facts.phase()?,
            healer: facts.healer(),
            process,
            cgroup_id: pid.map_or(0, |pid| own_cgroup(pid, &container)),
        })
    }
}

/// The number of the cgroup that bears the container's id; 0 where there is none, as where it was started without.
fn own_cgroup(pid: u32, container: &Container) -> u64 {
    let id = container.id.as_deref().filter(|id| id.len() == 64);
    let found = id.zip(place(Hierarchy::V2, pid)).and_then(|(id, path)| {
        let named = |path: &&Path| {
            let name = path.file_name().map(|name| name.to_string_lossy());
            name.is_some_and(|name| name.contains(id))
        };
        std::fs::metadata(path.ancestors().find(named)?).ok()
    });
    found.map_or(0, |found| found.ino())
}

/// `t` of the API: whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Source for Containers {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let mut known = lock(&self.services);
        let mut streams: BTreeMap<Option<PathBuf>, Arc<Stream>> = BTreeMap::new();
        for one in known.values() {
            streams.insert(one.stream.named().cloned(), Arc::clone(&one.stream));
        }
        let read = services
            .iter()
            .filter_map(|(service, with)| Some((service, parse(service, with).ok()?)));
        let read = read.map(|(service, (name, socket))| {
            let stream = streams
                .entry(socket.clone())
                .or_insert_with(|| Stream::new(socket));
            let stream = Arc::clone(stream);
            (service.clone(), One { name, stream })
        });
        *known = read.collect();
        for stream in streams.values() {
            let own = known
                .iter()
                .filter(|(_, one)| Arc::ptr_eq(&one.stream, stream));
            let own: Vec<_> = own
                .map(|(service, one)| (one.name.clone(), service.clone()))
                .collect();
            stream.follow(own, &self.nudge);
        }
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let one = self.one(service)?;
        self.see(&one).map_err(|why| failed(service, why))
    }

    fn every(&self) -> Option<Duration> {
        let often = self.says_little.load(Ordering::Relaxed);
        Some(if often { OFTEN } else { SELDOM })
    }

    fn restart(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let what = format!("restart?t={}", seconds(term_grace));
        self.tell(service, &what, term_grace + ACT)
    }

    fn stop(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let one = self.one(service)?;
        let what = format!("stop?t={}", seconds(term_grace));
        self.tell(service, &what, term_grace + ACT)?;
        one.stream.stopped(&one.name);
        Ok(())
    }

    fn start(&self, service: &str) -> Result<(), HostError> {
        self.tell(service, "start", ACT)
    }

    fn reload(&self, service: &str) -> Result<Option<String>, HostError> {
        let why = "an engine has no word for that: `reload` can name a signal".to_owned();
        Err(failed(service, why))
    }
}

#[cfg(test)]
#[path = "container/tests.rs"]
mod tests;
