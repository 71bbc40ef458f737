//! What acts have changed for a time, and what changes it back: a limit, a pause. Kept in the incident, so that the journal knows it.

use std::time::Duration;

use super::book::Book;
use super::{Engine, Order};
use crate::actions;
use crate::model::incident::StepKind;
use crate::model::view::HELD;
use crate::model::{
    EffectResult, Held, Incident, IncidentId, Plan, ProcessKey, Refusal, State, Time,
};

/// When what could not be changed back is tried again; each time twice as long.
const AGAIN: Duration = Duration::from_secs(5);
/// How long after its end a process is gone for good.
const ENDED: Duration = Duration::from_secs(1);
/// How often that is tried before a person is called.
const TRIES: u32 = 6;
/// How long it waits for another act on the same target to come back.
const BUSY: Duration = Duration::from_millis(100);

/// Why an act that can be changed back must wait: what was done to its target before is still to be changed back. Two that each remember
/// what the other changed would leave it changed for good.
pub(super) fn in_force(
    book: &Book,
    incident: &Incident,
    spec: &actions::Spec,
    plan: &Plan,
) -> Result<(), String> {
    if !spec.reversible {
        return Ok(());
    }
    let same = |other: &&Incident| {
        let Some(held) = &other.held else {
            return false;
        };
        let process = plan.process();
        let target = other.subject == incident.subject
            || process.is_some() && process == held.undo.process();
        other.id == incident.id || held.action == spec.name && target
    };
    if let Some(other) = book.held().find(same) {
        let action = other.held.as_ref().map_or("", |held| &held.action);
        return Err(format!(
            "what {action} did for incident {0} is still to be changed back: smart-monitor undo {0}",
            other.id
        ));
    }
    if book.held().count() > HELD {
        return Err(format!(
            "more than {HELD} acts are in force and still to be changed back: `smart-monitor status` lists them"
        ));
    }
    Ok(())
}

impl Engine {
    /// An act is over and has left something that can be changed back.
    pub(super) fn hold(
        &mut self,
        id: IncidentId,
        (action, rule): (&str, &str),
        undo: Plan,
        due: Option<Time>,
    ) {
        let held = Held {
            action: action.to_owned(),
            rule: rule.to_owned(),
            undo,
            due,
            tries: 0,
        };
        self.book
            .change(id, |incident| incident.held = Some(Box::new(held)));
        self.changed = true;
        let oldest = self.book.held().next().map(|incident| incident.id);
        if let Some(oldest) = oldest.filter(|_| self.book.held().count() > HELD) {
            self.due(oldest, Time::default());
        }
    }

    /// It is to be changed back then.
    pub(super) fn due(&mut self, id: IncidentId, at: Time) {
        self.book.change(id, |incident| {
            if let Some(held) = &mut incident.held {
                held.due = Some(at);
            }
        });
    }

    /// A process has ended: what holds it back has nothing left to hold, and what was made for that goes.
    pub(super) fn target_ended(&mut self, process: ProcessKey, at: Time) {
        let of_it = |incident: &&Incident| {
            incident.held.as_ref().is_some_and(|held| {
                let passes = matches!(
                    held.undo,
                    Plan::Release { .. }
                        | Plan::RestorePriority { .. }
                        | Plan::RestoreIoPriority { .. }
                        | Plan::RestoreOomScore { .. }
                );
                passes && held.undo.process() == Some(process)
            })
        };
        let ids: Vec<_> = self.book.held().filter(of_it).map(|it| it.id).collect();
        for id in ids {
            // The kernel tells it while the process is still there.
            self.due(id, at.after(ENDED));
        }
    }

    /// When the next one is to be changed back.
    pub(super) fn next_due(&self) -> Option<Time> {
        let free = |id: &IncidentId| !self.acts.contains_key(id);
        let held = self.book.held().filter(|incident| free(&incident.id));
        held.filter_map(|incident| incident.held.as_ref()?.due)
            .min()
    }

    /// Changes back what is due.
    pub(super) fn lift(&mut self, now: Time, orders: &mut Vec<Order>) {
        let due = self.book.held().filter(|incident| {
            let due = incident.held.as_ref().and_then(|held| held.due);
            due.is_some_and(|due| due <= now) && !self.acts.contains_key(&incident.id)
        });
        for id in due.map(|incident| incident.id).collect::<Vec<_>>() {
            self.lift_one(id, ("it is due", None), now, orders);
        }
    }

