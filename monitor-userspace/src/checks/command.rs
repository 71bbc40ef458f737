//! `command = ["/usr/local/bin/probe"]`: a program ends with 0; as a Nagios plugin with `nagios = true`; or prints what is expected.
//!
//! No shell, a clean environment, a cgroup of its own that is ended with it, also when the check's time is up. Of what it prints, the first
//! 8 KiB count. At most [`AT_ONCE`] run at a time, of all checks: others wait for their turn, and that is not counted as their time.

mod printed;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use monitor_common::probes::process_exit::{Ending, ending};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::alone::apart;
use super::expect::{Expect, shown};
use super::{About, Answer, Asking, Check, Settings, Spec, Turn, read};
use crate::config::units::Span;
use crate::host::command::{Ended, Finished, PROCESSES};
use crate::model::CheckFailure;
use crate::model::command::Order;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "command",
    summary: "a program ends with 0, says so as a Nagios plugin, or prints what is expected",
    serving: false,
    short: "command",
    example: "command = [\"/usr/lib/nagios/plugins/check_load\", \"-w\", \"5\", \"-c\", \"10\"]",
    read: read::<Command>,
};

/// Most programs that run at a time.
pub const AT_ONCE: usize = 16;
static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));

/// How long a check waits for its turn before it says so.
const PATIENCE: Duration = Duration::from_mins(1);

/// Far more than any check's own timeout, at which it is ended.
const LONGEST: Duration = Duration::from_mins(10);
/// Most words and variables, and bytes of all of them.
const WORDS: usize = 256;
const BYTES: usize = 64 << 10;
/// What begins so is ours.
const OURS: &str = "SMART_MONITOR_";

/// `command = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    /// Program and arguments.
    #[serde(rename = "command")]
    argv: Vec<String>,
    /// A good end shows that the service serves.
    #[serde(default)]
    serving: bool,
    /// It is a Nagios plugin: 0 is well, 1 a warning, 2 critical, 3 unknown; its text and figures are read.
    #[serde(default)]
    nagios: bool,
    /// A plugin's warning is well.
    #[serde(default)]
    warning_is_well: bool,
    /// What the first number that it prints is to be.
    expect: Option<Expect>,
    /// How old the time that it prints first may be.
    max_age: Option<Span>,
    /// Numeric user and group that it becomes; who the daemon is when none.
    user: Option<u32>,
    group: Option<u32>,
    /// Variables beside `PATH`, `LANG` and ours.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Where it starts.
    folder: Option<PathBuf>,
    /// Its turn, once it has come.
    #[serde(skip)]
    turn: Mutex<Option<Held>>,
    #[serde(skip)]
    own: Own,
}

/// Kept until the program has ended.
#[derive(Debug)]
struct Held {
    _own: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

/// One program at a time: while the one before is still being ended, there is no other of the same check, which would take others' turns.
#[derive(Debug)]
struct Own(Arc<Semaphore>);

impl Default for Own {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Settings for Command {
    fn sensible(self) -> Result<Self, String> {
        let wrong = |why: &str| Err(why.to_owned());
        let program = self.argv.first().map_or("", String::as_str);
        if program.is_empty() {
            return wrong("it is empty; for example `command = [\"/usr/bin/pg_isready\"]`");
        }
        if !program.starts_with('/') && program.contains('/') {
            return wrong("the program must be an absolute path, or a name to look up in PATH");
        }
        if self.user.is_some() != self.group.is_some() {
            return wrong("`user` and `group` need each other (numbers, as `id` shows them)");
        }
        if self
            .folder
            .as_ref()
            .is_some_and(|folder| !folder.is_absolute())
        {
            return wrong("`folder` must be an absolute path");
        }
        if self.nagios && (self.expect.is_some() || self.max_age.is_some()) {
            return wrong("a Nagios plugin judges by itself: leave out `expect` and `max_age`");
        }
        if self.warning_is_well && !self.nagios {
            return wrong("`warning_is_well` needs `nagios = true`");
        }
        if let Some(expect) = &self.expect {
            expect.sensible()?;
        }
        let bad = |name: &&String| name.is_empty() || name.contains('=') || name.starts_with(OURS);
        if let Some(name) = self.environment.keys().find(bad) {
            return Err(format!(
                "no variable of `environment` can be called `{name}`"
            ));
        }
        let variables = self
            .environment
            .iter()
            .flat_map(|(name, value)| [name, value]);
        let texts: Vec<&String> = self.argv.iter().chain(variables).collect();
        if texts.len() > WORDS || texts.iter().map(|text| text.len()).sum::<usize>() > BYTES {
            return Err(format!(
                "more than {WORDS} words and variables, or {BYTES} bytes of them"
            ));
        }
        if texts.iter().any(|text| text.contains('\0')) {
            return wrong("a word of a command cannot have a NUL character in it");
        }
        Ok(self)
    }
}

impl Check for Command {
    fn serving(&self) -> Option<bool> {
        Some(self.serving)
    }

