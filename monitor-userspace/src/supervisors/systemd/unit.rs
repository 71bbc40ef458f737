//! A unit as systemd describes it, and what that means. Pure.
//!
//! systemd says where a unit is in its life, and little of why. Whether it was told to stop a service shows from its clocks: a unit leaves
//! `active` at the moment of the order, before its main process ends; when the process ends by itself, it is the other way round.

use std::collections::HashMap;
use std::time::Duration;

use zbus::Variant;

use crate::model::Healer;
use crate::supervisors::Phase;

/// Never longer are they waited for, however long a unit may take to start or to stop.
const LONGEST: Duration = Duration::from_mins(5);
/// Never longer is waited for their next attempt.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// What they get on top of that.
const MARGIN: Duration = Duration::from_secs(5);

/// Properties of `org.freedesktop.systemd1.Unit` and `.Service`, by their names there. What one does not have is empty. Times are in
/// microseconds; moments of `CLOCK_MONOTONIC`, 0 for never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) load_state: String,
    pub(super) load_error: String,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    pub(super) result: String,
    pub(super) kind: String,
    pub(super) restart: String,
    pub(super) control_group: String,
    pub(super) invocation: Vec<u8>,
    pub(super) main_pid: u32,
    /// How often it was started anew without an order; none where they do not count (before 235).
    pub(super) restarts: Option<u32>,
    /// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED`: 1, 2, 3.
    pub(super) exit_code: i32,
    pub(super) exit_status: i32,
    pub(super) inactive_exit: u64,
    pub(super) active_enter: u64,
    pub(super) active_exit: u64,
    pub(super) main_start: u64,
    pub(super) main_exit: u64,
    pub(super) restart_pause: u64,
    pub(super) start_limit: u64,
    pub(super) stop_limit: u64,
    pub(super) runtime_max: u64,
    pub(super) can_reload: bool,
    /// Sockets, timers or paths start it when it is needed.
    pub(super) triggered: bool,
}

impl Unit {
    /// From what `GetAll` answers.
    pub(super) fn read(all: &HashMap<&str, Variant<'_>>) -> Self {
        let text = |name: &str| match all.get(name) {
            Some(Variant::Str(text)) => text.to_string(),
            _ => String::new(),
        };
        let long = |name: &str| match all.get(name) {
            Some(Variant::U64(number)) => *number,
            _ => 0,
        };
        let short = |name: &str| match all.get(name) {
            Some(Variant::U32(number)) => Some(*number),
            _ => None,
        };
        let signed = |name: &str| match all.get(name) {
            Some(Variant::I32(number)) => *number,
            _ => 0,
        };
        let load_error = match all.get("LoadError") {
            Some(Variant::Structure(error)) => match error.fields().get(1) {
                Some(Variant::Str(text)) => text.to_string(),
                _ => String::new(),
            },
            _ => String::new(),
        };
        let invocation = match all.get("InvocationID") {
            Some(Variant::Array(bytes)) => bytes.iter().filter_map(byte).collect(),
            _ => Vec::new(),
        };
        let triggers = all.get("TriggeredBy");
        Self {
            load_state: text("LoadState"),
            load_error,
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            result: text("Result"),
            kind: text("Type"),
            restart: text("Restart"),
            control_group: text("ControlGroup"),
            invocation,
            main_pid: short("MainPID").unwrap_or(0),
            restarts: short("NRestarts"),
            exit_code: signed("ExecMainCode"),
            exit_status: signed("ExecMainStatus"),
            inactive_exit: long("InactiveExitTimestampMonotonic"),
            active_enter: long("ActiveEnterTimestampMonotonic"),
            active_exit: long("ActiveExitTimestampMonotonic"),
            main_start: long("ExecMainStartTimestampMonotonic"),
            main_exit: long("ExecMainExitTimestampMonotonic"),
            // With RestartSteps= it grows (254).
            restart_pause: long("RestartUSec").max(finite(long("RestartUSecNext"))),
            start_limit: long("TimeoutStartUSec"),
            stop_limit: long("TimeoutStopUSec"),
            runtime_max: long("RuntimeMaxUSec"),
            can_reload: matches!(all.get("CanReload"), Some(Variant::Bool(true))),
            triggered: matches!(triggers, Some(Variant::Array(units)) if !units.is_empty()),
        }
    }

    /// Why there is no such service; none when there is.
    pub(super) fn unusable(&self, name: &str) -> Option<String> {
        let down = matches!(&*self.active_state, "inactive" | "failed" | "");
        match &*self.load_state {
            "not-found" if down => Some(format!(
                "there is no unit {name}: `systemctl list-unit-files` names those that there are"
            )),
            "loaded" | "masked" | "merged" | "stub" | "not-found" => None,
            state if down => Some(format!(
                "the unit file of {name} cannot be used ({state}): {}",
                self.load_error
            )),
            _ => None,
        }
    }

    /// Its main process runs, as far as they have noticed.
    pub(super) fn has_main(&self) -> bool {
        self.main_pid != 0
    }