    /// Changes one back, if that can be done now; `why`, and the person who asks for it.
    pub(super) fn lift_one(
        &mut self,
        id: IncidentId,
        (why, by): (&str, Option<&str>),
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let held = self.book.get(id).and_then(|incident| incident.held.clone());
        // What is under way is waited for.
        let Some(held) = held.filter(|_| !self.acts.contains_key(&id)) else {
            return;
        };
        if self.is_busy(id, &held.undo) {
            return self.due(id, now.after(BUSY));
        }
        let Some(spec) = actions::find(&held.action) else {
            let why = format!("there is no action {} any more", held.action);
            return self.not_lifted(id, &why, now, orders);
        };
        match self.permit_undo(id, spec, (&held.rule, by), held.undo.clone(), now) {
            Ok((permit, act)) => {
                let line = format!("undo of {}: {why}", held.action);
                self.undoing(id, permit, act, &line, now, orders);
            }
            Err(refusal) => self.not_allowed_to_lift(id, refusal, now, orders),
        }
    }

    /// Whether another incident's act is being carried out on the same target.
    fn is_busy(&self, id: IncidentId, undo: &Plan) -> bool {
        let subject = self.book.get(id).map(|incident| &incident.subject);
        let mut others = self
            .acts
            .iter()
            .filter(|(other, act)| **other != id && act.effect.is_none());
        others.any(|(other, act)| {
            let on = self.book.get(*other).map(|incident| &incident.subject);
            let process = undo.process();
            on == subject || process.is_some() && process == act.plan.process()
        })
    }

    /// A guard stands in the way. What time changes is no try in vain.
    fn not_allowed_to_lift(
        &mut self,
        id: IncidentId,
        refusal: Refusal,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let line = format!("{}: {}", refusal.guard, refusal.reason);
        let said = self.book.change(id, |incident| {
            let mut steps = incident.steps.iter().rev();
            let last =
                steps.find(|step| matches!(step.what, StepKind::Refused | StepKind::Decided));
            let again = last.is_some_and(|step| step.detail == line);
            if !again {
                incident.step(now, StepKind::Refused, line.as_str());
            }
            !again
        });
        if said == Some(true) {
            *self.counts.refusals.entry(refusal.guard).or_default() += 1;
            self.record(id, orders);
        }
        match refusal.retry_at {
            Some(retry) => self.due(id, retry.max(now.after(Duration::from_millis(1)))),
            None => self.not_lifted(id, &line, now, orders),
        }
    }

    /// It could not be changed back: again later, or a person is called.
    pub(super) fn not_lifted(
        &mut self,
        id: IncidentId,
        why: &str,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        self.book.change(id, |incident| {
            let Some(held) = &mut incident.held else {
                return;
            };
            held.tries = held.tries.saturating_add(1);
            if held.tries < TRIES {
                let wait = AGAIN.saturating_mul(1 << (held.tries - 1).min(10));
                held.due = Some(now.after(wait));
                return;
            }
            held.due = None;
            let line = format!(
                "{} was tried to undo {} times and is still in force: {why}; smart-monitor undo {id} tries again",
                held.action, held.tries
            );
            incident.step(now, StepKind::Escalated, line);
        });
        self.record(id, orders);
    }

    /// What came of changing it back.
    pub(super) fn lifted(
        &mut self,
        id: IncidentId,
        result: &EffectResult,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        match result {
            // Whom it was done to is gone: there is nothing to change back.
            EffectResult::Done { .. } | EffectResult::Refused { .. } => {
                self.book.change(id, |incident| incident.held = None);
            }
            EffectResult::Failed { reason } => {
                self.not_lifted(id, reason, now, orders);
            }
        }
    }

    /// A person wants it changed back now.
    pub(super) fn asked_to_undo(
        &mut self,
        id: IncidentId,
        by: &str,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let asked = self.book.change(id, |incident| {
            let Some(held) = &mut incident.held else {
                return false;
            };
            held.due = Some(now);
            held.tries = 0;
            let line = format!("undo of {} by {by}", held.action);
            incident.step(now, StepKind::Approved, line);
            true
        });
        if asked == Some(true) {
            self.record(id, orders);
            self.lift_one(id, ("a person asked for it", Some(by)), now, orders);
        }
    }

    /// Whether an incident is over, so that nothing more follows from what is done about it.
    pub(super) fn is_over(&self, id: IncidentId) -> bool {
        let state = self.book.get(id).map(|incident| incident.state);
        state.is_none_or(|state| state == State::Resolved)
    }
}
