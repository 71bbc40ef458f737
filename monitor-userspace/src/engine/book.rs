//! The incidents: bounded, numbered, and findable by what they are about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::view::{INCIDENTS, OPEN, OPEN_NAMED};
use crate::model::{Incident, IncidentId, Subject};

/// See the module.
#[derive(Debug)]
pub struct Book {
    next: IncidentId,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Those that are not over, and by what they are about. Never more than `OPEN` and `OPEN_NAMED`.
    open: BTreeSet<IncidentId>,
    by_subject: HashMap<Subject, Vec<IncidentId>>,
    /// Those of them that follow from another: that one first.
    suppressed: BTreeSet<(IncidentId, IncidentId)>,
    /// Those of them whose process a guard in the kernel killed.
    killed: BTreeSet<IncidentId>,
    /// Those about which something was done that is still in force: they are never forgotten.
    held: BTreeSet<IncidentId>,
    /// Those that are over and hold nothing, oldest first.
    over: BTreeSet<IncidentId>,
    /// Those that changed since they were last shown.
    changed: BTreeSet<IncidentId>,
    /// Those that had to go since then; at most `INCIDENTS`.
    gone: Vec<IncidentId>,
}

/// What an incident that is not over is found by besides its subject.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Marks {
    suppressed_by: Option<IncidentId>,
    killed: bool,
}

impl Marks {
    fn of(incident: &Incident) -> Self {
        if incident.is_over() {
            return Self::default();
        }
        Self {
            suppressed_by: incident.suppressed_by,
            killed: incident.evidence.killed_in_kernel,
        }
    }
}

impl Book {
    /// An empty book whose first incident gets this number.
    pub fn new(next: IncidentId) -> Self {
        Self {
            next,
            incidents: BTreeMap::new(),
            open: BTreeSet::new(),
            by_subject: HashMap::new(),
            suppressed: BTreeSet::new(),
            killed: BTreeSet::new(),
            held: BTreeSet::new(),
            over: BTreeSet::new(),
            changed: BTreeSet::new(),
            gone: Vec::new(),
        }
    }

    /// A number that no incident has had.
    pub fn number(&mut self) -> IncidentId {
        let id = self.next;
        self.next = IncidentId(id.0.saturating_add(1));
        id
    }

    /// Whether there is room for one more that is not over. What the configuration names has some of its own: strangers cannot
    /// take it.
    pub fn has_room(&self, subject: &Subject) -> bool {
        let own = match subject.configured_name() {
            Some(_) => OPEN_NAMED,
            None => 0,
        };
        self.open.len() < OPEN + own
    }

    /// Adds one; returns how many that are over had to go for it.
    pub fn insert(&mut self, incident: Incident) -> u64 {
        let id = incident.id;
        if id >= self.next {
            self.next = IncidentId(id.0.saturating_add(1));
        }
        if incident.is_over() {
            if incident.held.is_none() {
                self.over.insert(id);
            }
        } else {
            self.open.insert(id);
            let same = self.by_subject.entry(incident.subject.clone()).or_default();
            same.push(id);
        }
        self.mark(id, Marks::default(), Marks::of(&incident));
        if incident.held.is_some() {
            self.held.insert(id);
        }
        self.incidents.insert(id, incident);
        self.changed.insert(id);
        let mut gone = 0;
        while self.over.len() > INCIDENTS {
            let Some(oldest) = self.over.pop_first() else {
                break;
            };
            self.incidents.remove(&oldest);
            self.changed.remove(&oldest);
            if self.gone.len() < INCIDENTS {
                self.gone.push(oldest);
            }
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
        let before = Marks::of(incident);
        let result = change(incident);
        let after = Marks::of(incident);
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
        if incident.held.is_some() {
            self.held.insert(id);
            self.over.remove(&id);
        } else {
            self.held.remove(&id);
            if incident.is_over() {
                self.over.insert(id);
            }
        }
        self.mark(id, before, after);
        Some(result)
    }

    fn mark(&mut self, id: IncidentId, before: Marks, after: Marks) {
        if before == after {
            return;
        }
        if let Some(root) = before.suppressed_by {
            self.suppressed.remove(&(root, id));
        }
        if let Some(root) = after.suppressed_by {
            self.suppressed.insert((root, id));
        }
        if after.killed {
            self.killed.insert(id);
        } else {
            self.killed.remove(&id);
        }
    }

    /// Those that are not over, oldest first.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter_map(|id| self.incidents.get(id))
    }

