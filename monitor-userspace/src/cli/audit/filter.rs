//! Which entries are asked for.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::book::{Act, Case, name_of};
use crate::model::{EffectResult, Outcome, Request, State};
use crate::record::Entry;
use crate::record::journal::Line;

/// What an entry must be to be listed; what is not given does not matter.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Nanoseconds since 1970.
    pub(super) since: Option<i64>,
    /// Nanoseconds since 1970, not any more.
    pub(super) until: Option<i64>,
    pub(super) service: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) action: Option<String>,
    pub(super) incident: Option<u64>,
    pub(super) outcome: Option<Outcome>,
    pub(super) by: Option<String>,
    pub(super) acts: bool,
}

/// What an entry is, as far as it can be asked for.
#[derive(Debug, Default, PartialEq)]
struct Facts<'a> {
    /// The service, or what stands for one.
    on: Option<Cow<'a, str>>,
    /// The process's name, where it has a name beside that.
    comm: Option<&'a str>,
    rule: Option<&'a str>,
    action: Option<&'a str>,
    incident: Option<u64>,
    outcome: Option<Outcome>,
    by: Option<&'a str>,
    act: bool,
}

impl Filter {
    /// Whether this instant, nanoseconds since 1970, is within what is asked for.
    pub(super) fn covers(&self, unix_ns: i64) -> bool {
        self.since.is_none_or(|since| unix_ns >= since)
            && self.until.is_none_or(|until| unix_ns < until)
    }

    /// Whether what is about this is asked for.
    pub(super) fn is_about(&self, on: Option<&str>, comm: Option<&str>) -> bool {
        self.service
            .as_deref()
            .is_none_or(|name| on == Some(name) || comm == Some(name))
    }

    /// Whether the entry is asked for. `case` is the incident it is about, `act` the act it belongs to, as far as they are known.
    pub(super) fn wants(&self, line: &Line, case: Option<&Case>, act: Option<&Act>) -> bool {
        fn is<T: PartialEq + ?Sized>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let facts = Facts::of(&line.entry, case, act);
        self.covers(line.unix_ns)
            && self.is_about(facts.on.as_deref(), facts.comm)
            && is(self.rule.as_deref(), facts.rule)
            && is(self.action.as_deref(), facts.action)
            && is(self.incident.as_ref(), facts.incident.as_ref())
            && is(self.outcome.as_ref(), facts.outcome.as_ref())
            && is(self.by.as_deref(), facts.by)
            && (facts.act || !self.acts)
    }
}

impl<'a> Facts<'a> {
    fn of(entry: &'a Entry, case: Option<&'a Case>, act: Option<&'a Act>) -> Self {
        let about_case = || Self {
            on: case.map(|case| case.on.as_str().into()),
            comm: case.and_then(|case| case.comm.as_deref()),
            ..Self::default()
        };
        let of_act = || Self {
            rule: act.map(|act| act.rule.as_str()),
            outcome: act.and_then(|act| act.outcome),
            by: act.and_then(|act| act.by.as_deref()),
            act: true,
            ..about_case()
        };
        match entry {
            Entry::Incident { incident } => {
                let (on, comm) = name_of(incident);
                let judged = !matches!(incident.state, State::Acting | State::Verifying);
                Self {
                    on: Some(on),
                    comm,
                    rule: incident.rule.as_deref(),
                    incident: Some(incident.id.0),
                    outcome: incident.outcome.filter(|_| judged),
                    ..Self::default()
                }
            }
            Entry::Intent {
                incident,
                action,
                rule,
                by,
                ..
            } => {
                let (on, comm) = name_of(incident);
                Self {
                    on: Some(on),
                    comm,
                    rule: Some(rule),
                    action: Some(action),
                    incident: Some(incident.id.0),
                    by: by.as_deref(),
                    ..of_act()
                }
            }
            Entry::Effect { effect } => Self {
                action: Some(&effect.action),
                incident: Some(effect.incident.0),
                outcome: of_act().outcome.or(at_once(&effect.result)),
                ..of_act()
            },
            Entry::WillChange {
                incident, action, ..
            } => Self {
                action: Some(action),
                incident: Some(incident.0),
                ..of_act()
            },
            Entry::Person { by, request } => Self {
                on: match request {
                    Request::Silence { silence } => Some(silence.on.as_str().into()),
                    Request::Act { subject, .. } => {
                        subject.configured_name().map(|name| name.to_owned().into())
                    }
                    _ => about_case().on,
                },
                incident: incident_of(request),
                by: Some(by),
                ..about_case()
            },
            Entry::StormEnding { target, .. } | Entry::Guarded { target, .. } => Self {
                on: Some(target.strip_prefix("service ").unwrap_or(target).into()),
                ..Self::default()
            },
            Entry::ServiceStarted { service, .. } | Entry::Releases { service, .. } => Self {
                on: Some(service.as_str().into()),
                ..Self::default()
            },
            Entry::Started { .. }
            | Entry::Ended
            | Entry::Resumed
            | Entry::Reloaded { .. }
            | Entry::Continued { .. } => Self::default(),
        }
    }
}

