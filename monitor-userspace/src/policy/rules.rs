//! The `[[remedy]]` entries, so that the one for an incident is found without asking all of them.
//!
//! Consent: an act needs a rule that names its subject. Among those that do, the first in the file whose condition holds counts. A
//! rule is a ladder: its rungs are tried in order, each as often as it says, and what is above is only reached when what is below did
//! not help.

use std::collections::HashMap;
use std::time::Duration;

use super::condition::Condition;
use crate::model::{Incident, Severity};

/// A `[[remedy]]`: consent to a ladder of actions for one condition on named subjects.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// What it is called: in the journal, in `explain`, in metric labels.
    pub name: String,
    /// The detector.
    pub detector: String,
    /// Names of services and `[[process]]` entries; `*` for every one that the configuration names.
    pub on: Vec<String>,
    /// The least severity.
    pub severity: Severity,
    /// The rule is only for incidents for which this holds.
    pub when: Option<Condition>,
    /// How long an incident must have been open before anything is done.
    pub hold: Duration,
    /// Only say what would have been done.
    pub dry_run: bool,
    /// The actions, in the order in which they are tried; never empty.
    pub steps: Vec<Rung>,
}

/// What is said to one action alone: a table of its settings.
pub type With = toml::Table;

/// One rung of a ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct Rung {
    /// The action.
    pub action: String,
    /// It is passed over where this does not hold.
    pub when: Option<Condition>,
    /// How often it is tried before the next one is; none for as often as the limits allow.
    pub attempts: Option<u32>,
    /// How long the action has to show an effect.
    pub verify_within: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub term_grace: Duration,
    /// The nice value for `lower_priority`, 1 to 19.
    pub nice: i32,
    /// A person must allow it, within this time.
    pub approval: Option<Duration>,
    /// After this time, what it changed is changed back; none for when a person asks for it.
    pub undo_after: Option<Duration>,
    /// What is said to this action alone: `with`. Its action has found it to make sense.
    pub with: With,
}

impl Remedy {
    /// Whether it is meant for this incident, its condition apart.
    pub fn covers(&self, incident: &Incident) -> bool {
        let named = incident
            .subject
            .configured_name()
            .is_some_and(|name| self.on.iter().any(|on| on == "*" || on == name));
        named && self.detector == incident.detector && incident.severity >= self.severity
    }

    /// The rung that an incident is at.
    pub fn rung(&self, number: u32) -> Option<&Rung> {
        self.steps.get(usize::try_from(number).ok()?)
    }
}

/// A `[[condition]]`: when a finding becomes an incident, and when an incident is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionRule {
    /// The detector.
    pub detector: String,
    /// Names; `*` for every subject.
    pub on: Vec<String>,
    /// How long it must hold before it becomes an incident.
    pub hold: Duration,
    /// How long it must be gone before the incident is over.
    pub keep_firing_for: Duration,
    /// The severity of the incident, whatever the detector says.
    pub severity: Option<Severity>,
}

/// Rules by what they are for. Positions in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Remedy>,
    by_detector: HashMap<String, ForDetector>,
}

#[derive(Clone, Debug, Default)]
struct ForDetector {
    everyone: Vec<usize>,
    named: HashMap<String, Vec<usize>>,
}

impl Rules {
    /// In the file's order.
    pub fn new(all: Vec<Remedy>) -> Self {
        let mut by_detector: HashMap<String, ForDetector> = HashMap::new();
        for (at, remedy) in all.iter().enumerate() {
            let of = by_detector.entry(remedy.detector.clone()).or_default();
            if remedy.on.iter().any(|on| on == "*") {
                of.everyone.push(at);
                continue;
            }
            for on in &remedy.on {
                let named = of.named.entry(on.clone()).or_default();
                if named.last() != Some(&at) {
                    named.push(at);
                }
            }
        }
        Self { all, by_detector }
    }

    /// All of them.
    pub fn all(&self) -> &[Remedy] {
        &self.all
    }

    /// Those that cover an incident, their conditions apart, in the file's order.
    pub fn covering<'a>(&'a self, incident: &'a Incident) -> impl Iterator<Item = &'a Remedy> {
        let name = incident.subject.configured_name();
        let of = name.and_then(|_| self.by_detector.get(&incident.detector));
        let everyone = of.map_or(&[][..], |of| &of.everyone);
        let named = of
            .zip(name)
            .and_then(|(of, name)| of.named.get(name))
            .map_or(&[][..], |named| named);
        Merged { everyone, named }
            .filter_map(|at| self.all.get(at))
            .filter(|remedy| incident.severity >= remedy.severity)
    }
}

/// Two sorted lists as one.
struct Merged<'a> {
    everyone: &'a [usize],
    named: &'a [usize],
}

impl Iterator for Merged<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let from = match (self.everyone.first(), self.named.first()) {
            (Some(a), Some(b)) if a < b => &mut self.everyone,
            (Some(_), None) => &mut self.everyone,
            (_, Some(_)) => &mut self.named,
            (None, None) => return None,
        };
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evidence, IncidentId, Subject, Time};

    fn remedy(name: &str, detector: &str, on: &[&str]) -> Remedy {
        Remedy {
            name: name.to_owned(),
            detector: detector.to_owned(),
            on: on.iter().map(|on| (*on).to_owned()).collect(),
            severity: Severity::Critical,
            when: None,
            hold: Duration::ZERO,
            dry_run: false,
            steps: Vec::new(),
        }
    }

    fn incident(detector: &str, subject: Subject, severity: Severity) -> Incident {
        let evidence = Evidence::at(Time::default());
        Incident::new(
            IncidentId(1),
            detector,
            subject,
            severity,
            evidence,
            Time::default(),
        )
    }

    #[test]
    fn the_index_finds_what_asking_all_of_them_would_and_in_their_order() {
        let rules = Rules::new(vec![
            remedy("a", "service_down", &["web"]),
            remedy("b", "service_down", &["*"]),
            remedy("c", "latency_spike", &["*", "web"]),
            remedy("d", "service_down", &["db", "web", "web"]),
            remedy("e", "service_down", &["db"]),
        ]);
        let severities = [Severity::Warning, Severity::Critical];
        let mut found = 0;
        for detector in ["service_down", "latency_spike", "disk_slow"] {
            for subject in [
                Subject::service("web"),
                Subject::service("db"),
                Subject::service("other"),
                Subject::Host,
            ] {
                for severity in severities {
                    let incident = incident(detector, subject.clone(), severity);
                    let indexed: Vec<&str> =
                        rules.covering(&incident).map(|rule| &*rule.name).collect();
                    let asked = rules.all().iter().filter(|rule| rule.covers(&incident));
                    assert_eq!(indexed, asked.map(|rule| &*rule.name).collect::<Vec<_>>());
                    found += indexed.len();
                }
            }
        }
        assert_eq!(found, 3 + 3 + 1 + 3, "web, db and other are covered");
    }
}