    fn turn<'a>(&'a self, _: &'a About) -> Turn<'a> {
        Box::pin(async {
            let wait = |it: &Arc<Semaphore>| {
                let turn = Arc::clone(it).acquire_owned();
                tokio::time::timeout(PATIENCE, turn)
            };
            // They are never closed.
            let Ok(Ok(own)) = wait(&self.own.0).await else {
                return;
            };
            let Ok(Ok(turn)) = wait(&TURNS).await else {
                return;
            };
            let held = Held {
                _own: own,
                _turn: turn,
            };
            *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        })
    }

    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        let turn = self
            .turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(turn) = turn else {
            let why = format!(
                "its turn did not come within {PATIENCE:?}: its program of the time before, or those of {AT_ONCE} others, have not ended; they hang, perhaps in a file system that does not answer"
            );
            return Box::pin(async { Err(CheckFailure::Answer(why)) });
        };
        let (order, runner) = (self.order(about), Arc::clone(&about.tools.runner));
        let given_up = GivenUp::default();
        let asked = Arc::clone(&given_up.0);
        Box::pin(async move {
            let work = move || {
                let why = || {
                    asked
                        .load(Ordering::Relaxed)
                        .then(|| "the check's time is up".to_owned())
                };
                let run = runner.run_unless(&order, &why);
                run.map_err(|error| CheckFailure::Answer(error.to_string()))
            };
            let finished = apart(turn, work).await?;
            drop(given_up);
            self.judge(&finished)
        })
    }
}

/// Tells the thread that runs the program when nobody waits for it any more.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Command {
    fn order(&self, about: &About) -> Order {
        let ours = [("SERVICE", &about.service), ("CHECK", &about.check)];
        let ours = ours.map(|(name, value)| (format!("{OURS}{name}"), value.clone()));
        let mut environment: Vec<_> = self.environment.clone().into_iter().collect();
        environment.extend(ours);
        Order {
            command: self.argv.clone(),
            timeout: LONGEST,
            user: self.user.zip(self.group),
            environment,
            folder: self.folder.clone(),
            ..Order::default()
        }
    }

    fn judge(&self, finished: &Finished) -> Result<Answer, CheckFailure> {
        let text = String::from_utf8_lossy(finished.output.beginning());
        let errors = String::from_utf8_lossy(finished.errors.beginning());
        let wrong = |why: String| Err(CheckFailure::Answer(why));
        match &finished.ended {
            None => {}
            Some(Ended::Time) => return Err(CheckFailure::Timeout),
            Some(Ended::CalledOff(why)) => return wrong(why.clone()),
            Some(Ended::Processes) => {
                return wrong(format!(
                    "it became more than {PROCESSES} processes, and was ended"
                ));
            }
        }
        let code = match ending(finished.status) {
            Ending::Code(code) => code,
            Ending::Signal(number) => return wrong(format!("it was ended by signal {number}")),
        };
        let line = |text: &str| {
            shown(
                text.lines()
                    .find(|line| !line.trim().is_empty())
                    .unwrap_or(""),
            )
        };
        if self.nagios {
            return printed::nagios(code, &text, self.warning_is_well)
                .map_err(CheckFailure::Answer);
        }
        if code != 0 {
            let said = Some(line(&errors))
                .filter(|said| !said.is_empty())
                .unwrap_or_else(|| line(&text));
            return wrong(format!("exit status {code}: {said}"));
        }
        printed::judge(&text, self.expect.as_ref(), self.max_age)
            .map(|answer| answer.saying(line(&text)))
            .map_err(CheckFailure::Answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "command = []",
            "command = [\"bin/x\"]",
            "command = [\"/x\"]\nuser = 1",
            "command = [\"/x\"]\nnagios = true\nmax_age = \"1h\"",
            "command = [\"/x\"]\nwarning_is_well = true",
            "command = [\"/x\"]\nexpect = {}",
            "command = [\"/x\"]\nfolder = \"x\"",
            "command = [\"/x\"]\nenvironment = { SMART_MONITOR_X = \"1\" }",
            "command = [\"/x\\u0000\"]",
        ] {
            let read = toml::from_str::<Command>(text).map_err(|error| error.to_string());
            assert!(read.and_then(Settings::sensible).is_err(), "{text}");
        }
        let good: Command = toml::from_str("command = [\"/x\"]\nserving = true").expect("it reads");
        assert_eq!(
            good.sensible().expect("it makes sense").serving(),
            Some(true)
        );
    }
}
