//! `kind = "pid_file"`: programs that put themselves into the background and write their PID to a file, started and stopped by commands.
//!
//! A file that stays there while its process is not means that it ended by itself; no file means that it was stopped, unless it was ended
//! here to be started anew (`memory`). A process that began after the file was written is another one that has its number (`file`).

mod file;
mod memory;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Seen, Source, Spec, Tools};
use crate::config::units::Span;
use crate::host::command::{Ended, Order, Runner};
use crate::host::signals::Held;
use crate::host::{HostError, Opened};
use crate::model::ProcessKey;
use file::Found;
use memory::Memory;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "pid_file",
    summary: "a program in the background that writes its PID to a file, started and stopped by commands",
    read: Some(read),
    source: Some(source),
    discover: None,
};

/// How often the files are read.
const EVERY: Duration = Duration::from_millis(500);
/// How long a process may take to die of SIGKILL.
const DYING: Duration = Duration::from_secs(10);

/// `with` of such a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// The file.
    file: PathBuf,
    /// Program and arguments that start it.
    start: Option<Vec<String>>,
    /// Those that stop it; SIGTERM, then SIGKILL, when none.
    stop: Option<Vec<String>>,
    /// Those that start it anew; `stop`, then `start`, when none.
    restart: Option<Vec<String>>,
    /// Those that have it read its configuration again.
    reload: Option<Vec<String>>,
    /// How long each of them may take.
    #[serde(default = "timeout")]
    timeout: Span,
}

const fn timeout() -> Span {
    Span::seconds(60)
}

fn read(_: &str, with: &toml::Table) -> Result<Vec<String>, String> {
    let with = parse(with)?;
    if !with.file.is_absolute() {
        return Err("`file` must be an absolute path".to_owned());
    }
    let commands = [&with.start, &with.stop, &with.restart, &with.reload];
    let empty = |command: &&Vec<String>| command.first().is_none_or(String::is_empty);
    if commands
        .into_iter()
        .flatten()
        .any(|command| empty(&command))
    {
        return Err("a command is empty".to_owned());
    }
    let mut words = vec![with.file.display().to_string()];
    words.extend(with.restart.or(with.start).into_iter().flatten());
    Ok(words)
}

fn parse(with: &toml::Table) -> Result<With, String> {
    let read = With::deserialize(with.clone());
    read.map_err(|error| error.message().to_owned())
}

fn source(tools: Tools) -> Arc<dyn Source> {
    Arc::new(PidFiles {
        runner: tools.runner,
        services: Mutex::default(),
    })
}

#[derive(Debug)]
struct PidFiles {
    runner: Arc<Runner>,
    services: Mutex<BTreeMap<String, Known>>,
}

/// A service, and what was seen of it.
#[derive(Clone, Debug)]
struct Known {
    with: With,
    memory: Memory,
}

impl PidFiles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, service: &str) -> Result<Known, HostError> {
        let known = self.lock().get(service).cloned();
        known.ok_or_else(|| HostError::NoService(service.to_owned()))
    }

    fn with(&self, service: &str) -> Result<With, HostError> {
        Ok(self.known(service)?.with)
    }

    fn remember(&self, service: &str, change: impl FnOnce(&mut Memory)) {
        if let Some(known) = self.lock().get_mut(service) {
            change(&mut known.memory);
        }
    }

    /// What its file says.
    fn find(&self, service: &str) -> Result<Found, HostError> {
        let known = self.known(service)?;
        let found = file::find(&known.with.file, known.memory.ran.as_ref());
        found.map_err(|why| failed(service, why))
    }

    fn run(&self, service: &str, with: &With, command: &[String]) -> Result<(), HostError> {
        let finished = self.runner.launch(&Order {
            command: command.to_vec(),
            timeout: with.timeout.0,
            ..Order::default()
        })?;
        if finished.status == 0 && finished.ended.is_none() {
            return Ok(());
        }
        let why = match finished.ended {
            Some(Ended::Time) => format!(
                "{command:?} took longer than {} and was ended: it must put the program into the background and end",
                with.timeout
            ),
            _ => format!(
                "{command:?} failed (wait status {:#x}): {}{}",
                finished.status, finished.output, finished.errors
            ),
        };
        Err(failed(service, why))
    }
}

