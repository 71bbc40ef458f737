//! The incidents: bounded, numbered, and findable by what they are about.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::view::INCIDENTS;
use crate::model::{Incident, IncidentId, Subject};

/// See the module.
#[derive(Debug)]
pub struct Book {
    next: IncidentId,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Those that are not over. Never more than `INCIDENTS`.
    open: BTreeSet<IncidentId>,
    /// Those that changed since they were last shown.
    changed: BTreeSet<IncidentId>,
}

impl Book {
    /// An empty book whose first incident gets this number.
    pub const fn new(next: IncidentId) -> Self {
        Self {
            next,
            incidents: BTreeMap::new(),
            open: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// A number that no incident has had.
    pub fn number(&mut self) -> IncidentId {
        let id = self.next;
        self.next = IncidentId(id.0.saturating_add(1));
        id
    }

    /// Adds one; returns how many had to go for it.
    pub fn insert(&mut self, incident: Incident) -> u64 {
        let id = incident.id;
        if id >= self.next {
            self.next = IncidentId(id.0.saturating_add(1));
        }
        if !incident.is_over() {
            self.open.insert(id);
        }
        self.incidents.insert(id, incident);
        self.changed.insert(id);
        let mut gone = 0;
        while self.incidents.len() > INCIDENTS {
            let over = self
                .incidents
                .keys()
                .find(|id| !self.open.contains(id))
                .copied();
            let Some(oldest) = over.or_else(|| self.incidents.keys().next().copied()) else {
                break;
            };
            self.incidents.remove(&oldest);
            self.open.remove(&oldest);
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
        if incident.is_over() {
            self.open.remove(&id);
        }
        Some(result)
    }

    /// Those that are not over, oldest first.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter_map(|id| self.incidents.get(id))
    }

    /// The open one of this detector on this subject.
    pub fn find(&self, detector: &str, subject: &Subject) -> Option<IncidentId> {
        let mut open = self.open();
        open.find(|incident| incident.detector == detector && incident.subject == *subject)
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