    /// They were told to stop it, or stop it because of another unit: not what it did by itself, and not what they do to one that
    /// hangs, runs for too long or was out of memory.
    pub(super) fn was_told_to_stop(&self) -> bool {
        let was_active = self.active_enter > 0 && self.active_enter >= self.inactive_exit;
        let left = self.active_exit >= self.active_enter && self.active_exit > 0;
        let first = self.has_main() || self.main_exit > self.active_exit;
        was_active && left && first && !self.by_themselves()
    }

    /// They ended it because of what it did, without an order.
    pub(super) fn by_themselves(&self) -> bool {
        let ran = self.active_exit.saturating_sub(self.active_enter);
        match &*self.result {
            "watchdog" | "oom-kill" => true,
            "timeout" => finite(self.runtime_max) > 0 && ran >= self.runtime_max,
            _ => false,
        }
    }

    /// Whether `Restart=` says that they start it anew after an end like the last one.
    pub(super) fn is_covered(&self) -> bool {
        let result = &*self.result;
        let clean = matches!(result, "success" | "exec-condition");
        match &*self.restart {
            "always" => true,
            "on-success" => result == "success",
            "on-failure" => !clean,
            "on-abnormal" => !clean && result != "exit-code",
            "on-abort" => matches!(result, "signal" | "core-dump"),
            "on-watchdog" => result == "watchdog",
            _ => false,
        }
    }

    /// Where it is in its life. `told`: they were seen to be told to stop it, in this run.
    pub(super) fn phase(&self, told: bool) -> Phase {
        let stopped = told || self.was_told_to_stop();
        match &*self.active_state {
            // What is done and stays `active` has no process that anybody could watch.
            "active" if self.sub_state == "exited" => Phase::Stopped,
            "active" | "reloading" | "refreshing" => Phase::Running,
            "activating" => Phase::Starting,
            // Between an end and the next attempt (254).
            _ if self.sub_state.ends_with("-before-auto-restart") => Phase::Starting,
            "deactivating" if stopped && !self.has_main() => Phase::Stopped,
            "deactivating" => Phase::Stopping,
            "failed" if !stopped => Phase::Failed {
                why: self.why(),
                gave_up: self.gave_up(),
            },
            "inactive" if !stopped && self.ended_well_by_itself() => Phase::Failed {
                why: self.why(),
                gave_up: false,
            },
            _ => Phase::Stopped,
        }
    }

    /// Its result stays that of the last end when the limit of starts is hit: that they did not go on shows from their having begun.
    fn gave_up(&self) -> bool {
        self.result == "start-limit-hit" || (self.is_covered() && self.restarts > Some(0))
    }

    /// Its main process ended cleanly, without an order, of a service that is meant to go on: nobody starts it when it is needed, and
    /// nobody was to start it anew (who then says that it is stopped was told so).
    fn ended_well_by_itself(&self) -> bool {
        let ended = self.main_exit > 0 && self.main_exit >= self.main_start;
        let goes_on = !matches!(&*self.kind, "oneshot" | "dbus") && !self.triggered;
        ended && goes_on && self.result == "success" && !self.is_covered()
    }

    /// What became of it, in words.
    pub(super) fn why(&self) -> String {
        let status = self.exit_status;
        let end = match self.exit_code {
            1 => format!("its main process ended with exit code {status}"),
            2 => format!("its main process was killed by signal {status}"),
            3 => format!("its main process crashed by signal {status}"),
            _ => "it has had no main process".to_owned(),
        };
        match &*self.result {
            "success" | "" => end,
            result => format!("result `{result}`: {end}"),
        }
    }

    /// Whether they start it anew by themselves, and how long that takes at most.
    pub(super) fn healer(&self, phase: &Phase) -> Option<Healer> {
        // They have ended it; nothing will come of it by itself.
        let over = matches!(phase, Phase::Failed { gave_up: false, .. });
        let heals = !matches!(&*self.restart, "no" | "") && !over;
        heals.then(|| Healer {
            name: super::SPEC.name.to_owned(),
            patience: span(self.restart_pause, LONGEST_PAUSE)
                + span(self.start_limit, LONGEST)
                + MARGIN,
        })
    }

    /// How long a start, a stop, or both may take.
    pub(super) fn limit(&self, stops: bool, starts: bool) -> Duration {
        let stop = stops.then(|| span(self.stop_limit, LONGEST));
        let start = starts.then(|| span(self.start_limit, LONGEST));
        stop.unwrap_or_default() + start.unwrap_or_default() + MARGIN
    }
}

fn byte(value: &Variant<'_>) -> Option<u8> {
    match value {
        Variant::U8(byte) => Some(*byte),
        _ => None,
    }
}

/// `infinity` is the largest number.
fn finite(microseconds: u64) -> u64 {
    if microseconds == u64::MAX {
        0
    } else {
        microseconds
    }
}

fn span(microseconds: u64, longest: Duration) -> Duration {
    Duration::from_micros(microseconds).min(longest)
}

#[cfg(test)]
#[path = "unit/tests.rs"]
mod tests;