    /// Those that follow from this one and are not over, oldest first.
    pub fn suppressed_by(&self, root: IncidentId) -> impl Iterator<Item = IncidentId> {
        let all = self.suppressed.range((root, IncidentId(0))..);
        all.take_while(move |(of, _)| *of == root)
            .map(|(_, id)| *id)
    }

    /// Those that are not over and whose process a guard in the kernel killed, oldest first.
    pub fn killed_in_kernel(&self) -> impl Iterator<Item = &Incident> {
        self.killed.iter().filter_map(|id| self.incidents.get(id))
    }

    /// Those about which something was done that is still in force, oldest first.
    pub fn held(&self) -> impl Iterator<Item = &Incident> {
        self.held.iter().filter_map(|id| self.incidents.get(id))
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
        for id in self.gone.drain(..) {
            copy.remove(&id);
        }
        // More have gone than were noted.
        if copy.len() > self.incidents.len() {
            copy.retain(|id, _| self.incidents.contains_key(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evidence, Severity, State, Time};

    fn open(book: &mut Book) -> IncidentId {
        let (id, at) = (book.number(), Time::default());
        let (subject, evidence) = (Subject::service("shop"), Evidence::at(at));
        let severity = Severity::Critical;
        book.insert(Incident::new(
            id,
            "service_down",
            subject,
            severity,
            evidence,
            at,
        ));
        id
    }

    #[test]
    fn a_copy_is_brought_up_to_date_however_much_has_come_and_gone() {
        let mut book = Book::new(IncidentId(1));
        let mut copy = BTreeMap::new();
        for between in [1, 10, 100, 2 * INCIDENTS, 4 * INCIDENTS, 1, 10] {
            for _ in 0..between {
                let id = open(&mut book);
                book.change(id, |incident| incident.state = State::Resolved);
            }
            open(&mut book);
            book.show(&mut copy);
            assert_eq!(copy, book.incidents);
            assert!(book.gone.is_empty() && book.changed.is_empty());
        }
        assert_eq!(copy.len(), INCIDENTS + 7);
    }

    #[test]
    fn what_follows_from_an_incident_is_found_while_it_does() {
        let mut book = Book::new(IncidentId(1));
        let [root, other, a, b] = std::array::from_fn(|_| open(&mut book));
        let follow = |book: &mut Book, id, root: Option<IncidentId>| {
            book.change(id, |incident| incident.suppressed_by = root);
        };
        let of = |book: &Book, root| book.suppressed_by(root).collect::<Vec<_>>();
        follow(&mut book, a, Some(root));
        follow(&mut book, b, Some(root));
        assert_eq!((of(&book, root), of(&book, other)), (vec![a, b], vec![]));
        follow(&mut book, a, Some(other));
        book.change(b, |incident| incident.state = State::Resolved);
        assert_eq!((of(&book, root), of(&book, other)), (vec![], vec![a]));
        follow(&mut book, a, None);
        assert_eq!(of(&book, other), vec![]);
    }

    #[test]
    fn a_kill_in_the_kernel_is_found_until_it_is_over() {
        let mut book = Book::new(IncidentId(1));
        let [a, b] = std::array::from_fn(|_| open(&mut book));
        book.change(b, |incident| incident.evidence.killed_in_kernel = true);
        let killed = |book: &Book| book.killed_in_kernel().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!(killed(&book), [b]);
        for id in [a, b] {
            book.change(id, |incident| incident.state = State::Resolved);
        }
        assert_eq!(killed(&book), []);
    }
}
