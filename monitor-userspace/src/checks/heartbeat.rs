//! `heartbeat = "30s"`: the service says by itself, again and again, that it is well.
//!
//! By `POST /api/v1/heartbeats/SERVICE`, on the socket or on loopback; or by touching a file. Before the first one, what was started while
//! we look is not well yet; what was there before has as much time as between two that go missing.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::alone::Alone;
use super::beats::Heard;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::Span;
use crate::host::clock;
use crate::host::files::Found;
use crate::model::{Beat, CheckFailure, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "heartbeat",
    summary: "the service says by itself that it is well",
    serving: true,
    short: "every",
    example: "heartbeat = { every = \"30s\", missing = 3 }",
    read: read::<Heartbeat>,
};

/// `heartbeat = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heartbeat {
    /// Time between two.
    every: Span,
    /// So many that do not come are a failure.
    #[serde(default = "three")]
    missing: u32,
    /// A file that is touched, in place of a request.
    file: Option<PathBuf>,
    #[serde(skip)]
    touched: Alone<Touched>,
}

const fn three() -> u32 {
    3
}

impl Settings for Heartbeat {
    fn sensible(self) -> Result<Self, String> {
        if self.every.0 < Duration::from_millis(10) {
            return Err("`every` is at least 10ms".to_owned());
        }
        if self.missing == 0 || self.missing > super::MOST {
            return Err(format!("`missing` is 1 to {}", super::MOST));
        }
        if self.file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err("`file` is an absolute path".to_owned());
        }
        Ok(self)
    }
}

impl Check for Heartbeat {
    fn takes_beats(&self) -> bool {
        self.file.is_none()
    }

    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        Box::pin(async move {
            let heard = match self.file.clone() {
                Some(file) => {
                    self.touched
                        .block(move |touched| touched.look(&file))
                        .await?
                }
                None => about.tools.beats.heard(&about.service).ok_or_else(|| {
                    CheckFailure::Answer("the daemon takes no heartbeat of it now".to_owned())
                })?,
            };
            let process = about.tools.running.process(&about.service);
            let since_boot = |ticks: u64| Duration::from_millis(ticks.saturating_mul(10));
            let age = process
                .map(|process| clock::since_boot().saturating_sub(since_boot(process.start_ticks)));
            self.judge(clock::now(), &heard, age)
        })
    }
}

/// Start times of processes are known as exactly as this.
const TICK: Duration = Duration::from_millis(10);

impl Heartbeat {
    fn judge(
        &self,
        now: Time,
        heard: &Heard,
        process: Option<Duration>,
    ) -> Result<Answer, CheckFailure> {
        let limit = self.every.0.saturating_mul(self.missing);
        let wrong = |why: String| Err(CheckFailure::Answer(why));
        let watched = now.since(heard.since);
        let last = heard.last.as_ref().map(|(at, beat)| (now.since(*at), beat));
        // What an earlier process has sent says nothing of this one.
        let last = last.filter(|(age, _)| process.is_none_or(|process| *age + TICK < process));
        let Some((age, beat)) = last else {
            return match process.filter(|process| *process < watched) {
                Some(process) => wrong(format!(
                    "no heartbeat since it started {} ago",
                    seconds(process)
                )),
                None if watched > limit => wrong(format!(
                    "no heartbeat since it is waited for, {} ago; expected every {}",
                    seconds(watched),
                    self.every
                )),
                None => Ok(Answer::well().saying("no heartbeat yet: the first is waited for")),
            };
        };
        if age > limit {
            return wrong(format!(
                "the last heartbeat came {} ago, expected every {}",
                seconds(age),
                self.every
            ));
        }
        if let Some(error) = &beat.error {
            return wrong(format!("it says of itself: {error}"));
        }
        let mut answer = Answer::well().took("age", age);
        for (name, value) in &beat.figures {
            answer = answer.with(name, *value);
        }
        let text = beat.text.as_ref().map(|text| format!(": {text}"));
        Ok(answer.saying(format!("heartbeat{}", text.unwrap_or_default())))
    }
}

