//! How often, how fast and how well: for each service, and for each rule and action.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::book::Case;
use super::figures::Figures;
use crate::cli::render::{Column, Paint, Table};
use crate::model::Outcome;

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) services: Vec<Service>,
    pub(super) rules: Vec<Rule>,
}

/// What happened to a service, a process by its name, a device, a peer, the host.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) incidents: u64,
    pub(super) acts: u64,
    pub(super) fixed: u64,
    pub(super) recovered_without_act: u64,
    /// Incidents on which a guard kept from acting at least once.
    pub(super) refused: u64,
    pub(super) escalated: u64,
    /// From the first signal that counts to the incident.
    pub(super) to_detect: Figures,
    /// From the signal that decided to the proof that it is over, of those that recovered.
    pub(super) to_recover: Figures,
}

/// How often an action of a rule helped.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) action: String,
    pub(super) acts: u64,
    /// Those that were carried out, and helped or did not.
    pub(super) judged: u64,
    pub(super) fixed: u64,
}

#[derive(Default)]
struct Counted {
    incidents: u64,
    acts: u64,
    fixed: u64,
    recovered_without_act: u64,
    refused: u64,
    escalated: u64,
    to_detect: Vec<Duration>,
    to_recover: Vec<Duration>,
}

#[derive(Default)]
struct Tried {
    acts: u64,
    judged: u64,
    fixed: u64,
}

pub(super) fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Summary {
    let mut services: BTreeMap<&str, Counted> = BTreeMap::new();
    let mut rules: BTreeMap<(&str, &str), Tried> = BTreeMap::new();
    for case in cases {
        let counted = services.entry(&case.on).or_default();
        let acts = u64::try_from(case.intents()).unwrap_or(u64::MAX);
        counted.incidents += 1;
        counted.acts += acts;
        counted.recovered_without_act += u64::from(acts == 0 && case.recovered.is_some());
        counted.refused += u64::from(case.refused);
        counted.escalated += u64::from(case.escalated);
        counted.to_detect.push(case.opened.since(case.since));
        counted.to_recover.extend(case.to_recover());
        for act in &case.acts {
            let tried = rules.entry((&act.rule, &act.action)).or_default();
            let judged = matches!(
                act.outcome,
                Some(Outcome::Fixed | Outcome::NoEffect | Outcome::Worse)
            );
            let fixed = u64::from(act.outcome == Some(Outcome::Fixed));
            tried.acts += 1;
            tried.judged += u64::from(judged);
            tried.fixed += fixed;
            counted.fixed += fixed;
        }
    }
    let services = services.into_iter().map(|(name, counted)| Service {
        name: name.to_owned(),
        incidents: counted.incidents,
        acts: counted.acts,
        fixed: counted.fixed,
        recovered_without_act: counted.recovered_without_act,
        refused: counted.refused,
        escalated: counted.escalated,
        to_detect: Figures::of(counted.to_detect),
        to_recover: Figures::of(counted.to_recover),
    });
    let rules = rules.into_iter().map(|((rule, action), tried)| Rule {
        name: rule.to_owned(),
        action: action.to_owned(),
        acts: tried.acts,
        judged: tried.judged,
        fixed: tried.fixed,
    });
    Summary {
        services: services.collect(),
        rules: rules.collect(),
    }
}

const SERVICES: &[Column] = &[
    Column::left("SERVICE"),
    Column::right("INCIDENTS"),
    Column::right("ACTS"),
    Column::right("FIXED"),
    Column::right("BY ITSELF"),
    Column::right("REFUSED"),
    Column::right("ESCALATED"),
    Column::right("MTTD"),
    Column::right("MEDIAN"),
    Column::right("MTTR"),
    Column::right("MEDIAN"),
];

const RULES: &[Column] = &[
    Column::left("RULE"),
    Column::left("ACTION"),
    Column::right("ACTS"),
    Column::right("JUDGED"),
    Column::right("FIXED"),
    Column::right("SUCCESS"),
];

impl Summary {
    pub(super) fn text(&self, paint: Paint) -> String {
        if self.services.is_empty() {
            return "no incidents\n".to_owned();
        }
        let mut services = Table::new(SERVICES);
        for one in &self.services {
            let detect = one.to_detect.words();
            let recover = one.to_recover.words();
            let counts = [
                one.incidents,
                one.acts,
                one.fixed,
                one.recovered_without_act,
                one.refused,
                one.escalated,
            ];
            let mut row = vec![one.name.as_str().into()];
            row.extend(counts.map(|count| count.to_string().into()));
            row.extend([detect.0, detect.1, recover.0, recover.1].map(Into::into));
            services.row(row);
        }
        let mut text = services.render(paint);
        if !self.rules.is_empty() {
            let mut rules = Table::new(RULES);
            for one in &self.rules {
                let rule = if one.name.is_empty() { "-" } else { &one.name };
                let mut row = vec![rule.into(), one.action.as_str().into()];
                row.extend([one.acts, one.judged, one.fixed].map(|count| count.to_string().into()));
                row.push(success(one).into());
                rules.row(row);
            }
            text.push('\n');
            text.push_str(&rules.render(paint));
        }
        text
    }
}

/// Per cent, rounded down: 100 only when all helped.
fn success(rule: &Rule) -> String {
    let percent = (rule.fixed * 100).checked_div(rule.judged);
    percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"))
}
