//! From what is written to what is meant, or to mistakes with their places.

mod expectations;
mod keys;
mod names;
mod steps;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::step::{Becomes, Step, Test};
use super::{Suite, Unusable, raw};
use crate::config::error::{Found, nearest};
use crate::config::{Config, ConfigError};

/// Most tests in a file.
const TESTS: usize = 1000;
/// Most steps in a test.
const STEPS: usize = 10_000;
/// Longest test.
const LONGEST: Duration = Duration::from_hours(24 * 366);
/// How long the machine has been up at the begin of a test that does not say.
const UPTIME: Duration = Duration::from_hours(24 * 7);
/// The wall clock at the begin of a test that does not say: a Thursday at noon.
const START: &str = "2026-01-01T12:00:00Z";

/// Reads a text. What it names is read by `read`.
pub(super) fn suite(
    text: &str,
    path: &Path,
    read: &mut dyn FnMut(&Path) -> Result<String, String>,
) -> Result<Suite, Unusable> {
    let root: raw::Root =
        toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
    let mut mistakes = Mistakes(Vec::new());
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let config_path = folder.join(root.config.get_ref());
    let written = match read(&config_path) {
        Ok(written) => written,
        Err(why) => {
            let message = format!("cannot read {}: {why}", config_path.display());
            let help = "`config` counts from the folder of this file".to_owned();
            mistakes.add(root.config.span(), message, Some(help));
            return Err(ConfigError::new(mistakes.0, text, path).into());
        }
    };
    let config = Config::parse(&written, &config_path)?;
    let mut names = BTreeSet::new();
    let mut tests = Vec::new();
    for raw in root.test.into_iter().take(TESTS + 1) {
        if tests.len() == TESTS {
            let message = format!("more than {TESTS} tests; make it several files");
            mistakes.add(raw.name.span(), message, None);
            break;
        }
        if !names.insert(raw.name.get_ref().clone()) {
            let message = format!("two tests are called `{}`", raw.name.get_ref());
            mistakes.add(raw.name.span(), message, None);
        }
        tests.push(test(raw, root.dry_run, &config, &mut mistakes));
    }
    if tests.is_empty() {
        mistakes.add(0..0, "there is no [[test]] in this file".to_owned(), None);
    }
    if !mistakes.0.is_empty() {
        return Err(ConfigError::new(mistakes.0, text, path).into());
    }
    Ok(Suite {
        file: path.to_owned(),
        text: text.to_owned(),
        config,
        tests,
    })
}

fn test(raw: raw::Test, dry_run: Option<bool>, config: &Config, mistakes: &mut Mistakes) -> Test {
    let default = Spanned::new(0..0, START.to_owned());
    let before_it = mistakes.0.len();
    let start = mistakes.clock(raw.start.as_ref().unwrap_or(&default));
    let uptime = raw.uptime.as_ref().map_or(UPTIME, |uptime| {
        if uptime.get_ref().0 > LONGEST {
            let message = "a machine is up for 366 days at most, in tests".to_owned();
            mistakes.add(uptime.span(), message, None);
        }
        uptime.get_ref().0
    });
    let effects = raw.effects.as_ref();
    let effects = effects.and_then(|effects| mistakes.effects(effects));
    if raw.steps.is_empty() {
        let message = "this test has no steps".to_owned();
        mistakes.add(raw.name.span(), message, None);
    }
    if raw.steps.len() > STEPS {
        let message = format!("more than {STEPS} steps");
        mistakes.add(raw.name.span(), message, None);
    }
    let mut steps = Vec::new();
    let mut before = Duration::ZERO;
    for step in raw.steps.iter().take(STEPS) {
        let at = &step.get_ref().at;
        let time = at.get_ref().0;
        if time < before {
            let message = format!("this step comes before the one above it, at {before:?}");
            let help = "write steps in the order of their times".to_owned();
            mistakes.add(at.span(), message, Some(help));
        }
        if time > LONGEST {
            let message = format!("a test can be {} days long", LONGEST.as_secs() / 86_400);
            mistakes.add(at.span(), message, None);
        }
        before = before.max(time);
        if let Some(what) = steps::what(step, config, mistakes) {
            let effects = step.get_ref().effects.as_ref();
            steps.push(Step {
                at: time,
                span: step.span(),
                what,
                effects: effects.and_then(|effects| mistakes.effects(effects)),
            });
        }
    }
    let expects = raw.acts.is_some() || raw.steps.iter().any(|it| it.get_ref().expect.is_some());
    // What is wrong with its steps may be why.
    if !expects && mistakes.0.len() == before_it {
        let message = "this test expects nothing".to_owned();
        let help = "add a step with `expect`, or say how many `acts` there are in all".to_owned();
        mistakes.add(raw.name.span(), message, Some(help));
    }
    Test {
        name: raw.name.into_inner(),
        start: start.unwrap_or_default(),
        uptime,
        effects: effects.unwrap_or(Becomes::Done),
        dry_run: raw.dry_run.or(dry_run),
        steps,
        acts: raw.acts.map(|acts| (*acts.get_ref(), acts.span())),
    }
}

/// What is wrong with the file.
struct Mistakes(Vec<Found>);

impl Mistakes {
    fn add(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.0.push(Found {
            span,
            message,
            help,
        });
    }

    /// A name that must be one of some; none, and a mistake, when it is not.
    fn one_of<'a, T: Clone>(
        &mut self,
        what: &str,
        name: &Spanned<String>,
        known: impl IntoIterator<Item = (&'a str, T)>,
    ) -> Option<T> {
        let known: Vec<(&str, T)> = known.into_iter().collect();
        if let Some((_, meant)) = known.iter().find(|(known, _)| known == name.get_ref()) {
            return Some(meant.clone());
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let help = match nearest(name.get_ref(), names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => format!("the configuration names no {what}"),
            None => format!("known: {}", names.join(", ")),
        };
        let message = format!("no {what} is called `{}`", name.get_ref());
        self.add(name.span(), message, Some(help));
        None
    }

    fn effects(&mut self, name: &Spanned<String>) -> Option<Becomes> {
        self.one_of("effect", name, Becomes::ALL)
    }

    /// A wall clock, nanoseconds since 1970.
    fn clock(&mut self, text: &Spanned<String>) -> Option<i64> {
        let parsed: Result<jiff::Timestamp, _> = text.get_ref().parse();
        let nanos = parsed.map(|time| i64::try_from(time.as_nanosecond()));
        if let Ok(Ok(nanos)) = nanos {
            return Some(nanos);
        }
        let message = format!("`{}` is no time between 1678 and 2262", text.get_ref());
        let help =
            format!("write it with its zone, such as \"{START}\" or \"2026-01-01T13:00:00+01:00\"");
        self.add(text.span(), message, Some(help));
        None
    }
}
