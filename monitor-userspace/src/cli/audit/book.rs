//! What became of each incident and of each act, put together from all entries about them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use super::filter::{Filter, at_once};
use super::walk;
use crate::model::incident::StepKind;
use crate::model::{Effect, Incident, Outcome, State, Subject, Time};
use crate::policy::guards;
use crate::record::Entry;
use crate::record::journal::{Line, Stored};

/// Most incidents that are looked at together, the newest.
const CASES: usize = 1 << 16;
/// Most acts of one incident.
const ACTS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Book {
    cases: BTreeMap<u64, Case>,
    /// Those whose end has not been read.
    open: BTreeSet<u64>,
    most: usize,
    /// The highest number that was left out.
    left_out: Option<u64>,
    /// How many were left out.
    pub(super) dropped: u64,
}

/// An incident.
#[derive(Debug)]
pub(super) struct Case {
    /// The service, `[[process]]` entry, process, device or address it is about.
    pub(super) on: String,
    /// The process's name, where it has another one.
    pub(super) comm: Option<String>,
    pub(super) rule: Option<String>,
    /// When it was raised, nanoseconds since 1970.
    pub(super) opened_unix_ns: i64,
    /// The first signal that counts.
    pub(super) since: Time,
    /// The signal that decided.
    pub(super) seen: Time,
    pub(super) opened: Time,
    /// When its condition was proven to be gone.
    pub(super) recovered: Option<Time>,
    pub(super) state: State,
    pub(super) outcome: Option<Outcome>,
    /// The daemon ended meanwhile: what became of it is not known.
    pub(super) interrupted: bool,
    /// A guard kept from acting on it, and not because it was a dry run.
    pub(super) refused: bool,
    pub(super) escalated: bool,
    /// What a dry run would have done first.
    pub(super) would: Option<Would>,
    pub(super) acts: Vec<Act>,
    /// How many intents there were.
    intents: usize,
    /// How many of them the listing has passed.
    listed: usize,
}

/// What would have been done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Would {
    pub(super) action: String,
    pub(super) at: Time,
}

/// An act.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) rule: String,
    pub(super) action: String,
    pub(super) by: Option<String>,
    pub(super) undo: bool,
    /// When it began to change the host.
    pub(super) acted: Option<Time>,
    pub(super) outcome: Option<Outcome>,
}

impl Book {
    /// From a whole journal; and how many lines do not read.
    pub(super) fn read(stored: &Stored) -> io::Result<(Self, u64)> {
        let mut book = Self::of_at_most(CASES);
        let unreadable = walk(stored, |line, _| {
            book.take(line);
            ControlFlow::Continue(())
        })?;
        Ok((book, unreadable))
    }

    pub(super) fn of_at_most(most: usize) -> Self {
        Self {
            cases: BTreeMap::new(),
            open: BTreeSet::new(),
            most,
            left_out: None,
            dropped: 0,
        }
    }

    /// Takes the next entry in.
    pub(super) fn take(&mut self, line: &Line) {
        match &line.entry {
            Entry::Incident { incident } => {
                if let Some(case) = self.case(incident, line) {
                    case.judge(incident);
                }
            }
            Entry::Intent {
                incident,
                action,
                rule,
                by,
                undo,
                ..
            } => {
                if let Some(case) = self.case(incident, line) {
                    case.intents += 1;
                    if case.acts.len() < ACTS {
                        case.acts.push(Act {
                            rule: rule.clone(),
                            action: action.clone(),
                            by: by.clone(),
                            undo: *undo,
                            acted: None,
                            outcome: None,
                        });
                    }
                }
            }
            Entry::Effect { effect } => {
                if let Some(case) = self.cases.get_mut(&effect.incident.0) {
                    case.report(effect);
                }
            }
            Entry::Started { .. } | Entry::Ended => {
                for id in std::mem::take(&mut self.open) {
                    if let Some(case) = self.cases.get_mut(&id) {
                        case.interrupt();
                    }
                }
            }
            Entry::Person { .. }
            | Entry::WillChange { .. }
            | Entry::Resumed
            | Entry::StormEnding { .. }
            | Entry::ServiceStarted { .. }
            | Entry::Releases { .. }
            | Entry::Guarded { .. }
            | Entry::Reloaded { .. }
            | Entry::Continued { .. } => {}
        }
    }

    /// The incident, as it is now.
    fn case(&mut self, incident: &Incident, line: &Line) -> Option<&mut Case> {
        let id = incident.id.0;
        if self.left_out.is_some_and(|highest| id <= highest) {
            return None;
        }
        if incident.is_over() {
            self.open.remove(&id);
        } else {
            self.open.insert(id);
        }
        self.cases
            .entry(id)
            .or_insert_with(|| Case::new(incident, line))
            .update(incident);
        if self.cases.len() > self.most
            && let Some((oldest, _)) = self.cases.pop_first()
        {
            self.open.remove(&oldest);
            self.left_out = Some(oldest);
            self.dropped += 1;
        }
        self.cases.get_mut(&id)
    }

    /// Those that were raised in the time and are about what is asked for.
    pub(super) fn cases<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Case> {
        let wanted = |case: &&Case| {
            filter.covers(case.opened_unix_ns)
                && filter.is_about(Some(&case.on), case.comm.as_deref())
        };
        self.cases.values().filter(wanted)
    }

