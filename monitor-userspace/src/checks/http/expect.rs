//! What an answer must be: its status, what its body holds, what stands in its JSON.

use regex::bytes::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::checks::net::banner::{Pattern, excerpt};

/// Statuses: `200`, `"2xx"`, `"200-299"`, or a list of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl Statuses {
    pub(super) fn has(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (from, to)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            if from == to {
                write!(f, "{comma}{from}")?;
            } else {
                write!(f, "{comma}{from} to {to}")?;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> Written<T> {
    fn all(self) -> Vec<T> {
        match self {
            Self::Many(all) => all,
            Self::One(one) => vec![one],
        }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::<toml::Value>::deserialize(from)?.all();
        let all: Option<Vec<_>> = written.iter().map(range).collect();
        let all = all.filter(|all| !all.is_empty());
        all.map(Self).ok_or_else(|| {
            serde::de::Error::custom(
                "`status` is a number of 100 to 599, \"2xx\", \"200-299\", or a list of these",
            )
        })
    }
}

fn range(written: &toml::Value) -> Option<(u16, u16)> {
    let (from, to) = match written {
        toml::Value::Integer(one) => (u16::try_from(*one).ok()?, u16::try_from(*one).ok()?),
        toml::Value::String(text) => match text.strip_suffix("xx") {
            Some(hundreds) => {
                let hundreds: u16 = hundreds.parse().ok().filter(|it| *it < 10)?;
                (hundreds * 100, hundreds * 100 + 99)
            }
            None => match text.split_once('-') {
                Some((from, to)) => (from.trim().parse().ok()?, to.trim().parse().ok()?),
                None => (text.parse().ok()?, text.parse().ok()?),
            },
        },
        _ => return None,
    };
    (100 <= from && from <= to && to <= 599).then_some((from, to))
}

/// `body = "text"`, or `body = { matches = "regex" }`.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Contains(String),
    Matches(Regex),
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            contains: Option<String>,
            matches: Option<Pattern>,
        }
        let wrong = |why: &str| {
            serde::de::Error::custom(format!(
                "{why}: `body` is written as \"text\", {{ contains = \"text\" }} or {{ matches = \"regular expression\" }}"
            ))
        };
        match toml::Value::deserialize(from)? {
            toml::Value::String(text) => Ok(Self::Contains(text)),
            other => {
                let table = Table::deserialize(other);
                let table = table.map_err(|why| wrong(why.message()))?;
                match (table.contains, table.matches) {
                    (Some(text), None) => Ok(Self::Contains(text)),
                    (None, Some(Pattern(pattern))) => Ok(Self::Matches(pattern)),
                    _ => Err(wrong("one of both")),
                }
            }
        }
    }
}

impl Body {
    /// Why the body is not the expected one. Does not show it: there may be secrets in it.
    pub(super) fn trouble(&self, body: &[u8], cut: bool) -> Option<String> {
        let (found, expected) = match self {
            Self::Contains(text) => {
                let found =
                    text.is_empty() || body.windows(text.len()).any(|it| it == text.as_bytes());
                (found, excerpt(text.as_bytes()))
            }
            Self::Matches(pattern) => (pattern.is_match(body), format!("`{pattern}`")),
        };
        let read = if cut {
            "of which no more is read"
        } else {
            "which is all of it"
        };
        (!found).then(|| {
            format!(
                "{expected} is not in the {} bytes of its body, {read}",
                body.len()
            )
        })
    }
}

/// `json = { path = "status", equals = "ok" }`; a path is names and places in lists, with dots between.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Json {
    path: String,
    equals: Option<toml::Value>,
    above: Option<f64>,
    below: Option<f64>,
}

/// One of them, or several.
#[derive(Clone, Debug, Default)]
pub(super) struct Jsons(pub(super) Vec<Json>);

impl<'de> Deserialize<'de> for Jsons {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let all = match toml::Value::deserialize(from)? {
            toml::Value::Array(all) => all,
            one => vec![one],
        };
        let read = |one| {
            let one = Json::deserialize(one);
            one.map_err(|why: toml::de::Error| {
                serde::de::Error::custom(format!("`json`: {}", why.message()))
            })
        };
        all.into_iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Jsons {
    pub(super) fn sensible(&self) -> Result<(), String> {
        for one in &self.0 {
            let compared = one.above.is_some() || one.below.is_some();
            let plain = !matches!(
                one.equals,
                Some(toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_))
            );
            if one.path.is_empty() || !plain || one.equals.is_some() == compared {
                return Err(format!(
                    "`json` of the path `{}` needs `equals` (a text, a number, true or false), or else `above`, `below` or both",
                    one.path
                ));
            }
        }
        Ok(())
    }

    /// Why the body is not the expected one.
    pub(super) fn trouble(&self, body: &[u8], cut: bool) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        if cut {
            return Some(format!(
                "its JSON is larger than the {} bytes that are read",
                body.len()
            ));
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => self.0.iter().find_map(|one| one.trouble(&value)),
            Err(why) => Some(format!("its body is no JSON: {why}")),
        }
    }
}

impl Json {
    fn trouble(&self, whole: &Value) -> Option<String> {
        let path = &self.path;
        let mut found = whole;
        for part in path.split('.') {
            let next = match found {
                Value::Object(all) => all.get(part),
                Value::Array(all) => part.parse::<usize>().ok().and_then(|at| all.get(at)),
                _ => None,
            };
            let Some(next) = next else {
                return Some(format!("there is no `{path}` in its JSON (no `{part}`)"));
            };
            found = next;
        }
        let shown = || excerpt(found.to_string().as_bytes());
        if let Some(expected) = &self.equals {
            return (!same(found, expected))
                .then(|| format!("`{path}` in its JSON is {}, expected {expected}", shown()));
        }
        let Some(number) = found.as_f64() else {
            return Some(format!(
                "`{path}` in its JSON is {}, which is no number",
                shown()
            ));
        };
        let low = self.above.filter(|above| number <= *above);
        let high = self.below.filter(|below| number >= *below);
        low.map(|above| format!("`{path}` in its JSON is {number}, expected more than {above}"))
            .or_else(|| {
                high.map(|below| {
                    format!("`{path}` in its JSON is {number}, expected less than {below}")
                })
            })
    }
}

fn same(found: &Value, expected: &toml::Value) -> bool {
    match expected {
        toml::Value::String(text) => found.as_str() == Some(text),
        toml::Value::Boolean(it) => found.as_bool() == Some(*it),
        toml::Value::Integer(it) => {
            found.as_i64() == Some(*it)
                || found
                    .as_f64()
                    .is_some_and(|number| number.to_string() == it.to_string())
        }
        toml::Value::Float(it) => found
            .as_f64()
            .is_some_and(|number| (number - it).abs() < f64::EPSILON),
        _ => false,
    }
}

#[cfg(test)]
#[path = "expect_tests.rs"]
mod tests;
