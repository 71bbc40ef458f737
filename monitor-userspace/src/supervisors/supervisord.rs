//! `kind = "supervisord"`: programs that Supervisor runs, over the XML-RPC of its Unix socket.
//!
//! Supervisor says `STOPPED` only of what it was told to stop (or never started), `FATAL` of what it has given up, and `EXITED` of what
//! ended by itself. What it does about the last it does in the same pass of its loop in which it says so: one that is still `EXITED`
//! when asked again is left so. That holds in all versions, while most do not tell of `autorestart`. Who told it to stop a program may have
//! been us, to start it anew: when that fails, it was not stopped, but is down.

mod discover;
mod rpc;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Phase, Seen, Source, Spec, Tools};
use crate::host::{HostError, procfs};
use crate::model::{Healer, ProcessKey};
use rpc::{Argument, Failure, Record, call, first};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "supervisord",
    summary: "a program of Supervisor, asked and told over its socket",
    read: Some(read),
    source: Some(source),
    discover: Some(discover::discover),
};

/// How often they are asked; the end of a process is seen at once.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWERS: Duration = Duration::from_secs(2);
/// How long they may take to have started a program, and one to die of SIGKILL.
const ACTS: Duration = Duration::from_secs(10);
/// How often it is looked whether a program has stopped.
const STOPPING: Duration = Duration::from_millis(20);
/// For how long the settings of a running program are taken to stay.
const KEPT: Duration = Duration::from_secs(10);
/// Longest time that they are given to bring a program back.
const PATIENCE: Duration = Duration::from_mins(10);
/// Faults: `supervisor.xmlrpc.Faults`.
const ALREADY_STARTED: i64 = 60;
const NOT_RUNNING: i64 = 70;
/// Longest file with a password, bytes.
const PASSWORD: u64 = 4096;

/// `with` of such a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// `NAME`, or `GROUP:NAME`; the service's name when none.
    #[serde(default)]
    program: String,
    /// Where supervisord listens.
    #[serde(default = "socket")]
    socket: PathBuf,
    /// The user name that its `[unix_http_server]` wants.
    username: Option<String>,
    /// A file with the password.
    password_file: Option<PathBuf>,
    /// The environment variable of the daemon with the password.
    password_env: Option<String>,
    /// An end with an exit code that they expect is no fault: it has finished.
    #[serde(default)]
    may_finish: bool,
}

fn socket() -> PathBuf {
    "/var/run/supervisor.sock".into()
}

fn read(service: &str, with: &toml::Table) -> Result<Vec<String>, String> {
    let with = parse(service, with)?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '*';
    if with.program.is_empty() || with.program.contains(odd) || with.program.ends_with(':') {
        return Err(
            "`program` names one program: \"web\", or \"group:web\" where it is one of a group"
                .to_owned(),
        );
    }
    let relative = |path: &PathBuf| !path.is_absolute();
    if relative(&with.socket) || with.password_file.as_ref().is_some_and(relative) {
        return Err("`socket` and `password_file` must be absolute paths".to_owned());
    }
    let passwords =
        usize::from(with.password_file.is_some()) + usize::from(with.password_env.is_some());
    if passwords != usize::from(with.username.is_some()) {
        return Err(
            "`username` goes with one of `password_file` and `password_env`, and not without"
                .to_owned(),
        );
    }
    Ok(vec![with.socket.display().to_string(), with.program])
}

fn parse(service: &str, with: &toml::Table) -> Result<With, String> {
    let read = With::deserialize(with.clone());
    let mut with = read.map_err(|error| error.message().to_owned())?;
    if with.program.is_empty() {
        service.clone_into(&mut with.program);
    }
    Ok(with)
}

fn source(_: Tools) -> Arc<dyn Source> {
    Arc::new(Supervisord::default())
}

#[derive(Debug, Default)]
struct Supervisord {
    services: Mutex<BTreeMap<String, Known>>,
}

/// A service, and what was seen of it.
#[derive(Clone, Debug, Default)]
struct Known {
    with: With,
    /// Its process, when it was last seen alive.
    process: Option<ProcessKey>,
    /// Its settings, and when they were asked for.
    settings: Option<(Instant, Settings)>,
    /// It ended with a code that they do not expect, and they left it so: they do not start it anew.
    left: bool,
    /// We had it stopped to start it anew, and it has not been started since: why not.
    unstarted: Option<String>,
}

/// What they say of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Info {
    name: String,
    group: String,
    state: String,
    pid: u32,
    exit_status: i64,
    spawn_error: String,
}

/// What their configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    /// Only some versions tell.
    restarts: Option<bool>,
    retries: u64,
    start_seconds: u64,
    expected: Vec<i64>,
}

impl Info {
    fn of(record: &Record) -> Option<Self> {
        let text = |name| first(record, name).map(str::to_owned);
        Some(Self {
            name: text("name")?,
            group: text("group")?,
            state: text("statename")?,
            pid: first(record, "pid")?.parse().ok()?,
            exit_status: first(record, "exitstatus")?.parse().ok()?,
            spawn_error: text("spawnerr").unwrap_or_default(),
        })
    }
}

