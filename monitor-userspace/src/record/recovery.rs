//! What the journal says at start: incidents to list, actions that count towards cooldowns, and what was under way when the
//! daemon ended.

use std::collections::BTreeMap;
use std::path::Path;

use super::journal::{self, Entry, Report};
use crate::model::incident::StepKind;
use crate::model::release::Known;
use crate::model::view::{HELD, INCIDENTS, SILENCES};
use crate::model::{
    Effect, EffectResult, Held, Incident, IncidentId, Outcome, Plan, Request, Silence, State, Time,
};

#[cfg(test)]
mod tests;

/// Most of a journal that is read, bytes, its newest: far more than is remembered, whatever is kept.
const REACH: u64 = 64 << 20;

/// Most services whose releases are read: more than a configuration can name.
const SERVICES: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Incidents, oldest first; all are over by now.
    pub incidents: Vec<Incident>,
    /// Actions: name, incident's subject in words, time; and whether it was proven to help.
    pub actions: Vec<PastAction>,
    /// Actions whose intent is there and whose effect is not: the daemon ended in between.
    pub under_way: Vec<UnderWay>,
    /// Whether the daemon ended without saying so.
    pub crashed: bool,
    /// The number after the highest one used.
    pub next: IncidentId,
    /// Silences in force, oldest first.
    pub silences: Vec<Silence>,
    /// The number after the highest one that a silence had.
    pub next_silence: u64,
    /// What is known of the releases of each service.
    pub releases: BTreeMap<String, Known>,
    /// Lines that could not be read.
    pub unreadable: u64,
    /// Whether what was read is what was written.
    pub chain: Report,
}

impl Recovered {
    /// An incident had this number.
    fn used(&mut self, id: IncidentId) {
        self.next = self.next.max(IncidentId(id.0.saturating_add(1)));
    }

    /// Where the journal was changed, and what that means, where it was.
    pub fn changed(&self) -> Option<String> {
        let first = self.chain.breaks.first()?;
        let more = self.chain.more_breaks;
        let more = more.saturating_add(u64::try_from(self.chain.breaks.len() - 1).unwrap_or(0));
        let others = match more {
            0 => String::new(),
            1 => " and one more place".to_owned(),
            more => format!(" and {more} more places"),
        };
        Some(format!(
            "the journal was changed at {}:{}{others}: limits and cooldowns may be wrong; `smart-monitor audit --verify` says what is wrong there",
            first.file, first.line
        ))
    }
}

/// What a new file of the journal has to have again, since the one that has it goes some day: silences in force, incidents about which
/// something was done that still is, and what is known of releases.
pub fn restated(
    silences: &[Silence],
    held: impl Iterator<Item = Incident>,
    releases: impl Iterator<Item = (String, Known)>,
) -> Vec<Entry> {
    let again = silences.iter().map(|silence| Entry::Person {
        by: silence.by.clone(),
        request: Request::Silence {
            silence: silence.clone(),
        },
    });
    // How the host was then is not needed to change it back, and is long.
    let held = held.map(|mut incident| {
        incident.evidence.frozen = None;
        Entry::Incident {
            incident: Box::new(incident),
        }
    });
    let releases = releases.map(|(service, known)| Entry::Releases { service, known });
    again.chain(held).chain(releases).collect()
}

/// An action of an earlier run.
#[derive(Debug)]
pub struct PastAction {
    /// Its name.
    pub action: String,
    /// The incident it was for.
    pub incident: IncidentId,
    /// When, on today's monotonic clock (negative for before the machine started).
    pub at: Time,
    /// The rule that allowed it.
    pub rule: String,
    /// What it was worth, and when that was known.
    pub judged: Option<(Outcome, Time)>,
}

/// An action that was announced and not reported back.
#[derive(Debug)]
pub struct UnderWay {
    /// The incident it was for.
    pub incident: IncidentId,
    /// Its name.
    pub action: String,
    /// What exactly.
    pub plan: Plan,
}

impl PastAction {
    const fn of(action: String, rule: String, incident: IncidentId, at: Time) -> Self {
        Self {
            action,
            incident,
            at,
            rule,
            judged: None,
        }
    }
}

impl UnderWay {
    const fn of(incident: IncidentId, action: String, plan: Plan) -> Self {
        Self {
            incident,
            action,
            plan,
        }
    }
}

