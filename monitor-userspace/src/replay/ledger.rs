//! What the recorded run did, by what its incidents were about: numbers of incidents mean nothing in another run.

use std::collections::BTreeMap;

use super::Side;
use crate::model::{IncidentId, Signal, Subject};

/// Most incidents that are remembered by number, and most acts that wait for their effect.
const MOST: usize = 65_536;

/// What an incident is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    detector: String,
    subject: Subject,
}

impl Key {
    /// The `[[process]]` entry of a process is a matter of configuration, and left out.
    pub(super) fn new(detector: &str, subject: &Subject) -> Self {
        let mut subject = subject.clone();
        if let Subject::Process { group, .. } = &mut subject {
            *group = None;
        }
        Self {
            detector: detector.to_owned(),
            subject,
        }
    }
}

/// An act of the recorded run that has no effect yet.
#[derive(Debug)]
struct Ordered {
    incident: IncidentId,
    key: Key,
    action: String,
    /// Which runs have decided the same.
    by: Vec<Side>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The recording says what was ordered; else the run as it was configured says it.
    told: bool,
    names: BTreeMap<IncidentId, Key>,
    ordered: Vec<Ordered>,
    missed: u64,
}

impl Ledger {
    pub(super) const fn new(told: bool) -> Self {
        Self {
            told,
            names: BTreeMap::new(),
            ordered: Vec::new(),
            missed: 0,
        }
    }

    pub(super) const fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether the numbers in the recording are those of this run, as far as anybody knows.
    pub(super) fn is_own(&self, side: Side) -> bool {
        !self.told && side == Side::Was
    }

    pub(super) fn name(&mut self, incident: IncidentId, detector: &str, subject: &Subject) {
        self.names.insert(incident, Key::new(detector, subject));
        if self.names.len() > MOST {
            self.names.pop_first();
        }
    }

    pub(super) fn named(&self, incident: IncidentId) -> Option<&Key> {
        self.names.get(&incident)
    }

    pub(super) fn ordered(&mut self, incident: IncidentId, action: &str) {
        let Some(key) = self.names.get(&incident).cloned() else {
            return;
        };
        if self.ordered.len() >= MOST {
            self.ordered.remove(0);
        }
        self.ordered.push(Ordered {
            incident,
            key,
            action: action.to_owned(),
            by: Vec::new(),
        });
    }

    /// A run decides this now: for which incident it was done when the signals were recorded, if it was.
    pub(super) fn done_for(&mut self, side: Side, key: &Key, action: &str) -> Option<IncidentId> {
        let mut same = self.ordered.iter_mut().filter(|ordered| {
            ordered.key == *key && ordered.action == action && !ordered.by.contains(&side)
        });
        let ordered = same.next()?;
        ordered.by.push(side);
        Some(ordered.incident)
    }

    /// Every run has seen this signal.
    pub(super) fn came(&mut self, signal: &Signal) {
        let Signal::Effect { effect } = signal else {
            return;
        };
        let at = self.ordered.iter().position(|ordered| {
            ordered.incident == effect.incident && ordered.action == effect.action
        });
        if let Some(at) = at {
            let ordered = self.ordered.remove(at);
            self.missed += u64::from(!ordered.by.contains(&Side::Was));
        }
    }
}