impl Default for Settings {
    /// What Supervisor takes where its configuration says nothing.
    fn default() -> Self {
        Self {
            restarts: None,
            retries: 3,
            start_seconds: 1,
            expected: vec![0],
        }
    }
}

impl Settings {
    fn of(record: &Record) -> Self {
        let standard = Self::default();
        let number = |name, or| {
            first(record, name)
                .and_then(|it| it.parse().ok())
                .unwrap_or(or)
        };
        let expected = record.get("exitcodes");
        let expected = expected.map(|all| all.iter().filter_map(|it| it.parse().ok()).collect());
        Self {
            restarts: match first(record, "autorestart") {
                Some("0" | "False" | "false") => Some(false),
                Some("1" | "unexpected" | "auto") => Some(true),
                _ => None,
            },
            retries: number("startretries", standard.retries),
            start_seconds: number("startsecs", standard.start_seconds),
            expected: expected.unwrap_or(standard.expected),
        }
    }

    /// How long it takes at most until they have brought it back, or have given up: they wait a second longer before every try.
    fn patience(&self) -> Duration {
        let tries = self.retries.min(PATIENCE.as_secs());
        let waits = tries * (tries + 1) / 2;
        let runs = (tries + 1).saturating_mul(self.start_seconds.saturating_add(1));
        Duration::from_secs(waits.saturating_add(runs).saturating_add(3)).min(PATIENCE)
    }
}

impl Known {
    /// What that means. `info` was asked for anew where it said `EXITED`.
    fn judge(&mut self, info: &Info, settings: &Settings) -> Result<Seen, String> {
        let stat = procfs::stat(info.pid).filter(|stat| info.pid != 0 && !stat.exiting);
        // One that has ended, of which they do not know yet, is still named: whoever compares sees that.
        let ended = self.process.filter(|process| process.pid == info.pid);
        let process = stat.map(|stat| stat.key).or(ended);
        self.process = process.or(self.process);
        let healer = |heals: bool| {
            heals.then(|| Healer {
                name: SPEC.name.to_owned(),
                patience: settings.patience(),
            })
        };
        let mut heals = healer(settings.restarts.unwrap_or(!self.left));
        if !matches!(info.state.as_str(), "STOPPED" | "STOPPING") {
            self.unstarted = None;
        }
        let phase = match info.state.as_str() {
            "STARTING" | "BACKOFF" => Phase::Starting,
            "RUNNING" => Phase::Running,
            "STOPPING" => Phase::Stopping,
            "STOPPED" => match self.unstarted.clone() {
                Some(why) => {
                    heals = None;
                    let gave_up = false;
                    Phase::Failed { why, gave_up }
                }
                None => Phase::Stopped,
            },
            "FATAL" => Phase::Failed {
                why: format!(
                    "FATAL: given up after {} retries: {}",
                    settings.retries, info.spawn_error
                ),
                gave_up: true,
            },
            "EXITED" => {
                let status = info.exit_status;
                let expected = settings.expected.contains(&status);
                self.left |= !expected;
                heals = None;
                let why = match status {
                    // So their `decode_wait_status` has it.
                    -1 => "it was killed by a signal, and they leave it so".to_owned(),
                    _ if expected => format!("it ended with exit code {status}, which they expect"),
                    _ => format!("it ended with exit code {status}, and they leave it so"),
                };
                if expected && self.with.may_finish {
                    Phase::Stopped
                } else {
                    let gave_up = false;
                    Phase::Failed { why, gave_up }
                }
            }
            other => return Err(format!("they do not know themselves how it is: {other}")),
        };
        Ok(Seen {
            phase,
            process,
            cgroup_id: 0,
            healer: heals,
        })
    }
}

