//! What acts have changed for a time, and what changes it back: a limit, a pause. Kept in the incident, so that the journal knows it.

use std::time::Duration;

use super::{Engine, Order};
use crate::actions;
use crate::model::incident::StepKind;
use crate::model::view::HELD;
use crate::model::{EffectResult, Held, IncidentId, Plan, State, Time};

/// When what could not be changed back is tried again; each time twice as long.
const AGAIN: Duration = Duration::from_secs(5);
/// How often that is tried before a person is called.
const TRIES: u32 = 6;

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
            self.lift_one(id, now, orders);
        }
    }

    fn lift_one(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        let held = self.book.get(id).and_then(|incident| incident.held.clone());
        let Some(held) = held else {
            return;
        };
        let Some(spec) = actions::find(&held.action) else {
            let why = format!("there is no action {} any more", held.action);
            return self.not_lifted(id, &why, now, orders);
        };
        match self.permit_undo(id, spec, &held.rule, held.undo.clone(), now) {
            Ok((permit, act)) => {
                let line = format!("undo of {}: its time is over", held.action);
                self.undoing(id, permit, act, &line, now, orders);
            }
            Err(refusal) => {
                let why = format!("{}: {}", refusal.guard, refusal.reason);
                self.not_lifted(id, &why, now, orders);
            }
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
                let wait = AGAIN.saturating_mul(1 << held.tries.min(10));
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
                let over = self.book.get(id).is_some_and(|incident| incident.held.is_some());
                if over {
                    self.not_lifted(id, reason, now, orders);
                }
            }
        }
    }

    /// A person wants it changed back now.
    pub(super) fn asked_to_undo(&mut self, id: IncidentId, by: &str, now: Time) {
        self.book.change(id, |incident| {
            let Some(held) = &mut incident.held else {
                return;
            };
            held.due = Some(now);
            held.tries = 0;
            let line = format!("undo of {} by {by}", held.action);
            incident.step(now, StepKind::Approved, line);
        });
    }

    /// Whether an incident is over, so that nothing more follows from what is done about it.
    pub(super) fn is_over(&self, id: IncidentId) -> bool {
        let state = self.book.get(id).map(|incident| incident.state);
        state.is_none_or(|state| state == State::Resolved)
    }
}
