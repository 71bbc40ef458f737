//! What dry runs would have done, and what became of it without.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::book::Case;
use super::figures::{Figures, words};
use crate::cli::render::{add, clean, duration};
use crate::model::{Outcome, State};

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Shadow {
    /// Seconds: what recovers so soon counts as not having needed the action.
    pub(super) within_s: f64,
    pub(super) rules: Vec<Rule>,
}

/// An action of a rule on a service, as it would have been.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Rule {
    /// Empty when the journal does not name it.
    pub(super) name: String,
    pub(super) action: String,
    pub(super) service: String,
    /// How many incidents it would have been done for.
    pub(super) times: u64,
    /// Those that recovered without it within the bound, counted from when it would have been done.
    pub(super) recovered: Figures,
    /// Those that recovered without it, and later.
    pub(super) recovered_later: Figures,
    pub(super) still_open: u64,
    /// Those of which the daemon did not see the end, or that ended without recovering (the service was taken out).
    pub(super) unknown: u64,
}

#[derive(Default)]
struct Counted {
    times: u64,
    soon: Vec<Duration>,
    later: Vec<Duration>,
    open: u64,
    unknown: u64,
}

/// Of these, those that were never acted on, and would have been were it not for a dry run.
pub(super) fn of<'a>(cases: impl Iterator<Item = &'a Case>, within: Duration) -> Shadow {
    let mut rules: BTreeMap<(&str, &str, &str), Counted> = BTreeMap::new();
    for case in cases.filter(|case| case.intents() == 0 && case.outcome == Some(Outcome::WouldHave))
    {
        let (action, at) = match &case.would {
            Some(would) => (would.action.as_str(), would.at),
            None => ("unknown", case.opened),
        };
        let rule = case.rule.as_deref().unwrap_or_default();
        let counted = rules.entry((rule, action, &case.on)).or_default();
        counted.times += 1;
        match case.recovered.map(|recovered| recovered.since(at)) {
            Some(time) if time <= within => counted.soon.push(time),
            Some(time) => counted.later.push(time),
            None if case.interrupted || case.state == State::Resolved => {
                counted.unknown += 1;
            }
            None => counted.open += 1,
        }
    }
    let rules = rules
        .into_iter()
        .map(|((rule, action, service), counted)| Rule {
            name: rule.to_owned(),
            action: action.to_owned(),
            service: service.to_owned(),
            times: counted.times,
            recovered: Figures::of(counted.soon),
            recovered_later: Figures::of(counted.later),
            still_open: counted.open,
            unknown: counted.unknown,
        });
    Shadow {
        within_s: within.as_secs_f64(),
        rules: rules.collect(),
    }
}

impl Shadow {
    pub(super) fn text(&self) -> String {
        if self.rules.is_empty() {
            return "no dry run would have done anything\n".to_owned();
        }
        let within = Duration::try_from_secs_f64(self.within_s)
            .map(duration)
            .unwrap_or_default();
        let mut text = String::new();
        for one in &self.rules {
            let rule = match one.name.as_str() {
                "" => "a rule",
                name => &format!("rule {name}"),
            };
            let times = if one.times == 1 {
                "once".to_owned()
            } else {
                format!("{} times", one.times)
            };
            let service = clean(&one.service);
            add(
                &mut text,
                format_args!("{rule} would have done {} on {service} {times}", one.action),
            );
            let mut next = ": ";
            let mut say = |count: u64, what: String| {
                if count > 0 {
                    add(&mut text, format_args!("{next}{count} {what}"));
                    next = "; ";
                }
            };
            let by_itself = |count: usize| {
                if count == 1 {
                    "recovered by itself"
                } else {
                    "recovered by themselves"
                }
            };
            let number = |figures: &Figures| u64::try_from(figures.count).unwrap_or(u64::MAX);
            let median = |figures: &Figures| words(figures.median_s);
            let soon = &one.recovered;
            say(
                number(soon),
                format!(
                    "{} within {within}, median {}",
                    by_itself(soon.count),
                    median(soon)
                ),
            );
            let later = &one.recovered_later;
            say(
                number(later),
                format!("{} later, median {}", by_itself(later.count), median(later)),
            );
            let is = if one.still_open == 1 { "is" } else { "are" };
            say(one.still_open, format!("{is} still open"));
            say(one.unknown, "ended unseen".to_owned());
            text.push('\n');
        }
        text
    }
}