impl With {
    fn ask(
        &self,
        method: &str,
        arguments: &[Argument<'_>],
        within: Duration,
    ) -> Result<Vec<Record>, Failure> {
        let login = self.login().map_err(Failure::Unheard)?;
        call(&self.socket, login.as_deref(), method, arguments, within)
    }

    /// `name:password`.
    fn login(&self) -> Result<Option<String>, String> {
        let Some(name) = &self.username else {
            return Ok(None);
        };
        let password = match (&self.password_file, &self.password_env) {
            (Some(file), _) => {
                let text = std::fs::File::open(file)
                    .and_then(|file| std::io::read_to_string(std::io::Read::take(file, PASSWORD)));
                text.map_err(|error| {
                    format!("cannot read the password in {}: {error}", file.display())
                })?
            }
            (None, variable) => {
                let variable = variable.as_deref().unwrap_or_default();
                std::env::var(variable)
                    .map_err(|_| format!("the environment variable {variable} has no password"))?
            }
        };
        Ok(Some(format!("{name}:{}", password.trim_end_matches('\n'))))
    }

    fn info(&self) -> Result<Info, Failure> {
        let records = self.ask("getProcessInfo", &[Argument::Text(&self.program)], ANSWERS)?;
        let info = records.first().and_then(Info::of);
        info.ok_or_else(|| Failure::Unheard("supervisord's answer says no state".to_owned()))
    }

    /// Its settings; the standard ones where they do not tell.
    fn settings(&self, info: &Info) -> Settings {
        let records = self.ask("getAllConfigInfo", &[], ANSWERS);
        let records = records.unwrap_or_else(|error| {
            tracing::debug!(program = self.program, %error, "supervisord does not tell its settings");
            Vec::new()
        });
        let own = records.iter().find(|it| {
            first(it, "name") == Some(&info.name) && first(it, "group") == Some(&info.group)
        });
        own.map(Settings::of).unwrap_or_default()
    }

    /// Has it stopped, and waits; SIGKILL when it takes longer than `grace`.
    fn stop(&self, grace: Duration) -> Result<(), Failure> {
        let program = Argument::Text(&self.program);
        match self.ask("stopProcess", &[program, Argument::Truth(false)], ANSWERS) {
            Ok(_) | Err(Failure::Refused(NOT_RUNNING, _)) => {}
            Err(error) => return Err(error),
        }
        let kill_at = Instant::now() + grace;
        let mut killed = false;
        loop {
            if self.info()?.state != "STOPPING" {
                return Ok(());
            }
            let now = Instant::now();
            if now >= kill_at + ACTS {
                let why = format!("{} does not stop, not even of SIGKILL", self.program);
                return Err(Failure::Unheard(why));
            }
            if now >= kill_at && !killed {
                killed = true;
                // Refused when it has ended just now.
                let _ = self.ask("signalProcess", &[program, Argument::Text("KILL")], ANSWERS);
            }
            std::thread::sleep(STOPPING);
        }
    }

    /// Has it started; well, too, when they have done that themselves.
    fn start(&self) -> Result<(), Failure> {
        let arguments = [Argument::Text(&self.program), Argument::Truth(false)];
        match self.ask("startProcess", &arguments, ACTS) {
            Ok(_) | Err(Failure::Refused(ALREADY_STARTED, _)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Supervisord {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, service: &str) -> Result<Known, HostError> {
        let known = self.lock().get(service).cloned();
        known.ok_or_else(|| HostError::NoService(service.to_owned()))
    }

    /// See [`Known::unstarted`].
    fn unstarted(&self, service: &str, why: Option<String>) {
        if let Some(known) = self.lock().get_mut(service) {
            known.unstarted = why;
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors are handed over")]
fn failed(service: &str, why: impl ToString) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why: why.to_string(),
    }
}

impl Source for Supervisord {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let mut before = std::mem::take(&mut *self.lock());
        let known = services.iter().filter_map(|(name, with)| {
            let with = parse(name, with).ok()?;
            let same = before
                .remove(name)
                .filter(|it| it.with.program == with.program && it.with.socket == with.socket);
            let known = match same {
                Some(same) if same.with == with => same,
                same => Known {
                    with,
                    unstarted: same.and_then(|it| it.unstarted),
                    ..Known::default()
                },
            };
            Some((name.clone(), known))
        });
        let known = known.collect();
        *self.lock() = known;
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let mut known = self.known(service)?;
        let unheard = |error: Failure| failed(service, error);
        let mut info = known.with.info().map_err(unheard)?;
        // See the module; once more than is needed.
        for _ in 0..2 {
            if info.state == "EXITED" {
                info = known.with.info().map_err(unheard)?;
            }
        }
        let kept = known.settings.take();
        let kept = kept.filter(|(asked, _)| info.state == "RUNNING" && asked.elapsed() < KEPT);
        let (asked, settings) =
            kept.unwrap_or_else(|| (Instant::now(), known.with.settings(&info)));
        let seen = known.judge(&info, &settings);
        known.settings = Some((asked, settings));
        // Not when another configuration has come meanwhile.
        if let Some(own) = self
            .lock()
            .get_mut(service)
            .filter(|own| own.with == known.with)
        {
            *own = known;
        }
        seen.map_err(|why| failed(service, why))
    }

    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn restart(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let with = self.known(service)?.with;
        with.stop(term_grace)
            .map_err(|error| failed(service, error))?;
        let started = with.start();
        let why = started.as_ref().err().map(ToString::to_string);
        self.unstarted(service, why);
        started.map_err(|error| failed(service, error))
    }

    fn stop(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        let with = self.known(service)?.with;
        self.unstarted(service, None);
        let stopped = with.stop(term_grace);
        stopped.map_err(|error| failed(service, error))
    }

    fn start(&self, service: &str) -> Result<(), HostError> {
        let started = self.known(service)?.with.start();
        started.map_err(|error| failed(service, error))
    }

    fn reload(&self, service: &str) -> Result<Option<String>, HostError> {
        Err(failed(
            service,
            "Supervisor has no way to reload a program: set `reload = { signal = \"SIGHUP\" }`, or a command",
        ))
    }
}

#[cfg(test)]
#[path = "supervisord/tests.rs"]
mod tests;
