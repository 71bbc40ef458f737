//! What an engine's description of a container means, with what it told before. Pure.
//!
//! The question is always whether an end was meant. Docker tells of every signal that it is asked to send before it tells of the end; podman
//! since 4.7 says so of a container that was stopped. Where neither is to be had (podman before, or what happened before an engine's memory
//! begins), an end that looks like that of a stop (exit code 0, or that of SIGTERM, SIGKILL or the stop signal, and no lack of memory) counts as
//! one: what somebody stopped must never be started again, and a wrong guess the other way only leaves it stopped. An end that came of an
//! order of ours to start it anew, which then failed, was not meant to last.

use std::time::Duration;

use super::super::Phase;
use super::events::Word;
use crate::host::containers::{Container, State};
use crate::model::Healer;

/// So long after an end the engine may still have to tell of it, or to start it anew.
const SETTLES: i64 = 1_000_000_000;
/// So long before an end a signal that is not named may have been its cause.
const CAUSE: i64 = 10_000_000_000;
/// First wait of Docker before it starts a container anew; doubles.
const FIRST: Duration = Duration::from_millis(100);
/// Longest such wait.
const LONGEST: Duration = Duration::from_mins(1);
/// One that ran so long is started anew after the first wait again.
const RAN: i64 = 10_000_000_000;
/// How long an engine may take to start a container.
const STARTS: Duration = Duration::from_secs(10);
/// Longest part of an error that is told on, characters.
const SAID: usize = 300;

/// All that is known of a container.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) container: &'a Container,
    pub(super) podman: bool,
    /// As podman says; none where it does not.
    pub(super) stopped_by_user: Option<bool>,
    /// Its process is there.
    pub(super) runs: bool,
    /// Events are heard.
    pub(super) listening: bool,
    pub(super) word: &'a Word,
    /// Nanoseconds since 1970.
    pub(super) now: i64,
}

fn status(container: &Container) -> &str {
    let state = container.state.as_ref();
    state
        .and_then(|state| state.status.as_deref())
        .unwrap_or_default()
}

/// It has ended.
pub(super) fn is_over(container: &Container) -> bool {
    matches!(status(container), "exited" | "stopped" | "dead")
}

/// The engine was told to stop it, and is at it.
pub(super) fn is_stopping(container: &Container) -> bool {
    status(container) == "stopping"
}

/// RFC 3339 to nanoseconds since 1970; 0 for what is none.
fn nanos(time: Option<&String>) -> i64 {
    let read = time.and_then(|time| time.parse::<jiff::Timestamp>().ok());
    read.map_or(0, |time| i64::try_from(time.as_nanosecond()).unwrap_or(0))
}

/// What ends a container in good order: SIGTERM where nothing else is said.
fn stop_signal(container: &Container) -> u16 {
    const TERM: u16 = 15;
    let said = container
        .config
        .as_ref()
        .and_then(|made| made.stop_signal.as_ref());
    let number = said.and_then(serde_json::Value::as_u64);
    let name = said.and_then(serde_json::Value::as_str).unwrap_or_default();
    let number = number
        .or_else(|| name.parse().ok())
        .and_then(|it| u16::try_from(it).ok());
    number.unwrap_or(match name.trim_start_matches("SIG") {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "WINCH" => 28,
        "RTMIN+3" => 37,
        _ => TERM,
    })
}