/// The outcome that an effect has without any further signal.
pub(super) const fn at_once(result: &EffectResult) -> Option<Outcome> {
    match result {
        EffectResult::Done { .. } => None,
        EffectResult::Failed { .. } => Some(Outcome::Failed),
        EffectResult::Refused { .. } => Some(Outcome::Refused),
    }
}

/// The incident that a person's request is about.
pub(super) const fn incident_of(request: &Request) -> Option<u64> {
    match request {
        Request::Approve { incident }
        | Request::Reject { incident }
        | Request::Acknowledge { incident }
        | Request::Undo { incident } => Some(incident.0),
        Request::Silence { .. }
        | Request::Unsilence { .. }
        | Request::Act { .. }
        | Request::Repair { .. }
        | Request::RestorePoint { .. }
        | Request::Watch { .. } => None,
    }
}

/// An outcome by its name.
pub(super) fn outcome(text: &str) -> Result<Outcome, String> {
    let all = Outcome::ALL.iter().copied();
    all.clone()
        .find(|outcome| outcome.name() == text)
        .ok_or_else(|| {
            let names: Vec<_> = all.map(Outcome::name).collect();
            format!("not an outcome; one of {}", names.join(", "))
        })
}

/// A length of time above zero.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let signed: Option<jiff::SignedDuration> = text.trim().parse().ok();
    signed
        .and_then(|signed| Duration::try_from(signed).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "not a length of time such as 500ms, 20s or 5m".to_owned())
}

/// An instant, or how long ago one was: nanoseconds since 1970.
pub(super) fn time(text: &str, now_unix_ns: i64) -> anyhow::Result<i64> {
    let text = text.trim();
    let ago = || {
        let span: jiff::Span = text.parse().ok()?;
        let now = Timestamp::from_nanosecond(now_unix_ns.into()).ok()?;
        // Days are those of the calendar here.
        let then = now.to_zoned(TimeZone::system()).checked_sub(span).ok()?;
        (!span.is_negative()).then(|| then.timestamp())
    };
    let found = text.parse::<Timestamp>().ok().or_else(ago);
    found
        .and_then(|at| i64::try_from(at.as_nanosecond()).ok())
        .ok_or_else(|| anyhow::anyhow!("`{text}` is no time; write how long ago, such as 24h or 7d, or a time such as 2026-03-01T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_or_ages() {
        let now = 1_000_000_000 * 1_000_000_000;
        let hours = |hours: i64| now - hours * 3_600_000_000_000;
        for (text, expected) in [
            ("24h", hours(24)),
            ("90 min", hours(1) - 1_800_000_000_000),
            ("2001-09-09T00:46:40Z", hours(1)),
            ("2001-09-09T02:46:40+02:00", hours(1)),
            (" 1h ", hours(1)),
        ] {
            assert_eq!(time(text, now).expect(text), expected, "{text}");
        }
        let week = time("7d", now).expect("a week");
        assert!((hours(7 * 24 + 2)..=hours(7 * 24 - 2)).contains(&week));
        for bad in ["", "24", "-1h", "yesterday", "2001-09-09", "999999999h"] {
            let error = time(bad, now).expect_err(bad).to_string();
            assert!(error.contains("24h"), "{error}");
        }
    }

    #[test]
    fn outcomes_have_names() {
        assert_eq!(outcome("no_effect"), Ok(Outcome::NoEffect));
        assert!(outcome("good").is_err_and(|why| why.contains("would_have")));
    }

    #[test]
    fn ends_are_exact() {
        let filter = Filter {
            since: Some(10),
            until: Some(20),
            ..Filter::default()
        };
        assert_eq!(
            [9, 10, 19, 20].map(|at| filter.covers(at)),
            [false, true, true, false]
        );
    }
}
