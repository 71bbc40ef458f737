//! A step, as it is meant.

use std::ops::Range;
use std::time::Duration;

use monitor_common::Kind;
use toml::Spanned;

use super::{Mistakes, keys};
use crate::actions;
use crate::config::{Config, units::Span};
use crate::detectors::service_down::SIGNALS;
use crate::model::{CheckFailure, HostLoad, Severity};
use crate::policy_test::raw;
use crate::policy_test::step::{Input, What, Word};

/// Who a person is, where a step does not say.
const SOMEBODY: &str = "test";

/// What a step means; none, and mistakes, when that cannot be said.
pub(super) fn what(
    step: &Spanned<raw::Step>,
    config: &Config,
    mistakes: &mut Mistakes,
) -> Option<What> {
    let head = keys::head(step, mistakes)?;
    let mut reader = Reader {
        step: step.get_ref(),
        span: step.span(),
        config,
        mistakes,
    };
    match head {
        "effects" => Some(What::Effects),
        "expect" => reader.expect().map(What::Expect),
        _ => reader.input().map(What::Input),
    }
}

/// Reads a step.
pub(super) struct Reader<'a> {
    pub(super) step: &'a raw::Step,
    pub(super) span: Range<usize>,
    pub(super) config: &'a Config,
    pub(super) mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn input(&mut self) -> Option<Input> {
        let step = self.step;
        if let Some(name) = &step.started {
            return Some(Input::Started(self.service(name)?));
        }
        if let Some(name) = &step.exited {
            let status = match &step.status {
                Some(status) => self.status(status)?,
                None => 0,
            };
            return Some(Input::Exited(self.service(name)?, status));
        }
        if let Some(name) = &step.start_failed {
            let reason = text(step.reason.as_ref(), "the test says so");
            return Some(Input::StartFailed(self.service(name)?, reason));
        }
        if let Some(name) = &step.raised {
            let facts = step.facts.as_ref().map(|facts| facts.get_ref().clone());
            return Some(Input::Raised {
                detector: self.detector(Some(name))??,
                on: self.on(step.on.as_ref())??,
                severity: step
                    .severity
                    .as_ref()
                    .map_or(Severity::Critical, |severity| *severity.get_ref()),
                facts: facts.unwrap_or_default().into_iter().map(fact).collect(),
            });
        }
        if let Some(name) = &step.cleared {
            return Some(Input::Cleared {
                detector: self.detector(Some(name))??,
                on: self.on(step.on.as_ref())??,
                because: text(step.reason.as_ref(), "the test says so"),
            });
        }
        if let Some(name) = &step.check {
            return Some(Input::Check {
                service: self.service(name)?,
                check: self.check(name)?,
                failure: self.failure(name)?,
                latency: time(step.latency.as_ref()),
            });
        }
        if let Some(load) = &step.load {
            return self.load(load).map(Input::Load);
        }
        if let Some(name) = &step.lost {
            let kinds = Kind::ALL.iter().map(|kind| (kind.name(), *kind));
            let kind = self.mistakes.one_of("probe", name, kinds)?;
            let count = step.count.as_ref().map_or(1, |count| *count.get_ref());
            return Some(Input::Lost(kind, count));
        }
        if let Some(text) = &step.clock {
            return self.mistakes.clock(text).map(Input::Clock);
        }
        self.person()
    }

    fn person(&mut self) -> Option<Input> {
        let step = self.step;
        let by = text(step.by.as_ref(), SOMEBODY);
        let words = [
            (&step.approve, Word::Approve),
            (&step.reject, Word::Reject),
            (&step.acknowledge, Word::Acknowledge),
        ];
        for (name, word) in words {
            if name.is_some() {
                return Some(Input::Word {
                    word,
                    on: self.on(name.as_ref())??,
                    detector: self.detector(step.detector.as_ref())?,
                    by,
                });
            }
        }
        if let Some(action) = &step.asked {
            let known = actions::ALL.iter().map(|spec| (spec.name, spec.name));
            return Some(Input::Asked {
                action: self.mistakes.one_of("action", action, known)?.to_owned(),
                on: self.on(step.on.as_ref())??,
                rule: self.rule()?,
                by,
            });
        }
        if step.lifted.is_some() {
            return Some(Input::Lifted {
                on: self.on(step.lifted.as_ref())??,
                detector: self.detector(step.detector.as_ref())?,
                by,
            });
        }
        if let Some(name) = &step.unsilence {
            return Some(Input::Unsilence(self.silenced(name)?, by));
        }
        let name = step.silence.as_ref()?;
        let Some(time) = &step.r#for else {
            let message = "a silence needs its length".to_owned();
            let help = Some("for example `for = \"1h\"`".to_owned());
            self.mistakes.add(name.span(), message, help);
            return None;
        };
        Some(Input::Silence {
            on: self.silenced(name)?,
            time: time.get_ref().0,
            detector: self.detector(step.detector.as_ref())?,
            by,
            reason: text(step.reason.as_ref(), "the test says so"),
        })
    }

    /// A wait status: an exit code, or the name of a signal.
    fn status(&mut self, status: &Spanned<toml::Value>) -> Option<u32> {
        match status.get_ref() {
            toml::Value::Integer(code) => {
                if let Ok(code) = u8::try_from(*code) {
                    return Some(u32::from(code) << 8);
                }
            }
            toml::Value::String(name) => {
                let short = name.strip_prefix("SIG").unwrap_or(name);
                let number = SIGNALS.iter().position(|signal| *signal == short);
                if let Some(number) = number.and_then(|at| u32::try_from(at + 1).ok()) {
                    return Some(number);
                }
            }
            _ => {}
        }
        let message = format!("nothing ends with the status {}", status.get_ref());
        let help = "write an exit code, 0 to 255, or a signal, such as \"SIGKILL\"".to_owned();
        self.mistakes.add(status.span(), message, Some(help));
        None
    }

    /// The outer none is a mistake, the inner one a good answer.
    #[expect(
        clippy::option_option,
        reason = "not written is not the same as written wrong"
    )]
    fn failure(&mut self, check: &Spanned<String>) -> Option<Option<CheckFailure>> {
        let step = self.step;
        let reason = || text(step.reason.as_ref(), "the test says so");
        match (&step.ok, &step.failure) {
            (Some(ok), None) if *ok.get_ref() => Some(None),
            (None, Some(name)) => {
                let known = [
                    ("timeout", CheckFailure::Timeout),
                    ("connect", CheckFailure::Connect(reason())),
                    ("answer", CheckFailure::Answer(reason())),
                ];
                self.mistakes
                    .one_of("failure of a check", name, known)
                    .map(Some)
            }
            _ => {
                let message = "what did the check find?".to_owned();
                let help = "write either `ok = true`, or `failure = \"timeout\"`, \"connect\" or \"answer\"".to_owned();
                self.mistakes.add(check.span(), message, Some(help));
                None
            }
        }
    }

    fn load(&mut self, load: &Spanned<raw::Load>) -> Option<HostLoad> {
        let raw = load.get_ref();
        let shares = [
            raw.cpu_some,
            raw.memory_some,
            raw.memory_full,
            raw.io_some,
            raw.io_full,
        ];
        let good = shares.iter().all(|share| (0.0..=100.0).contains(share))
            && (0.0..=1e6).contains(&raw.load1);
        if !good {
            let message = "a share of the last 10 s is 0 to 100, per cent".to_owned();
            let help = "and `load1`, the load average, is 0 or more".to_owned();
            self.mistakes.add(load.span(), message, Some(help));
            return None;
        }
        Some(HostLoad {
            cpus: raw.cpus.max(1),
            load1: hundredths(raw.load1),
            cpu_some: hundredths(raw.cpu_some),
            memory_some: hundredths(raw.memory_some),
            memory_full: hundredths(raw.memory_full),
            io_some: hundredths(raw.io_some),
            io_full: hundredths(raw.io_full),
        })
    }
}

fn text(written: Option<&Spanned<String>>, default: &str) -> String {
    written.map_or_else(|| default.to_owned(), |text| text.get_ref().clone())
}

fn time(written: Option<&Spanned<Span>>) -> Duration {
    written.map_or(Duration::ZERO, |time| time.get_ref().0)
}

fn fact((name, value): (String, toml::Value)) -> (String, String) {
    match value {
        toml::Value::String(text) => (name, text),
        other => (name, other.to_string()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range was looked at before"
)]
fn hundredths(number: f64) -> u32 {
    (number * 100.0).round() as u32
}
