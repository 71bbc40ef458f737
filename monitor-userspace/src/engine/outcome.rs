//! From an effect to an outcome: whether an act has proven itself, and what follows if not.

use std::time::Duration;

use super::manual::is_wish;
use super::{Act, Engine, Order};
use crate::actions;
use crate::model::incident::StepKind;
use crate::model::{Effect, EffectResult, IncidentId, Outcome, Plan, Refusal, State, Time};
use crate::policy::{self, Permit};
use crate::verify;

/// An act that takes no longer than this is one instant in a story.
const LONG: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) fn take_effect(&mut self, effect: &Effect, now: Time, orders: &mut Vec<Order>) {
        let id = effect.incident;
        let Some(act) = self.acts.get_mut(&id) else {
            return;
        };
        // An effect is told once: another one is not of this act, nor is one from before it was granted.
        let before = effect.finished < act.granted;
        if act.effect.is_some() || effect.action != act.action || before {
            return;
        }
        act.effect = Some(effect.clone());
        let (action, undo, plan) = (act.action, act.undo, act.plan.clone());
        self.under_way(&plan, false);
        self.rolled_back(&plan, effect, orders);
        let seen = self.book.change(id, |incident| {
            match &effect.result {
                EffectResult::Done { detail } => {
                    if !undo {
                        incident.state = State::Verifying;
                    }
                    let acted = effect.acted.unwrap_or(effect.finished);
                    // What takes long is dated by its beginning.
                    let took = effect.finished.since(acted);
                    let mut detail = detail.clone();
                    if took >= LONG {
                        detail = format!("{detail}, {took:.1?} after it began");
                    }
                    // Of what a person asked for, that is the proof, and said as such.
                    let read = effect
                        .verified
                        .as_ref()
                        .filter(|_| undo || !is_wish(incident));
                    if let Some(read) = read.filter(|read| !detail.contains(read.as_str())) {
                        detail = format!("{detail}; read back: {read}");
                    }
                    let what = if undo {
                        StepKind::Undone
                    } else {
                        StepKind::Acted
                    };
                    incident.step(acted, what, detail);
                }
                EffectResult::Failed { reason } | EffectResult::Refused { reason } => {
                    incident.step(effect.finished, StepKind::Failed, reason.as_str());
                }
            }
            incident.evidence.seen
        });
        if let (Some(seen), Some(acted), false) = (seen, effect.acted, undo) {
            self.count_acted(action, seen, acted);
        }
        self.changed = true;
        if undo {
            self.undone(id, &effect.result, now, orders);
        } else if self.book.get(id).is_some_and(is_wish) {
            self.granted_wish(id, effect, now, orders);
        } else {
            self.judge(id, now, orders);
        }
    }

    /// Asks whether an action has proven itself, and draws the consequence.
    pub(super) fn judge(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        let Some(act) = self.acts.get(&id).filter(|act| !act.undo) else {
            return;
        };
        let (Some(effect), Some(incident)) = (&act.effect, self.book.get(id)) else {
            return;
        };
        // It is gone, and only has to stay away.
        if act.cleared.is_none() && self.clearing.contains_key(&id) && done(effect) {
            return;
        }
        let known = verify::Known {
            effect,
            within: act.within,
            cleared: act.cleared.as_ref().map(|(seen, _)| *seen),
            again: act.again(),
            // What grew worse before the host was changed is not the action's doing.
            severity: if act.after(act.grew) {
                (act.severity, incident.severity)
            } else {
                (incident.severity, incident.severity)
            },
        };
        let outcome = match verify::judge(known, now) {
            Some(Outcome::Refused) if act.called_off => Some(called_off(act, effect)),
            outcome => outcome,
        };
        let Some(act) = outcome
            .or(act.cleared.as_ref().map(|_| Outcome::NoEffect))
            .and_then(|_| self.acts.remove(&id))
        else {
            return;
        };
        // Gone before anything was done: not our merit.
        let outcome = outcome.unwrap_or(Outcome::NoEffect);
        self.count_outcome(act.action, outcome);
        if let Some(incident) = self.book.get(id) {
            let before = act.cleared.is_some() && outcome != Outcome::Fixed;
            if !before {
                self.policy
                    .judged(act.action, &act.rule, incident, outcome, now);
            }
        }
        if let Some((seen, because)) = &act.cleared {
            self.keep_held(id, &act, outcome == Outcome::Fixed, now);
            return self.resolve(id, Some(outcome), *seen, because, orders);
        }
        self.not_helped(id, &act, outcome, now, orders);
    }

    /// What a person asked for was done, or could not be.
    fn granted_wish(
        &mut self,
        id: IncidentId,
        effect: &Effect,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let Some(act) = self.acts.remove(&id) else {
            return;
        };
        self.keep_held(id, &act, done(effect), now);
        let outcome = self.wish_done(id, effect, now, orders);
        self.count_outcome(act.action, outcome);
    }

    /// What the act has left in force is changed back in its time; at once where it came to nothing, or was not needed.
    fn keep_held(&mut self, id: IncidentId, act: &Act, helped: bool, now: Time) {
        let Some(effect) = &act.effect else {
            return;
        };
        let Some(undo) = effect.undo.clone() else {
            return;
        };
        let due = if helped {
            act.undo_after.map(|after| effect.finished.after(after))
        } else {
            Some(now)
        };
        self.hold(id, (act.action, &act.rule), undo, due);
    }

    fn not_helped(
        &mut self,
        id: IncidentId,
        act: &Act,
        outcome: Outcome,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        self.book.change(id, |incident| {
            incident.state = State::Open;
            incident.outcome = Some(outcome);
            if matches!(outcome, Outcome::NoEffect | Outcome::Worse) {
                let line = if act.again() {
                    format!("{}: it happened again", act.action)
                } else {
                    format!("{}: {} within {:?}", act.action, outcome.name(), act.within)
                };
                incident.step(now, StepKind::Unproven, line);
            }
            // A changed identity says nothing about the action.
            if outcome != Outcome::Refused {
                incident.tries = incident.tries.saturating_add(1);
                if act.attempts.is_some_and(|most| incident.tries >= most) {
                    incident.rung = incident.rung.saturating_add(1);
                    incident.tries = 0;
                }
            }
        });
        self.record(id, orders);
        // Guards say when: a cooldown, a limit. Not in this same moment, whatever they say.
        let soon = now.after(Duration::from_millis(10));
        self.retries.insert(id, soon);
        let undo = act.effect.as_ref().and_then(|effect| effect.undo.clone());
        // What did not help is not left behind either, nor is what was done by halves.
        if let Some(plan) = undo.filter(|_| outcome != Outcome::Fixed) {
            self.hold(id, (act.action, &act.rule), plan, Some(now));
            self.lift_one(id, ("it did not help", None), now, orders);
        }
    }

    /// Consent to change something back.
    pub(super) fn permit_undo(
        &self,
        id: IncidentId,
        spec: &'static actions::Spec,
        (rule, by): (&str, Option<&str>),
        plan: Plan,
        now: Time,
    ) -> Result<(Permit, Act), Refusal> {
        let gone = || Refusal {
            guard: super::decide::PLAN.to_owned(),
            reason: "the incident is gone".to_owned(),
            retry_at: None,
        };
        let incident = self.book.get(id).ok_or_else(gone)?;
        let undoing = policy::Undoing {
            action: spec.name,
            rule,
            by,
            plan: plan.clone(),
            incident,
            world: &self.world,
            halted: self.halted.as_deref(),
        };
        let permit = self.policy.undo(undoing, now)?;
        let act = Act::undoing(spec.name, (rule, plan), incident.severity, now);
        Ok((permit, act))
    }

    pub(super) fn undoing(
        &mut self,
        id: IncidentId,
        permit: Permit,
        act: Act,
        line: &str,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        self.under_way(&act.plan, true);
        self.book.change(id, |incident| {
            // What follows from another failure goes on doing so.
            if !incident.is_over() && incident.state != State::Suppressed {
                incident.state = State::Acting;
            }
            incident.step(now, StepKind::Decided, line);
        });
        self.acts.insert(id, act);
        self.order(id, permit, orders);
    }

    /// What was changed is changed back, or could not be: on to the next rung.
    fn undone(
        &mut self,
        id: IncidentId,
        result: &EffectResult,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let Some(act) = self.acts.remove(&id) else {
            return;
        };
        self.lifted(id, result, now, orders);
        if self.is_over(id) {
            return self.record(id, orders);
        }
        if let Some((seen, because)) = act.cleared {
            return self.resolve(id, None, seen, &because, orders);
        }
        let held_back = self.book.change(id, |incident| {
            let held_back = incident.state == State::Suppressed;
            if !held_back {
                incident.state = State::Open;
            }
            held_back
        });
        self.record(id, orders);
        if held_back == Some(true) {
            return;
        }
        self.retries
            .insert(id, now.after(Duration::from_millis(10)));
    }

    pub(super) fn resolve(
        &mut self,
        id: IncidentId,
        outcome: Option<Outcome>,
        seen: Time,
        because: &str,
        orders: &mut Vec<Order>,
    ) {
        self.retries.remove(&id);
        self.clearing.remove(&id);
        self.exhausted.remove(&id);
        if let Some(incident) = self.book.get(id) {
            let subject = incident.subject.clone();
            self.show_again(&subject);
        }
        let ended = self.book.change(id, |incident| {
            incident.state = State::Resolved;
            incident.closed = Some(seen);
            incident.outcome = outcome.or(incident.outcome);
            incident.proposed = None;
            incident.step(seen, StepKind::Recovered, because);
        });
        if ended.is_some() {
            self.count_recovered(id, seen);
        }
        self.changed = true;
        self.record(id, orders);
        self.release_all(id, seen);
    }

    pub(super) fn record(&mut self, id: IncidentId, orders: &mut Vec<Order>) {
        self.changed = true;
        if let Some(incident) = self.book.get(id) {
            orders.push(Order::Record(Box::new(incident.clone())));
        }
    }
}

/// What an act was worth that did not go on: it helped already, or a guard stopped it.
fn called_off(act: &Act, effect: &Effect) -> Outcome {
    let cleared = act.cleared.as_ref().map(|(seen, _)| *seen);
    match (cleared, effect.acted) {
        (Some(cleared), Some(acted)) if cleared >= acted => Outcome::Fixed,
        _ => Outcome::Refused,
    }
}

fn done(effect: &Effect) -> bool {
    matches!(effect.result, EffectResult::Done { .. })
}