    /// Before the journal is walked over for a listing.
    pub(super) fn rewind(&mut self) {
        for case in self.cases.values_mut() {
            case.listed = 0;
        }
    }

    /// The incident that an entry is about and the act that it belongs to. Called for each entry in turn.
    pub(super) fn look_up(&mut self, entry: &Entry) -> (Option<&Case>, Option<&Act>) {
        let (id, of_act) = match entry {
            Entry::Incident { incident } => (incident.id.0, false),
            Entry::Intent { incident, .. } => (incident.id.0, true),
            Entry::Effect { effect } => (effect.incident.0, true),
            Entry::Person { request, .. } => match super::filter::incident_of(request) {
                Some(id) => (id, false),
                None => return (None, None),
            },
            _ => return (None, None),
        };
        let Some(case) = self.cases.get_mut(&id) else {
            return (None, None);
        };
        case.listed += usize::from(matches!(entry, Entry::Intent { .. }));
        let place = case.listed.checked_sub(1).filter(|_| of_act);
        (Some(case), place.and_then(|place| case.acts.get(place)))
    }
}

impl Case {
    fn new(incident: &Incident, line: &Line) -> Self {
        let (on, comm) = name_of(incident);
        let ahead = line.unix_ns.saturating_sub(line.monotonic_ns);
        Self {
            on: on.into_owned(),
            comm: comm.map(str::to_owned),
            rule: None,
            opened_unix_ns: incident.opened.nanos().saturating_add(ahead),
            since: incident.evidence.since,
            seen: incident.evidence.seen,
            opened: incident.opened,
            recovered: None,
            state: incident.state,
            outcome: None,
            interrupted: false,
            refused: false,
            escalated: false,
            would: None,
            acts: Vec::new(),
            intents: 0,
            listed: 0,
        }
    }

    fn update(&mut self, incident: &Incident) {
        self.state = incident.state;
        self.outcome = incident.outcome;
        if incident.rule.is_some() {
            self.rule.clone_from(&incident.rule);
        }
        // Over is not recovered: the service may have been taken out.
        self.recovered = incident
            .last(StepKind::Recovered)
            .filter(|_| incident.is_over());
        for step in &incident.steps {
            match step.what {
                StepKind::Escalated => self.escalated = true,
                StepKind::Refused => match guard(&step.detail) {
                    Some(guards::DRY_RUN) if self.would.is_none() => {
                        let action = would_have_done(&step.detail).to_owned();
                        self.would = Some(Would {
                            action,
                            at: step.at,
                        });
                    }
                    Some(guards::DRY_RUN) | None => {}
                    Some(_) => self.refused = true,
                },
                _ => {}
            }
        }
    }

    /// What the incident's outcome says of its last act.
    fn judge(&mut self, incident: &Incident) {
        let under_way = matches!(incident.state, State::Acting | State::Verifying);
        let Some(outcome) = incident
            .outcome
            .filter(|outcome| !under_way && *outcome != Outcome::WouldHave)
        else {
            return;
        };
        if let Some(act) = self
            .last_act()
            .filter(|act| act.outcome.is_none() && !act.undo)
        {
            act.outcome = Some(outcome);
        }
    }

    fn report(&mut self, effect: &Effect) {
        if let Some(act) = self.last_act().filter(|act| act.action == effect.action) {
            act.acted = effect.acted;
            act.outcome = act.outcome.or(at_once(&effect.result));
        }
        self.refused |= at_once(&effect.result) == Some(Outcome::Refused);
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        if let Some(act) = self
            .last_act()
            .filter(|act| act.outcome.is_none() && !act.undo)
        {
            act.outcome = Some(Outcome::Unknown);
        }
    }

    /// None when that is one of those beyond the bound.
    fn last_act(&mut self) -> Option<&mut Act> {
        let kept = self.acts.len() == self.intents;
        self.acts.last_mut().filter(|_| kept)
    }

    /// From the signal that decided to the proof that it is over.
    pub(super) fn to_recover(&self) -> Option<std::time::Duration> {
        self.recovered.map(|at| at.since(self.seen))
    }

    /// How many acts were announced.
    pub(super) fn intents(&self) -> usize {
        self.intents
    }
}

/// The name under which an incident's subject is counted; and the process's, where that is another one.
pub(super) fn name_of(incident: &Incident) -> (Cow<'_, str>, Option<&str>) {
    let comm = incident.evidence.comm.as_deref();
    match &incident.subject {
        Subject::Host => ("host".into(), comm),
        Subject::Service { name }
        | Subject::Device { name }
        | Subject::Folder { name }
        | Subject::Network { name } => (name.into(), comm),
        Subject::Process {
            comm,
            group: Some(group),
            ..
        } => (group.into(), Some(comm)),
        Subject::Process {
            comm, group: None, ..
        } => (comm.into(), None),
        Subject::Peer { address } => (address.to_string().into(), comm),
    }
}

/// The guard that a refusal names.
fn guard(detail: &str) -> Option<&'static str> {
    let (name, _) = detail.split_once(':')?;
    guards::ALL
        .iter()
        .map(|guard| guard.name)
        .find(|known| *known == name)
}

/// The action that a dry run's refusal names.
fn would_have_done(detail: &str) -> &str {
    let words = detail.split_once("would have done ").map(|(_, rest)| rest);
    let name = words.and_then(|rest| {
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
    });
    name.filter(|name| !name.is_empty()).unwrap_or("unknown")
}
