//! `kind = "pid_file"`: programs that put themselves into the background and write their PID to a file, started and stopped by commands.
//!
//! A file that is there while its process is not means that it ended by itself; no file means that it was stopped. A process that began
//! after the file was written is another one that has its number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

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
};

/// How often the files are read.
const EVERY: Duration = Duration::from_millis(500);
/// A file may be dated so much before its process began: both clocks are coarse.
const SLACK: Duration = Duration::from_secs(1);
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
        let finished = self.runner.run(&Order {
            command: command.to_vec(),
            timeout: with.timeout.0,
            ..Order::default()
        })?;
        if finished.status == 0 && finished.ended.is_none() {
            return Ok(());
        }
        let why = match finished.ended {
            Some(Ended::Time) => format!("{command:?} took longer than {}", with.timeout),
            _ => format!(
                "{command:?} failed (wait status {:#x}): {}{}",
                finished.status, finished.output, finished.errors
            ),
        };
        Err(failed(service, why))
    }
}

fn failed(service: &str, why: String) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why,
    }
}

/// The process that a file names, and whether there is such a file.
fn process(file: &Path) -> Result<(Option<ProcessKey>, bool), String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((None, false)),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    let pid: u32 = text
        .trim()
        .parse()
        .map_err(|_| format!("{} has no PID in it", file.display()))?;
    let written = std::fs::metadata(file).and_then(|it| it.modified());
    let age = written
        .ok()
        .and_then(|written| SystemTime::now().duration_since(written).ok());
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
        let Some(process) = process else {
            return Ok(());
        };
        let held = Held::open(process)?;
        match &with.stop {
            Some(stop) => self.run(service, &with, stop)?,
            None => held.terminate()?,
        }
        if !held.wait(term_grace)? {
            held.kill()?;
            held.release_memory();
            if !held.wait(DYING)? {
                return Err(HostError::Undying {
                    process,
                    within: DYING,
                });
            }
        }
        // One that was ended leaves its file, which would say that it ended by itself.
        if with.stop.is_none() {
            let _ = std::fs::remove_file(&with.file);
        }
        Ok(())
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
