//! The incidents: bounded, numbered, and findable by what they are about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::view::{INCIDENTS, OPEN};
use crate::model::{Incident, IncidentId, Subject};

/// See the module.
#[derive(Debug)]
pub struct Book {
    next: IncidentId,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Those that are not over, and by what they are about. Never more than `OPEN`.
    open: BTreeSet<IncidentId>,
    by_subject: HashMap<Subject, Vec<IncidentId>>,
    /// Those that are over, oldest first.
    over: BTreeSet<IncidentId>,
    /// Those that changed since they were last shown.
    changed: BTreeSet<IncidentId>,
}

impl Book {
    /// An empty book whose first incident gets this number.
    pub fn new(next: IncidentId) -> Self {
        Self {
            next,
            incidents: BTreeMap::new(),
            open: BTreeSet::new(),
            by_subject: HashMap::new(),
            over: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// A number that no incident has had.
    pub fn number(&mut self) -> IncidentId {
        let id = self.next;
        self.next = IncidentId(id.0.saturating_add(1));
        id
    }

    /// Whether there is room for one more that is not over.
    pub fn has_room(&self) -> bool {
        self.open.len() < OPEN
    }

    /// Adds one; returns how many that are over had to go for it.
    pub fn insert(&mut self, incident: Incident) -> u64 {
        let id = incident.id;
        if id >= self.next {
            self.next = IncidentId(id.0.saturating_add(1));
        }
        if incident.is_over() {
            self.over.insert(id);
        } else {
            self.open.insert(id);
            let same = self.by_subject.entry(incident.subject.clone()).or_default();
            same.push(id);
        }
        self.incidents.insert(id, incident);
        self.changed.insert(id);
        let mut gone = 0;
        while self.over.len() > INCIDENTS {
            let Some(oldest) = self.over.pop_first() else {
                break;
            };
            self.incidents.remove(&oldest);
            gone += 1;
        }
        gone
    }

    /// One by number.
    pub fn get(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// Changes one; it is shown again, and counts as over when it is.
    pub fn change<T>(
        &mut self,
        id: IncidentId,
        change: impl FnOnce(&mut Incident) -> T,
    ) -> Option<T> {
        let incident = self.incidents.get_mut(&id)?;
        let result = change(incident);
        self.changed.insert(id);
        if incident.is_over() && self.open.remove(&id) {
            self.over.insert(id);
            if let Some(same) = self.by_subject.get_mut(&incident.subject) {
                same.retain(|other| *other != id);
                if same.is_empty() {
                    self.by_subject.remove(&incident.subject);
                }
            }
        }
        Some(result)
    }

    /// Those that are not over, oldest first.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter_map(|id| self.incidents.get(id))
    }

    /// Those on this subject that are not over, oldest first.
    pub fn open_on(&self, subject: &Subject) -> impl Iterator<Item = &Incident> {
        let same = self.by_subject.get(subject).into_iter().flatten();
        same.filter_map(|id| self.incidents.get(id))
    }

    /// The open one of this detector on this subject.
    pub fn find(&self, detector: &str, subject: &Subject) -> Option<IncidentId> {
        self.open_on(subject)
            .find(|incident| incident.detector == detector)
            .map(|incident| incident.id)
    }

    /// Brings a copy up to date.
    pub fn show(&mut self, copy: &mut BTreeMap<IncidentId, Incident>) {
        for id in std::mem::take(&mut self.changed) {
            if let Some(incident) = self.incidents.get(&id) {
                copy.insert(id, incident.clone());
            }
        }
        copy.retain(|id, _| self.incidents.contains_key(id));
    }
}
