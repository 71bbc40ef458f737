//! `metric = { name = "smart_monitor_service_up", labels = { service = "web" }, expect = { equals = 1 } }`: a figure that the daemon
//! exports is as expected.
//!
//! A name, labels that are equal, and bounds, for every series that has them; or its increase a second. Not PromQL: no functions of several
//! series, no history beyond the check before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::alone::Alone;
use super::expect::{Expect, shown};
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "metric",
    summary: "a figure that the daemon exports is as expected",
    serving: false,
    short: "name",
    example: "metric = { name = \"smart_monitor_service_up\", labels = { service = \"web\" }, expect = { equals = 1 } }",
    read: read::<Metric>,
};

/// Most series that are looked at.
const SERIES: usize = 1000;
/// Shortest time that an increase is taken over.
const SHORTEST: Duration = Duration::from_millis(100);

/// `metric = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    /// Its name, as it stands on `/metrics`.
    name: String,
    /// Labels that it has; whatever values where none is named.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What is well.
    #[serde(default)]
    expect: Expect,
    /// Its increase a second since the check before, in place of its value.
    #[serde(default)]
    rate: bool,
    #[serde(skip)]
    before: Alone<Before>,
}

/// Values at the check before.
#[derive(Debug, Default)]
struct Before {
    at: Option<Instant>,
    values: BTreeMap<String, f64>,
}

impl Settings for Metric {
    fn sensible(self) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        if self.name.is_empty() || !self.name.chars().all(good) {
            return Err(format!(
                "`{}` is no name of a metric; docs/metrics.md has all",
                shown(&self.name)
            ));
        }
        self.expect.sensible()?;
        Ok(self)
    }
}

impl Check for Metric {
    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        Box::pin(async move {
            let page = about.tools.metrics.page().map_err(CheckFailure::Answer)?;
            let (name, labels) = (self.name.clone(), self.labels.clone());
            let (expect, rate) = (self.expect, self.rate);
            let look = move |before: &mut Before| {
                let mut series = select(&page, &name, &labels);
                let more = series.len().saturating_sub(SERIES);
                series.truncate(SERIES);
                if more > 0 {
                    return Err(wrong(format!(
                        "{name} has more than {SERIES} series with these labels: name more labels"
                    )));
                }
                if series.is_empty() {
                    return Err(wrong(format!(
                        "the daemon exports no {name} with these labels"
                    )));
                }
                let series = if rate {
                    match before.rates(series, Instant::now()) {
                        Some(rates) => rates,
                        None => {
                            return Ok(
                                Answer::well().saying("an increase is known at the next check")
                            );
                        }
                    }
                } else {
                    series
                };
                judge(&name, &series, expect, rate)
            };
            self.before.block(look).await
        })
    }
}

fn wrong(why: String) -> CheckFailure {
    CheckFailure::Answer(why)
}

#[expect(clippy::cast_precision_loss, reason = "there are at most a thousand")]
fn judge(
    name: &str,
    series: &[(String, f64)],
    expect: Expect,
    rate: bool,
) -> Result<Answer, CheckFailure> {
    let what = if rate { "increases a second by" } else { "is" };
    for (labels, value) in series {
        expect
            .holds(*value)
            .map_err(|why| wrong(format!("{name}{} {what} {value}, {why}", shown(labels))))?;
    }
    let answer = Answer::well().with("series", series.len() as f64);
    Ok(match series {
        [(labels, value)] => answer
            .with("value", *value)
            .saying(format!("{name}{} {what} {value}", shown(labels))),
        several => answer.saying(format!(
            "{} series of {name} are as expected",
            several.len()
        )),
    })
}

impl Before {
    /// Increase a second of each series that was there before; none when nothing was.
    fn rates(&mut self, now: Vec<(String, f64)>, at: Instant) -> Option<Vec<(String, f64)>> {
        let over = self.at.map(|before| at.duration_since(before));
        if over.is_some_and(|over| over < SHORTEST) {
            return None;
        }
        let rate = |(labels, value): &(String, f64)| {
            let before = self.values.get(labels)?;
            // A counter that became less began anew.
            let more = if value < before {
                *value
            } else {
                value - before
            };
            Some((labels.clone(), more / over?.as_secs_f64()))
        };
        let rates: Vec<_> = now.iter().filter_map(rate).collect();
        self.values = now.into_iter().collect();
        self.at = Some(at);
        (!rates.is_empty()).then_some(rates)
    }
}