fn seconds(time: Duration) -> Span {
    if time < Duration::from_secs(10) {
        Span::millis(u64::try_from(time.as_millis()).unwrap_or(0))
    } else {
        Span::seconds(time.as_secs())
    }
}

/// When the file was touched last, by a clock that nobody sets.
#[derive(Default)]
struct Touched {
    /// Since when it is looked at.
    since: Option<Time>,
    /// Its time of change, and when that was seen to be another.
    last: Option<((i64, u64), Time)>,
}

impl Touched {
    fn look(&mut self, file: &std::path::Path) -> Result<Heard, CheckFailure> {
        let now = clock::now();
        match Found::at(file, false) {
            Ok(found) => {
                let stamp = (found.stat.st_mtime, found.stat.st_mtime_nsec);
                match self.last {
                    Some((known, _)) if known == stamp => {}
                    // Touched since the last look; at the first look, when its time says.
                    known => {
                        let ago = if known.is_some() {
                            Duration::ZERO
                        } else {
                            ago(stamp)
                        };
                        self.last = Some((stamp, now.before(ago)));
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let why = format!("{} cannot be looked at: {error}", file.display());
                return Err(CheckFailure::Answer(why));
            }
        }
        Ok(Heard {
            since: *self.since.get_or_insert(now),
            last: self.last.map(|(_, at)| (at, Beat::default())),
        })
    }
}

/// How long ago that was by the wall clock; now, if it is to come.
fn ago((seconds, nanos): (i64, u64)) -> Duration {
    let nanos = u32::try_from(nanos).unwrap_or(0);
    let at = SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanos);
    SystemTime::now().duration_since(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Heartbeat, String> {
        toml::from_str::<Heartbeat>(text)
            .map_err(|error| error.to_string())?
            .sensible()
    }

    fn at(second: i64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }

    fn heard(last: Option<i64>, beat: Beat) -> Heard {
        Heard {
            since: at(1000),
            last: last.map(|last| (at(last), beat)),
        }
    }

    fn says(result: Result<Answer, CheckFailure>, what: &str) {
        let why = result.expect_err(what).to_string();
        assert!(why.contains(what), "{what}: {why}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "every = \"0s\"",
            "every = \"1s\"\nmissing = 0",
            "every = \"1s\"\nfile = \"beat\"",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_that_stops_is_missed_and_one_that_comes_is_well() {
        let check = settings("every = \"10s\"").expect("it makes sense");
        let plain = || heard(Some(1100), Beat::default());
        assert!(check.judge(at(1130), &plain(), None).is_ok());
        says(
            check.judge(at(1131), &plain(), None),
            "31s ago, expected every 10s",
        );
        let error = Beat {
            error: Some("queue full".to_owned()),
            ..Beat::default()
        };
        says(
            check.judge(at(1101), &heard(Some(1100), error), None),
            "queue full",
        );
        let figures = Beat {
            figures: vec![("queue".to_owned(), 3.0)],
            ..Beat::default()
        };
        let answer = check
            .judge(at(1101), &heard(Some(1100), figures), None)
            .expect("it is well");
        assert_eq!(answer.figures.len(), 2);
    }

    #[test]
    fn before_the_first_one() {
        let check = settings("every = \"10s\"").expect("it makes sense");
        let none = || heard(None, Beat::default());
        let old = Some(Duration::from_secs(5000));
        assert!(
            check.judge(at(1030), &none(), old).is_ok(),
            "it may have sent one before we listened"
        );
        assert!(check.judge(at(1030), &none(), None).is_ok());
        says(check.judge(at(1031), &none(), old), "no heartbeat since");
        says(
            check.judge(at(1020), &none(), Some(Duration::from_secs(5))),
            "since it started 5s ago",
        );
    }

    #[test]
    fn a_new_process_is_proven_by_its_own() {
        let check = settings("every = \"10s\"").expect("it makes sense");
        let last = || heard(Some(1100), Beat::default());
        says(
            check.judge(at(1105), &last(), Some(Duration::from_secs(4))),
            "since it started 4s ago",
        );
        assert!(
            check
                .judge(at(1105), &last(), Some(Duration::from_secs(6)))
                .is_ok()
        );
    }
}