impl PidFiles {
    /// Ends its process, by force where it does not end in time.
    fn end(
        &self,
        service: &str,
        with: &With,
        process: ProcessKey,
        term_grace: Duration,
    ) -> Result<(), HostError> {
        let held = Held::open(process)?;
        match &with.stop {
            Some(stop) => self.run(service, with, stop)?,
            None => held.terminate()?,
        }
        if held.wait(term_grace)? {
            return Ok(());
        }
        held.kill()?;
        held.release_memory();
        if held.wait(DYING)? {
            return Ok(());
        }
        let within = DYING;
        Err(HostError::Undying { process, within })
    }

    /// Ends it where it runs, and takes its file away.
    fn take_down(
        &self,
        service: &str,
        with: &With,
        process: Option<ProcessKey>,
        term_grace: Duration,
    ) -> Result<(), HostError> {
        if let Some(process) = process {
            self.end(service, with, process, term_grace)?;
        }
        // One that was ended leaves its file, which would say that it ended by itself.
        match std::fs::remove_file(&with.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let file = with.file.display();
                let why = format!("it is stopped, but {file} cannot be removed: {error}");
                Err(failed(service, why))
            }
            _ => Ok(()),
        }
    }

    fn bring_up(&self, service: &str, with: &With) -> Result<(), HostError> {
        let start = with.start.as_ref().ok_or_else(|| {
            failed(
                service,
                "its `with` names no `start`, so it cannot be started".to_owned(),
            )
        })?;
        self.run(service, with, start)
    }
}

fn failed(service: &str, why: String) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why,
    }
}

/// What went wrong, without who says so.
fn reason(done: &Result<(), HostError>) -> Option<String> {
    match done.as_ref().err()? {
        HostError::Supervisor { why, .. } => Some(why.clone()),
        other => Some(other.to_string()),
    }
}

impl Source for PidFiles {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let mut known = self.lock();
        let mut before = std::mem::take(&mut *known);
        let read = services.iter().filter_map(|(name, with)| {
            let with = parse(with).ok()?;
            let same = before.remove(name).filter(|it| it.with.file == with.file);
            let memory = same.map(|it| it.memory).unwrap_or_default();
            Some((name.clone(), Known { with, memory }))
        });
        *known = read.collect();
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let found = self.find(service)?;
        let mut services = self.lock();
        let known = services.get_mut(service);
        let known = known.ok_or_else(|| HostError::NoService(service.to_owned()))?;
        let phase = known.memory.judge(&known.with.file, &found, Instant::now());
        Ok(Seen {
            phase,
            process: found.process,
            cgroup_id: 0,
            healer: None,
        })
    }

    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn restart(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let with = self.with(service)?;
        let done = if let Some(restart) = &with.restart {
            self.run(service, &with, restart)
        } else {
            let process = self.find(service)?.process;
            self.take_down(service, &with, process, term_grace)
                .and_then(|()| self.bring_up(service, &with))
        };
        self.remember(service, |it| it.awaits(reason(&done), Instant::now()));
        done
    }

    fn stop(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let with = self.with(service)?;
        let process = self.find(service)?.process;
        self.remember(service, Memory::is_unwanted);
        self.take_down(service, &with, process, term_grace)
    }

    fn start(&self, service: &str) -> Result<(), HostError> {
        let with = self.with(service)?;
        let done = self.bring_up(service, &with);
        self.remember(service, |it| {
            it.awaits_still(reason(&done), Instant::now());
        });
        done
    }

    fn reload(&self, service: &str) -> Result<Option<String>, HostError> {
        let with = self.with(service)?;
        let reload = with
            .reload
            .as_ref()
            .ok_or_else(|| failed(service, "its `with` names no `reload`".to_owned()))?;
        let ran = self.run(service, &with, reload);
        Ok(ran.err().map(|error| error.to_string()))
    }
}

#[cfg(test)]
#[path = "pid_file/tests.rs"]
mod tests;
