//! Counters. Every label comes from a registry or an enum, so the sets are bounded.

use std::collections::BTreeMap;

use super::{Engine, decide};
use crate::model::view::{Counts, Durations};
use crate::model::{Incident, IncidentId, Outcome, Signal, Subject, Time};
use crate::policy::guards;
use crate::{actions, detectors};

/// Every label there can be, at zero: a series that begins with its first event hides that event from `rate()`.
pub(super) fn zeros() -> Counts {
    let mut counts = Counts::default();
    for spec in detectors::ALL {
        counts.opened.insert(spec.name.to_owned(), 0);
        counts
            .detect
            .insert(spec.name.to_owned(), Durations::default());
        counts
            .recover
            .insert(spec.name.to_owned(), Durations::default());
    }
    let manual = detectors::MANUAL.to_owned();
    counts.opened.insert(manual.clone(), 0);
    counts.detect.insert(manual, Durations::default());
    for spec in actions::ALL {
        let outcomes = Outcome::ALL.iter().map(|outcome| (*outcome, 0)).collect();
        counts.outcomes.insert(spec.name.to_owned(), outcomes);
        counts
            .act
            .insert(spec.name.to_owned(), Durations::default());
    }
    let guards = guards::ALL.iter().map(|guard| guard.name);
    for guard in guards.chain(decide::BEFORE) {
        counts.refusals.insert(guard.to_owned(), 0);
    }
    counts
}

impl Engine {
    pub(super) fn count_signal(&mut self, signal: &Signal) {
        let kind = match signal {
            Signal::Kernel { event } => event.kind().name(),
            Signal::Loss { .. } => "loss",
            Signal::Sample { .. } => "sample",
            Signal::Check { .. } => "check",
            Signal::Service { .. } => "service",
            Signal::Effect { .. } => "effect",
            Signal::Person { .. } => "person",
        };
        count(&mut self.counts.signals, kind, |count| *count += 1);
    }

    pub(super) fn count_opened(&mut self, incident: &Incident, now: Time) {
        let (detector, took) = (&incident.detector, now.since(incident.evidence.seen));
        count(&mut self.counts.opened, detector, |count| *count += 1);
        count(&mut self.counts.detect, detector, |times| times.add(took));
    }

    pub(super) fn count_acted(&mut self, action: &str, seen: Time, acted: Time) {
        let took = acted.since(seen);
        count(&mut self.counts.act, action, |times| times.add(took));
    }

    pub(super) fn count_outcome(&mut self, action: &str, outcome: Outcome) {
        count(&mut self.counts.outcomes, action, |outcomes| {
            *outcomes.entry(outcome).or_default() += 1;
        });
    }

    pub(super) fn count_recovered(&mut self, id: IncidentId, recovered: Time) {
        let Some(incident) = self.book.get(id) else {
            return;
        };
        let seen = incident.evidence.seen;
        let took = recovered.since(seen);
        if let Subject::Service { name } = &incident.subject {
            count(&mut self.counts.services, name, |service| {
                service.ended += 1;
                service.detect_seconds +=
                    incident.opened.since(incident.evidence.since).as_secs_f64();
                service.recover_seconds += took.as_secs_f64();
            });
        }
        let detector = incident.detector.as_str();
        count(&mut self.counts.recover, detector, |times| times.add(took));
    }
}

/// Counts under a label, which is allocated once and not for every event.
fn count<T: Default>(counts: &mut BTreeMap<String, T>, label: &str, add: impl FnOnce(&mut T)) {
    match counts.get_mut(label) {
        Some(known) => add(known),
        None => add(counts.entry(label.to_owned()).or_default()),
    }
}
