//! `objectives` of a `[[service]]`: what it is meant to keep towards those who use it.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::resolve::Mistakes;
use super::units::{Percent, Span};
use crate::model::{Objective, Promise, Service};

/// As written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Within this, so many of 100 requests are to be answered as `percentile` says.
    pub latency: Option<Span>,
    /// 50, 90 or 99.
    #[serde(default = "percentile")]
    pub percentile: u8,
    /// At most so many requests may fail.
    pub errors: Option<Percent>,
    /// Over how long that is looked at.
    #[serde(default = "over")]
    pub over: Span,
}

const fn percentile() -> u8 {
    99
}

const fn over() -> Span {
    Span(Duration::from_mins(5))
}

/// The percentiles that the kernel's counts are read at.
const PERCENTILES: [u8; 3] = [50, 90, 99];
const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(24);

pub(super) fn resolve(
    raw: &Spanned<Raw>,
    service: &Service,
    mistakes: &mut Mistakes,
) -> Vec<Objective> {
    let written = raw.get_ref();
    let mut wrong = |message: String, help: &str| {
        mistakes.add(raw, message, Some(help.to_owned()));
    };
    if written.latency.is_none() && written.errors.is_none() {
        wrong(
            "`objectives` names neither `latency` nor `errors`".to_owned(),
            "for example `objectives = { latency = \"200ms\", errors = \"1%\" }`",
        );
    }
    if !PERCENTILES.contains(&written.percentile) {
        let message = format!("`percentile = {}` is not looked at", written.percentile);
        wrong(message, "write 50, 90 or 99");
    }
    if !(SHORTEST..=LONGEST).contains(&written.over.0) {
        let message = format!("objectives are not looked at `over` {}", written.over);
        wrong(message, "write a time from `1m` to `24h`");
    }
    if written.latency.is_some_and(|most| most.0.is_zero()) {
        wrong(
            "no answer takes no time: `latency` is 0".to_owned(),
            "for example `latency = \"200ms\"`",
        );
    }
    if written.errors.is_some_and(|most| most.0 >= 100.0) {
        let message = "`errors` of 100 % and more are never too many".to_owned();
        wrong(message, "for example `errors = \"1%\"`");
    }
    if written.errors.is_some() && !service.checked {
        let message = format!("nothing tells the errors of `{}`", service.name);
        let help = "give it a check that shows that it serves, as `check = { http = \"http://127.0.0.1:8080/\" }`";
        wrong(message, help);
    }
    let latency = written.latency.map(|most| Promise::Latency {
        percentile: written.percentile,
        most: most.0,
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is at most one, and never below 0"
    )]
    let errors = written.errors.map(|most| Promise::Errors {
        most: (most.share().min(1.0) * 1e6).round() as u64,
    });
    let promises = latency.into_iter().chain(errors);
    promises
        .map(|promise| Objective {
            promise,
            over: written.over.0,
            kept: None,
        })
        .collect()
}