/// Labels, as written, and values of all series of a name that have these labels.
fn select(page: &str, name: &str, wanted: &BTreeMap<String, String>) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => match labels(rest) {
                Some(read) => read,
                None => continue,
            },
            None if rest.starts_with(' ') => (Vec::new(), rest),
            None => continue,
        };
        let has = |(name, value): (&String, &String)| {
            labels
                .iter()
                .any(|(other, it)| other == name && it == value)
        };
        if !wanted.iter().all(has) {
            continue;
        }
        let text = rest.strip_suffix(value).unwrap_or("").to_owned();
        let value = value
            .split_ascii_whitespace()
            .next()
            .and_then(|value| value.parse().ok());
        found.extend(value.map(|value| (text, value)));
        if found.len() > SERIES {
            break;
        }
    }
    found
}

/// Names and values of labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let (mut found, mut left) = (Vec::new(), text);
    loop {
        if let Some(rest) = left.strip_prefix('}') {
            return Some((found, rest));
        }
        left = left.strip_prefix(',').unwrap_or(left);
        let (name, rest) = left.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        found.push((name, value));
        left = rest.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP up Up.\n# TYPE up gauge\nup{service=\"web\",kind=\"a\"} 1\nup{service=\"we\\\"b, {x}\"} 0\nup_total 7\nplain 3.5\nbroken{a=\"b 1\nup{service=\"no\"} much\n";

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn series_are_selected_by_name_and_labels() {
        let values = |name, labels: &[(&str, &str)]| {
            let found = select(PAGE, name, &wanted(labels));
            found
                .into_iter()
                .map(|(_, value)| value)
                .collect::<Vec<f64>>()
        };
        assert_eq!(values("up", &[]), [1.0, 0.0]);
        assert_eq!(values("up", &[("service", "web")]), [1.0]);
        assert_eq!(values("up", &[("service", "we\"b, {x}")]), [0.0]);
        assert_eq!(values("up_total", &[]), [7.0]);
        assert_eq!(values("plain", &[]), [3.5]);
        for (name, labels) in [
            ("pla", &[][..]),
            ("broken", &[]),
            ("plain", &[("a", "b")]),
            ("none", &[]),
        ] {
            assert!(values(name, labels).is_empty(), "{name}");
        }
    }

    #[test]
    fn every_series_is_judged() {
        let expect = Expect {
            equals: Some(1.0),
            ..Expect::default()
        };
        assert!(
            judge(
                "up",
                &select(PAGE, "up", &wanted(&[("kind", "a")])),
                expect,
                false
            )
            .is_ok()
        );
        let why = judge("up", &select(PAGE, "up", &wanted(&[])), expect, false);
        let why = why.expect_err("one is 0").to_string();
        assert!(why.contains("is 0, expected 1"), "{why}");
    }

    #[test]
    fn rates_are_of_the_time_between_two_checks() {
        let (mut before, start) = (Before::default(), Instant::now());
        let series = |value| vec![("{}".to_owned(), value)];
        assert_eq!(before.rates(series(10.0), start), None);
        assert_eq!(
            before.rates(series(30.0), start + Duration::from_secs(2)),
            Some(series(10.0))
        );
        assert_eq!(
            before.rates(series(4.0), start + Duration::from_secs(4)),
            Some(series(2.0)),
            "it began anew"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "name = \"up\"",
            "name = \"a b\"\nexpect = { above = 1 }",
            "name = \"up\"\nexpect = { over = 1 }",
        ] {
            let read = toml::from_str::<Metric>(text).map_err(|error| error.to_string());
            assert!(read.and_then(Settings::sensible).is_err(), "{text}");
        }
    }
}