/// Reads a state folder. `now` and `unix_ns` are the same moment on the two clocks.
pub fn recover(folder: &Path, now: Time, unix_ns: i64) -> std::io::Result<Recovered> {
    let mut incidents: BTreeMap<IncidentId, (i64, Incident)> = BTreeMap::new();
    let mut pending: BTreeMap<IncidentId, UnderWay> = BTreeMap::new();
    let mut recovered = Recovered {
        next: IncidentId(1),
        ..Recovered::default()
    };
    let mut actions: Vec<PastAction> = Vec::new();
    let mut changed = Changed::default();
    let mut silences = Silences::default();
    // Wall clock to today's monotonic clock: the only one that means something across a reboot.
    let today = |then_unix_ns: i64| {
        Time::from_nanos(
            now.nanos()
                .saturating_sub(unix_ns.saturating_sub(then_unix_ns)),
        )
    };
    let found = journal::read(folder, REACH, |line| {
        let shift = today(line.unix_ns)
            .nanos()
            .saturating_sub(line.monotonic_ns);
        match line.entry {
            Entry::Started { .. } => {
                recovered.crashed = true;
                // What was open or under way until then was said at that start, and is not said again.
                pending.clear();
                interrupt_all(&mut incidents, today(line.unix_ns));
            }
            Entry::Ended => recovered.crashed = false,
            Entry::Intent {
                incident,
                action,
                plan,
                rule,
                undo,
                ..
            } => {
                let id = incident.id;
                recovered.used(id);
                keep(&mut incidents, shift, *incident);
                changed.intent(id, &rule, undo);
                let at = today(line.unix_ns);
                if !undo {
                    actions.push(PastAction::of(action.clone(), rule, id, at));
                }
                pending.insert(id, UnderWay::of(id, action, plan));
            }
            Entry::WillChange {
                incident: id,
                action,
                undo,
            } => {
                left_release(&mut recovered.releases, &undo);
                changed.will(id, action, undo);
            }
            Entry::Releases { service, known } => {
                take_releases(&mut recovered.releases, service, known, shift);
            }
            Entry::Effect { effect } => {
                pending.remove(&effect.incident);
                let known = incidents.get_mut(&effect.incident);
                changed.effect(effect, known.map(|(_, incident)| incident));
            }
            Entry::Incident { incident } => {
                let id = incident.id;
                recovered.used(id);
                if let Some(outcome) = incident.outcome
                    && let Some(last) = actions.iter_mut().rev().find(|past| past.incident == id)
                {
                    let at = today(line.unix_ns);
                    last.judged.get_or_insert((outcome, at));
                }
                if incident.is_over() {
                    changed.over(id);
                }
                keep(&mut incidents, shift, *incident);
            }
            Entry::Person { request, .. } => silences.hear(request, shift, now),
            Entry::Reloaded { .. }
            | Entry::Guarded { .. }
            | Entry::StormEnding { .. }
            | Entry::ServiceStarted { .. }
            | Entry::Continued { .. }
            | Entry::Resumed => {}
        }
        // Bounded while reading, too.
        forget_oldest(&mut incidents, &changed.left);
        if actions.len() > 2 * INCIDENTS {
            actions.drain(..INCIDENTS);
        }
    })?;
    recovered.unreadable = found.unreadable;
    recovered.chain = found.chain;
    recovered.under_way = pending.into_values().collect();
    recovered.actions = actions;
    recovered.silences = silences.in_force.into_values().collect();
    recovered.next_silence = silences.highest.saturating_add(1);
    let over = |(shift, incident)| ended(incident, shift, now);
    recovered.incidents = incidents.into_values().map(over).collect();
    changed.into_incidents(&mut recovered.incidents, now);
    Ok(recovered)
}

/// What is known of a service's releases; `shift` moves its times onto today's clock.
fn take_releases(all: &mut BTreeMap<String, Known>, service: String, mut known: Known, shift: i64) {
    let moved = |time: Time| Time::from_nanos(time.nanos().saturating_add(shift));
    known.changed = known.changed.map(moved);
    all.insert(service, known);
    while all.len() > SERVICES {
        all.pop_first();
    }
}

/// A roll-back was about to begin: whatever became of it, there is no second one.
fn left_release(all: &mut BTreeMap<String, Known>, undo: &Plan) {
    if let Plan::SwitchRelease {
        service,
        to,
        forward: true,
        ..
    } = undo
    {
        all.entry(service.clone()).or_default().left(to);
    }
}

/// What was changed on the host, and that the core had not said yet what is to become of.
#[derive(Default)]
struct Changed {
    rules: BTreeMap<IncidentId, (String, bool)>,
    left: BTreeMap<IncidentId, Held>,
}

impl Changed {
    fn intent(&mut self, id: IncidentId, rule: &str, undo: bool) {
        self.rules.insert(id, (rule.to_owned(), undo));
        while self.rules.len() > INCIDENTS {
            self.rules.pop_first();
        }
    }

    fn will(&mut self, id: IncidentId, action: String, undo: Plan) {
        let rule = self.rules.get(&id).map(|(rule, _)| rule.clone());
        let held = Held {
            action,
            rule: rule.unwrap_or_default(),
            undo,
            due: None,
            tries: 0,
        };
        self.left.insert(id, held);
        while self.left.len() > HELD {
            self.left.pop_first();
        }
    }

