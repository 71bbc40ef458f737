//! `kind = "pid_file"`: programs that put themselves into the background and write their PID to a file, started and stopped by commands.
//!
//! A file that is there while its process is not means that it ended by itself; no file means that it was stopped. A process that began
//! after the file was written is another one that has its number.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::{Phase, Seen, Source, Spec, Tools};
use crate::config::units::Span;
use crate::host::command::{Ended, Order, Runner};
use crate::host::signals::Held;
use crate::host::{HostError, Opened, clock, procfs};
use crate::model::ProcessKey;

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
/// A file may be dated so much before its process began: both clocks are coarse.
const SLACK: Duration = Duration::from_secs(1);
/// Most of a file that is read, bytes.
const LONGEST: u64 = 64;
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
    services: Mutex<BTreeMap<String, With>>,
}

impl PidFiles {
    fn with(&self, service: &str) -> Result<With, HostError> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let known = services.get(service).cloned();
        known.ok_or_else(|| HostError::NoService(service.to_owned()))
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
}

fn failed(service: &str, why: String) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why,
    }
}

/// What stands in a file, its first bytes at most, and when it was written. Waits for nobody, whatever is at the path.
fn text(file: &Path) -> std::io::Result<(String, Option<SystemTime>)> {
    let mut options = File::options();
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.read(true).custom_flags(nonblock).open(file)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((text, about.modified().ok()))
}

/// The process that a file names, and whether there is such a file.
fn process(file: &Path) -> Result<(Option<ProcessKey>, bool), String> {
    let (text, written) = match text(file) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((None, false)),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    let pid = text.trim().parse::<u32>().ok().filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| {
        let start: String = text.trim().chars().take(40).collect();
        format!("{} has no PID in it, but {start:?}", file.display())
    })?;
    let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
    let stat = procfs::stat(pid).filter(|stat| !stat.exiting);
    let own = stat.filter(|stat| {
        let ran =
            clock::since_boot().saturating_sub(Duration::from_nanos(stat.key.start_time_ns()));
        age.is_none_or(|age| ran + SLACK >= age)
    });
    Ok((own.map(|stat| stat.key), true))
}

impl Source for PidFiles {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let read = services
            .iter()
            .filter_map(|(name, with)| Some((name.clone(), parse(with).ok()?)));
        *self.services.lock().unwrap_or_else(PoisonError::into_inner) = read.collect();
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let with = self.with(service)?;
        let (process, there) = process(&with.file).map_err(|why| failed(service, why))?;
        let phase = match process {
            Some(_) => Phase::Running,
            None if there => Phase::Failed {
                why: format!("{} is there, its process is not", with.file.display()),
                gave_up: false,
            },
            None => Phase::Stopped,
        };
        Ok(Seen {
            phase,
            process,
            cgroup_id: 0,
            healer: None,
        })
    }

    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn restart(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let with = self.with(service)?;
        if let Some(restart) = &with.restart {
            return self.run(service, &with, restart);
        }
        self.stop(service, term_grace)?;
        self.start(service)
    }

    fn stop(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let with = self.with(service)?;
        let (process, _) = process(&with.file).map_err(|why| failed(service, why))?;
        if let Some(process) = process {
            self.end(service, &with, process, term_grace)?;
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

    fn start(&self, service: &str) -> Result<(), HostError> {
        let with = self.with(service)?;
        let start = with.start.as_ref().ok_or_else(|| {
            failed(
                service,
                "its `with` names no `start`, so it cannot be started".to_owned(),
            )
        })?;
        self.run(service, &with, start)
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