impl Facts<'_> {
    /// Where it is in its life. An error: the engine says what nobody knows.
    pub(super) fn phase(&self) -> Result<Phase, String> {
        let none = State::default();
        let state = self.container.state.as_ref().unwrap_or(&none);
        let ready = matches!(
            status(self.container),
            "created" | "configured" | "initialized"
        );
        if (ready || is_over(self.container))
            && let Some(why) = self.unstarted(state)
        {
            let why = why.to_owned();
            // They do nothing about it, whatever its restart policy.
            let gave_up = !matches!(self.policy(), Policy::No);
            return Ok(Phase::Failed { why, gave_up });
        }
        Ok(match status(self.container) {
            "running" | "paused" if self.runs => Phase::Running,
            // The engine has not noticed yet that it ended.
            "running" | "paused" | "stopping" => Phase::Stopping,
            "restarting" => Phase::Starting,
            "created" | "configured" | "initialized" => match said(state) {
                Some(why) => Phase::Failed {
                    why,
                    gave_up: false,
                },
                None => Phase::Stopped,
            },
            "removing" => Phase::Stopped,
            "exited" | "stopped" | "dead" => self.over(state),
            other => {
                return Err(format!(
                    "the engine says that it is {other:?}, which nobody knows"
                ));
            }
        })
    }

    /// Why an order of ours to start it anew failed, where it has neither been started since, nor ended only later.
    fn unstarted(&self, state: &State) -> Option<&str> {
        let (at, why) = self.word.refused.as_ref()?;
        let (started, finished) = (
            nanos(state.started_at.as_ref()),
            nanos(state.finished_at.as_ref()),
        );
        (started < *at && finished <= *at).then_some(why.as_str())
    }

    fn over(&self, state: &State) -> Phase {
        let (started, finished) = (
            nanos(state.started_at.as_ref()),
            nanos(state.finished_at.as_ref()),
        );
        let code = state.exit_code.unwrap_or(0);
        if self.was_meant(started, finished) {
            return Phase::Stopped;
        }
        let told = self.word.died > started;
        let recent = (0..SETTLES).contains(&self.now.saturating_sub(finished));
        if recent && !told && self.stopped_by_user.is_none() {
            return Phase::Stopping;
        }
        let lack = state.oom_killed == Some(true);
        let looks_meant = {
            let signals = [15, 9, i64::from(stop_signal(self.container))];
            !lack && said(state).is_none() && (code == 0 || signals.contains(&(code - 128)))
        };
        let all_told = told && self.listening && !self.podman;
        let certain = self.stopped_by_user == Some(false) || all_told || !looks_meant;
        let why = match said(state) {
            Some(error) => error,
            None if lack => format!("it ended for lack of memory, with exit code {code}"),
            None => format!("it ended by itself with exit code {code}"),
        };
        match self.policy() {
            Policy::No if certain => Phase::Failed {
                why,
                gave_up: false,
            },
            Policy::OnFailure(_) if code == 0 => Phase::Stopped,
            Policy::OnFailure(most) if most > 0 && self.restarts() >= most => {
                let why = format!(
                    "{why}; it was started anew {most} times, which is all that its restart policy allows"
                );
                Phase::Failed { why, gave_up: true }
            }
            // They are about to.
            Policy::Always | Policy::OnFailure(_) if recent => Phase::Stopping,
            Policy::Always | Policy::OnFailure(_) if certain => {
                let why = format!("{why}; its restart policy has not started it anew");
                Phase::Failed { why, gave_up: true }
            }
            _ => Phase::Stopped,
        }
    }

    /// Somebody had it end, as far as the engine said so.
    fn was_meant(&self, started: i64, finished: i64) -> bool {
        let word = self.word;
        let asked = |signal: u16| {
            word.signals
                .get(&signal)
                .is_some_and(|time| *time > started)
        };
        let unnamed = word.unnamed > started && finished.saturating_sub(word.unnamed) < CAUSE;
        self.stopped_by_user == Some(true)
            || word.stopped > started
            || asked(9)
            || asked(15)
            || asked(stop_signal(self.container))
            || (unnamed && self.stopped_by_user.is_none())
    }

    fn restarts(&self) -> i64 {
        self.container.restart_count.unwrap_or(0)
    }

    fn policy(&self) -> Policy {
        let config = self.container.host_config.as_ref();
        let policy = config.and_then(|config| config.restart_policy.as_ref());
        match policy.and_then(|policy| policy.name.as_deref()) {
            Some("always" | "unless-stopped") => Policy::Always,
            Some("on-failure") => Policy::OnFailure(
                policy
                    .and_then(|policy| policy.maximum_retry_count)
                    .unwrap_or(0),
            ),
            _ => Policy::No,
        }
    }

    /// Whether the engine starts it anew by itself, and how long that takes at most.
    pub(super) fn healer(&self) -> Option<Healer> {
        if matches!(self.policy(), Policy::No) {
            return None;
        }
        let (name, wait) = if self.podman {
            ("podman", Duration::ZERO)
        } else {
            ("docker", self.back_off())
        };
        Some(Healer {
            name: name.to_owned(),
            patience: wait + STARTS,
        })
    }

    /// How long Docker waits at most before it starts this one anew the next time.
    fn back_off(&self) -> Duration {
        let state = self.container.state.as_ref();
        let started = nanos(state.and_then(|state| state.started_at.as_ref()));
        if self.runs && self.now.saturating_sub(started) >= RAN {
            return FIRST;
        }
        let doubled = u32::try_from(self.restarts().clamp(0, 16)).unwrap_or(0);
        FIRST.saturating_mul(1 << doubled).min(LONGEST)
    }
}

/// The engine's own error, in one line.
fn said(state: &State) -> Option<String> {
    let error = state
        .error
        .as_deref()
        .map(str::trim)
        .filter(|error| !error.is_empty())?;
    Some(error.escape_debug().take(SAID).collect())
}

enum Policy {
    No,
    /// So often at most; 0 for no limit.
    OnFailure(i64),
    Always,
}