    /// `known` is the incident, as the lines before have it.
    fn effect(&mut self, effect: Effect, known: Option<&mut Incident>) {
        let id = effect.incident;
        let undoes = self.rules.get(&id).is_some_and(|(_, undo)| *undo);
        match effect.undo {
            // What an undo leaves is what it left before, where it failed.
            _ if undoes => {
                if !matches!(effect.result, EffectResult::Failed { .. }) {
                    self.left.remove(&id);
                    // The line that says so may be missing.
                    if let Some(incident) = known {
                        incident.held = None;
                    }
                }
            }
            Some(undo) => self.will(id, effect.action, undo),
            None => {
                self.left.remove(&id);
            }
        }
    }

    /// The core has decided: what is still in force stands in the incident.
    fn over(&mut self, id: IncidentId) {
        self.left.remove(&id);
    }

    /// The daemon ended in the midst of it: it is changed back at once.
    fn into_incidents(mut self, incidents: &mut [Incident], now: Time) {
        for incident in incidents {
            if let Some(left) = self.left.remove(&incident.id) {
                let due = Some(now);
                incident.held = Some(Box::new(Held { due, ..left }));
            }
        }
    }
}

/// Those that hold nothing go first.
fn forget_oldest(
    incidents: &mut BTreeMap<IncidentId, (i64, Incident)>,
    left: &BTreeMap<IncidentId, Held>,
) {
    while incidents.len() > INCIDENTS + HELD {
        let mut all = incidents.iter();
        let oldest =
            all.find(|(id, (_, incident))| incident.held.is_none() && !left.contains_key(id));
        let Some(oldest) = oldest.map(|(id, _)| *id) else {
            return;
        };
        incidents.remove(&oldest);
    }
}

/// With its times on today's clock, and over.
fn ended(mut incident: Incident, shift: i64, now: Time) -> Incident {
    move_times(&mut incident, shift);
    if !incident.is_over() {
        interrupt(&mut incident, now);
    }
    incident
}

/// Silences, as they were begun and ended.
#[derive(Default)]
struct Silences {
    in_force: BTreeMap<u64, Silence>,
    highest: u64,
}

impl Silences {
    /// `shift` moves times of the request's boot onto today's clock.
    fn hear(&mut self, request: Request, shift: i64, now: Time) {
        match request {
            Request::Silence { mut silence } => {
                self.highest = self.highest.max(silence.id);
                silence.until = Time::from_nanos(silence.until.nanos().saturating_add(shift));
                if silence.until > now {
                    self.in_force.insert(silence.id, silence);
                }
                if self.in_force.len() > SILENCES {
                    self.in_force.pop_first();
                }
            }
            Request::Unsilence { id } => {
                self.in_force.remove(&id);
            }
            Request::Approve { .. }
            | Request::Reject { .. }
            | Request::Acknowledge { .. }
            | Request::Act { .. }
            | Request::Repair { .. }
            | Request::RestorePoint { .. }
            | Request::Watch { .. }
            | Request::Undo { .. } => {}
        }
    }
}

/// Takes a line about an incident. What was frozen stands in one of its lines only.
fn keep(incidents: &mut BTreeMap<IncidentId, (i64, Incident)>, shift: i64, mut incident: Incident) {
    let id = incident.id;
    if let Some((_, before)) = incidents.remove(&id) {
        let frozen = &mut incident.evidence.frozen;
        *frozen = frozen.take().or(before.evidence.frozen);
    }
    incidents.insert(id, (shift, incident));
}

/// Times of an earlier boot, on today's clock.
fn move_times(incident: &mut Incident, shift: i64) {
    let moved = |time: Time| Time::from_nanos(time.nanos().saturating_add(shift));
    incident.opened = moved(incident.opened);
    incident.closed = incident.closed.map(moved);
    incident.evidence.seen = moved(incident.evidence.seen);
    incident.evidence.since = moved(incident.evidence.since);
    if let Some(held) = &mut incident.held {
        held.due = held.due.map(moved);
    }
    for step in &mut incident.steps {
        step.at = moved(step.at);
    }
}

/// The daemon ended while these were open; each with what moves its times onto today's clock, on which `now` is.
fn interrupt_all(incidents: &mut BTreeMap<IncidentId, (i64, Incident)>, now: Time) {
    for (shift, incident) in incidents.values_mut() {
        if !incident.is_over() {
            let then = now.nanos().saturating_sub(*shift);
            interrupt(incident, Time::from_nanos(then));
        }
    }
}

/// The daemon ended while this was open. If the condition still holds, a new incident will say so.
fn interrupt(incident: &mut Incident, now: Time) {
    let acting = matches!(incident.state, State::Acting | State::Verifying);
    let detail = if acting {
        incident.outcome = Some(Outcome::Unknown);
        "the daemon ended while an action was under way; its effect is not known"
    } else {
        "the daemon ended while this was open"
    };
    incident.step(now, StepKind::Interrupted, detail);
    incident.state = State::Resolved;
    incident.closed = Some(now);
}
