//! What a condition may name: each variable with its type, and where its value comes from.

use std::collections::HashMap;

use cel::common::types::{CelBool, CelDouble, CelInt, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;

use super::kind::Kind;
use crate::model::{Category, Incident, Service, Severity, Subject, Time, World};

/// A variable: what stands before its dot, what after it, its type, and its values where those are few.
pub(super) struct Field {
    pub(super) root: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) words: &'static [&'static str],
}

const fn field(root: &'static str, name: &'static str, kind: Kind) -> Field {
    Field {
        root,
        name,
        kind,
        words: &[],
    }
}

const fn words(root: &'static str, name: &'static str, words: &'static [&'static str]) -> Field {
    Field {
        root,
        name,
        kind: Kind::Text,
        words,
    }
}

/// The name of the facts of an incident: text by text.
pub(super) const EVIDENCE: &str = "evidence";

/// Whose fields are missing where the subject is no service.
pub(super) const SERVICE: &str = "service";

const CATEGORIES: &[&str] = &[
    Category::System.name(),
    Category::Service.name(),
    Category::Data.name(),
    Category::Network.name(),
];

/// Everything but the facts. docs/configuration.md has the same list.
pub(super) const FIELDS: &[Field] = &[
    field("incident", "detector", Kind::Text),
    words("incident", "category", CATEGORIES),
    words("incident", "severity", &["warning", "critical"]),
    field("incident", "subject", Kind::Text),
    field("incident", "name", Kind::Text),
    field("incident", "age", Kind::Double),
    field("incident", "actions", Kind::Int),
    field("incident", "tries", Kind::Int),
    field("incident", "flaps", Kind::Int),
    field(SERVICE, "name", Kind::Text),
    field(SERVICE, "running", Kind::Bool),
    field(SERVICE, "answers", Kind::Bool),
    field(SERVICE, "uptime", Kind::Double),
    field(SERVICE, "starts", Kind::Int),
    field(SERVICE, "memory_max", Kind::Int),
    field("host", "load1", Kind::Double),
    field("host", "cpus", Kind::Double),
    field("host", "cpu_some", Kind::Double),
    field("host", "memory_some", Kind::Double),
    field("host", "memory_full", Kind::Double),
    field("host", "io_some", Kind::Double),
    field("host", "io_full", Kind::Double),
    field("time", "known", Kind::Bool),
    field("time", "hour", Kind::Int),
    field("time", "minute", Kind::Int),
    field("time", "weekday", Kind::Int),
];

/// Where the values come from. Each is made when it is asked for.
pub(super) struct Values<'a> {
    pub(super) incident: &'a Incident,
    pub(super) world: &'a World,
    pub(super) now: Time,
}

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * NANOS;

impl VariableResolver for Values<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable.split_once('.') {
            None => self.whole(variable).map(CowVal::owned),
            Some((EVIDENCE, name)) => {
                let mut facts = self.incident.evidence.facts.iter();
                let fact = facts.find(|(known, _)| known == name);
                fact.map(|(_, value)| text(value))
            }
            Some(("incident", name)) => self.of_incident(name),
            Some((SERVICE, name)) => of_service(self.service()?, name, self.now),
            Some(("host", name)) => self.of_host(name),
            Some(("time", name)) => self.of_time(name),
            Some(_) => None,
        }
    }
}

impl Values<'_> {
    /// What stands before a dot, as a whole: the facts, or the fields there are now.
    fn whole(&self, root: &str) -> Option<CelMap<'_>> {
        let mut map: HashMap<CelMapKey<'_>, Box<dyn Val + '_>> = HashMap::new();
        if root == EVIDENCE {
            for (name, value) in &self.incident.evidence.facts {
                let value = || Box::new(CelString::from(value.as_str())) as Box<dyn Val + '_>;
                map.entry(CelMapKey::from(name.as_str()))
                    .or_insert_with(value);
            }
            return Some(CelMap::from(map));
        }
        let mut known = false;
        for field in FIELDS.iter().filter(|field| field.root == root) {
            known = true;
            let path = [root, field.name].join(".");
            if let Some(value) = self.resolve(&path) {
                map.insert(CelMapKey::from(field.name), value.into_owned());
            }
        }
        known.then(|| CelMap::from(map))
    }

    fn service(&self) -> Option<&Service> {
        let Subject::Service { name } = &self.incident.subject else {
            return None;
        };
        self.world.services.get(name)
    }

    fn of_incident(&self, name: &str) -> Option<CowVal<'_, '_>> {
        let incident = self.incident;
        Some(match name {
            "detector" => text(&incident.detector),
            "category" => text(incident.category.name()),
            "severity" => text(match incident.severity {
                Severity::Warning => "warning",
                Severity::Critical => "critical",
            }),
            "subject" => CowVal::owned(CelString::from(incident.subject.to_string())),
            "name" => text(incident.subject.configured_name().unwrap_or_default()),
            "age" => double(self.now.since(incident.opened).as_secs_f64()),
            "actions" => int(incident.actions),
            "tries" => int(incident.tries),
            "flaps" => int(incident.flaps),
            _ => return None,
        })
    }

    fn of_host(&self, name: &str) -> Option<CowVal<'_, '_>> {
        let load = self.world.load?;
        let hundredths = match name {
            "cpus" => return Some(double(f64::from(load.cpus))),
            "load1" => load.load1,
            "cpu_some" => load.cpu_some,
            "memory_some" => load.memory_some,
            "memory_full" => load.memory_full,
            "io_some" => load.io_some,
            "io_full" => load.io_full,
            _ => return None,
        };
        Some(double(f64::from(hundredths) / 100.0))
    }

    fn of_time(&self, name: &str) -> Option<CowVal<'_, '_>> {
        if name == "known" {
            return Some(truth(self.world.wall_ahead.is_some()));
        }
        let wall = self.now.nanos().checked_add(self.world.wall_ahead?)?;
        let (day, minute) = (
            wall.div_euclid(DAY),
            wall.rem_euclid(DAY).div_euclid(60 * NANOS),
        );
        let number = match name {
            "hour" => minute / 60,
            "minute" => minute % 60,
            // The first day of 1970 was a Thursday.
            "weekday" => (day + 3).rem_euclid(7) + 1,
            _ => return None,
        };
        Some(CowVal::owned(CelInt::from(number)))
    }
}

fn of_service<'b>(service: &'b Service, name: &str, now: Time) -> Option<CowVal<'b, 'b>> {
    Some(match name {
        "name" => text(&service.name),
        "running" => truth(service.process.is_some()),
        "answers" => truth(service.answers == Some(true)),
        "uptime" => {
            let uptime = service.started.map(|started| now.since(started));
            double(uptime.unwrap_or_default().as_secs_f64())
        }
        "starts" => int(service.starts),
        "memory_max" => int(service.memory_max.unwrap_or(0)),
        _ => return None,
    })
}

fn text(text: &str) -> CowVal<'_, '_> {
    CowVal::owned(CelString::from(text))
}

fn truth<'b>(truth: bool) -> CowVal<'b, 'b> {
    CowVal::owned(CelBool::from(truth))
}

fn double<'b>(number: f64) -> CowVal<'b, 'b> {
    CowVal::owned(CelDouble::from(number))
}

fn int<'b>(number: impl Into<u64>) -> CowVal<'b, 'b> {
    let number = i64::try_from(number.into()).unwrap_or(i64::MAX);
    CowVal::owned(CelInt::from(number))
}
