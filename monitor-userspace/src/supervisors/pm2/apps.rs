//! The processes of PM2's list, and what its word on one of them means.
//!
//! PM2 says `stopped` of what it was told to stop, and of what ended by itself where `autorestart` is off. What tells them apart is
//! kept here: see [`Instance::was_stopped`]. Source: `lib/God.js` and `lib/God/ActionMethods.js` of PM2.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::host::procfs;
use crate::model::{Healer, ProcessKey};
use crate::supervisors::Phase;

/// Longest time that PM2 is given to bring an application back.
const PATIENCE: Duration = Duration::from_mins(10);

/// A process of PM2's list. Fields that are not as they should be count as not there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    name: Value,
    pid: Value,
    pm_id: Value,
    pm2_env: Env,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Env {
    status: Value,
    autorestart: Value,
    max_restarts: Value,
    min_uptime: Value,
    restart_delay: Value,
    exp_backoff_restart_delay: Value,
    created_at: Value,
    exit_code: Value,
    kill_timeout: Value,
    treekill: Value,
    shutdown_with_message: Value,
    #[serde(rename = "_tree_pids")]
    tree_pids: Value,
}

/// Whole numbers, which PM2 has as text in places.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

impl Entry {
    pub(super) fn is_of(&self, app: &str) -> bool {
        self.name.as_str() == Some(app)
    }

    /// PM2's number of it.
    pub(super) fn id(&self) -> Option<u64> {
        number(&self.pm_id)
    }

    /// The process that PM2 has for it, or had until it ended and is about to start anew.
    pub(super) fn pid(&self) -> Option<u32> {
        let pid = number(&self.pid).and_then(|pid| u32::try_from(pid).ok());
        pid.filter(|pid| *pid != 0)
    }

    /// Its name, where PM2 takes it for running.
    pub(super) fn running(&self) -> Option<&str> {
        self.name.as_str().filter(|_| self.is_up())
    }

    fn status(&self) -> &str {
        self.pm2_env.status.as_str().unwrap_or_default()
    }

    /// Whether `restartProcessId` would stop it before it starts it.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.status(), "online" | "launching")
    }

    fn restarts(&self) -> bool {
        let off = &self.pm2_env.autorestart;
        *off != Value::Bool(false) && off.as_str() != Some("false")
    }

    /// How long PM2 waits at most until it has stopped: SIGKILL comes after the first half.
    pub(super) fn stops_within(&self) -> Duration {
        let kill_timeout = number(&self.pm2_env.kill_timeout).unwrap_or(1600);
        Duration::from_millis(kill_timeout.saturating_mul(2))
    }

    /// How PM2 brings it back by itself, where it does.
    pub(super) fn healer(&self) -> Option<Healer> {
        let env = &self.pm2_env;
        let tries = number(&env.max_restarts).unwrap_or(16);
        let up = number(&env.min_uptime).unwrap_or(1000);
        // An exponential delay grows to so much: `God.handleExit`.
        let delay = match number(&env.exp_backoff_restart_delay) {
            Some(_) => 15_000,
            None => number(&env.restart_delay).unwrap_or(0),
        };
        let patience = tries.saturating_mul(up.saturating_add(delay));
        let patience = Duration::from_millis(patience.saturating_add(5000));
        self.restarts().then(|| Healer {
            name: super::SPEC.name.to_owned(),
            patience: patience.min(PATIENCE),
        })
    }
}

/// What was seen of a process of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    /// The process it had when it was last seen alive.
    process: Option<ProcessKey>,
    /// PM2 was seen to be stopping that one.
    asked: bool,
    /// PM2 took that one for running when it had ended.
    by_itself: bool,
}

impl Instance {
    /// Where it is in its life, and its process.
    pub(super) fn judge(&mut self, entry: &Entry) -> (Phase, Option<ProcessKey>) {
        let stat = entry.pid().and_then(procfs::stat);
        let alive = stat.filter(|stat| !stat.exiting).map(|stat| stat.key);
        self.judge_with(entry, alive)
    }

    fn judge_with(
        &mut self,
        entry: &Entry,
        alive: Option<ProcessKey>,
    ) -> (Phase, Option<ProcessKey>) {
        if alive.is_some() && alive != self.process {
            *self = Self {
                process: alive,
                ..Self::default()
            };
        }
        // One that has ended, of which PM2 does not know yet, is still named: whoever compares sees that.
        let ended = self.process.filter(|it| Some(it.pid) == entry.pid());
        let process = alive.or(ended);
        let stopped = |gave_up| self.stopped(entry, gave_up);
        let phase = match entry.status() {
            "online" => {
                self.by_itself |= alive.is_none() && ended.is_some();
                Phase::Running
            }
            "stopping" => {
                self.asked = true;
                Phase::Stopping
            }
            // It was told to stop, and not even SIGKILL has ended it.
            "errored" if alive.is_some() => Phase::Stopping,
            "errored" => stopped(true),
            // PM2 keeps the number of a process that has ended only where it is about to start it anew.
            "stopped" | "waiting restart" if entry.pid().is_some() => Phase::Starting,
            "stopped" => stopped(false),
            // Said, too, of one that PM2 has given up, where it has a delay; then, it has forgotten when it was made.
            "waiting restart" => stopped(entry.pm2_env.created_at.is_null()),
            _ => Phase::Starting,
        };
        let named = matches!(phase, Phase::Running | Phase::Starting | Phase::Stopping);
        (phase, process.filter(|_| named))
    }

    /// PM2 has no process for it, and starts none.
    fn stopped(&self, entry: &Entry, gave_up: bool) -> Phase {
        let code = number(&entry.pm2_env.exit_code)
            .map_or_else(|| "unknown".to_owned(), |code| code.to_string());
        if gave_up {
            return Phase::Failed {
                why: format!(
                    "errored: given up after {} starts that did not last (last exit code {code})",
                    number(&entry.pm2_env.max_restarts).unwrap_or(16)
                ),
                gave_up,
            };
        }
        if entry.restarts() || self.was_stopped(entry) {
            return Phase::Stopped;
        }
        Phase::Failed {
            why: format!("it ended by itself (exit code {code}), and autorestart is off"),
            gave_up: false,
        }
    }

    /// Whether PM2 was told to stop it: of one with `autorestart` off, which PM2 calls `stopped` also when it ended by itself.
    ///
    /// Before PM2 sends a signal it sets the status to `stopping`, and afterwards it keeps in `_tree_pids` whom it sent that to, unless
    /// told not to reach children (`treekill`), or to send a message in its place. So it was stopped if its process is among those, or
    /// was seen `stopping`. It was not if it was seen `online` when its process had ended, or if PM2 keeps such a list and its process is
    /// not in it. Where neither can be told, and of one that was never seen to run, it counts as stopped: nothing is done to it.
    fn was_stopped(&self, entry: &Entry) -> bool {
        let env = &entry.pm2_env;
        let Some(process) = self.process else {
            return true;
        };
        let pids = env.tree_pids.as_array().map_or(&[][..], Vec::as_slice);
        let told = pids
            .iter()
            .any(|pid| number(pid) == Some(process.pid.into()));
        let keeps =
            env.treekill == Value::Bool(true) && env.shutdown_with_message != Value::Bool(true);
        self.asked || told || !(self.by_itself || keeps)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
