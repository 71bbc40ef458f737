//! What is to be done about an incident now: which rule, which rung, permitted or refused, and why.

use std::time::Duration;

use super::book::Book;
use super::held::in_force;
use super::{Act, Engine, Order};
use crate::actions;
use crate::detectors;
use crate::model::action::Risk;
use crate::model::incident::StepKind;
use crate::model::{
    Incident, IncidentId, Outcome, Plan, Proposed, Refusal, State, Subject, Time, World,
};
use crate::policy::{Approved, Permit, Proposal, Refusing, Remedy, Rules, Rung, guards};

/// The guard that stands for a missing `[[remedy]]`.
pub(super) const CONSENT: &str = "consent";
/// The guard that stands for an action that cannot do anything about this incident.
pub(super) const PLAN: &str = "plan";
/// The guard that stands for a rule whose `when` does not hold, or cannot be told.
pub(super) const CONDITION: &str = "condition";
/// The guard that stands for a rule's `for`.
pub(super) const HOLD: &str = "for";
/// The guard that stands for a ladder that was tried to its end: its refusal calls for a person.
pub(super) const LADDER: &str = "ladder";

/// Guards that are no policy's: what they stand for comes before there is something to ask a policy about.
pub const BEFORE: [&str; 5] = [CONSENT, CONDITION, HOLD, LADDER, PLAN];

/// How often a condition that did not hold is looked at again: it may depend on time, and on the host.
const AGAIN: Duration = Duration::from_secs(5);

/// What was found to be done.
enum Found {
    Permitted(Box<(Permit, Act)>),
    Refused(Refusal),
    /// A person may allow it.
    Ask(Refusal, Box<Proposed>),
}

impl Found {
    fn is_asked_again(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.retry_at.is_some())
    }
}

/// Where on which ladder an incident is.
struct Place {
    rule: String,
    rung: u32,
    tries: u32,
}

fn refusal(guard: &str, reason: impl Into<String>, retry_at: Option<Time>) -> Found {
    Found::Refused(Refusal {
        guard: guard.to_owned(),
        reason: reason.into(),
        retry_at,
    })
}

/// The first rule for an incident whose condition holds, or why there is none.
fn rule_for<'a>(
    rules: &'a Rules,
    world: &World,
    incident: &'a Incident,
    now: Time,
) -> Result<&'a Remedy, Found> {
    let mut reason = None;
    for remedy in rules.covering(incident) {
        let Some(when) = &remedy.when else {
            return Ok(remedy);
        };
        match when.holds(incident, world, now) {
            Ok(true) => return Ok(remedy),
            Ok(false) => {
                reason.get_or_insert(format!("`when` of rule {} does not hold", remedy.name));
            }
            Err(why) => {
                let why = format!("`when` of rule {} cannot be told: {why}", remedy.name);
                return Err(refusal(CONDITION, why, Some(now.after(AGAIN))));
            }
        }
    }
    Err(match reason {
        Some(reason) => refusal(CONDITION, reason, Some(now.after(AGAIN))),
        None => refusal(
            CONSENT,
            format!(
                "no [[remedy]] covers {} of {}",
                incident.detector, incident.subject
            ),
            None,
        ),
    })
}

/// The rung from `place` on that something can be done on now, with what is done; `place` is moved there. `Err(None)`: every rung
/// was tried as often as it says.
fn rung_for<'a>(
    remedy: &'a Remedy,
    place: &mut Place,
    incident: &Incident,
    (world, book): (&World, &Book),
    now: Time,
) -> Result<(&'a Rung, &'static actions::Spec, Plan), Option<Found>> {
    let (from, mut passed_over) = ((place.rung, place.tries), None::<Found>);
    while let Some(rung) = remedy.rung(place.rung) {
        let tried_out = rung.attempts.is_some_and(|most| place.tries >= most);
        if !tried_out {
            match plan_of(rung, incident, (world, book), now)? {
                Ok((spec, plan)) => return Ok((rung, spec, plan)),
                // What time may change counts before what it does not: it must be asked again.
                Err(found)
                    if passed_over
                        .as_ref()
                        .is_none_or(|known| !known.is_asked_again()) =>
                {
                    passed_over = Some(found);
                }
                Err(_) => {}
            }
        }
        place.rung += 1;
        place.tries = 0;
    }
    if passed_over.is_some() {
        // Something above the last one tried cannot be done now: that is no ladder that was tried to its end.
        (place.rung, place.tries) = from;
    }
    Err(passed_over)
}

/// How much an act can destroy: what starts a service anew ends the one that runs, if one does.
pub(super) fn risk_of(spec: &actions::Spec, plan: &Plan, world: &World) -> Risk {
    let Plan::RestartService { service, .. } = plan else {
        return spec.risk;
    };
    let running = world
        .services
        .get(service)
        .is_some_and(|service| service.process.is_some());
    if running {
        Risk::Destructive
    } else {
        spec.risk
    }
}

/// What a rung would do, or why it is passed over; an error when that cannot be told, which passes nothing over.
fn plan_of(
    rung: &Rung,
    incident: &Incident,
    (world, book): (&World, &Book),
    now: Time,
) -> Result<Result<(&'static actions::Spec, Plan), Found>, Option<Found>> {
    let holds = match &rung.when {
        Some(when) => when.holds(incident, world, now).map_err(|why| {
            let why = format!("`when` of step {} cannot be told: {why}", rung.action);
            Some(refusal(CONDITION, why, Some(now.after(AGAIN))))
        })?,
        None => true,
    };
    if !holds {
        let why = format!("`when` of step {} does not hold", rung.action);
        return Ok(Err(refusal(CONDITION, why, Some(now.after(AGAIN)))));
    }
    let planned = actions::find(&rung.action)
        .ok_or_else(|| format!("no action {}", rung.action))
        .and_then(|spec| Ok((spec, (spec.plan)(incident, world, rung)?)));
    if let Ok((spec, plan)) = &planned
        && let Err(why) = in_force(book, incident, spec, plan)
    {
        return Ok(Err(refusal(PLAN, why, Some(now.after(AGAIN)))));
    }
    Ok(planned.map_err(|why| refusal(PLAN, why, None)))
}

impl Engine {
    /// Decides about an incident, as often as it is asked to: with nothing changed, nothing happens twice.
    pub(super) fn decide(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        self.decide_for(id, None, now, orders);
    }

    /// The same, on the word of a person who allows what is proposed.
    pub(super) fn decide_for(
        &mut self,
        id: IncidentId,
        by: Option<&str>,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let Some(incident) = self.book.get(id) else {
            return;
        };
        if incident.is_over() || self.acts.contains_key(&id) {
            return;
        }
        if let Some(gone) = self.no_longer_configured(&incident.subject) {
            return self.resolve(id, None, now, gone, orders);
        }
        // It is gone for now: what makes it come back asks again.
        if self.clearing.contains_key(&id) {
            return;
        }
        if by.is_none() && incident.proposed.as_ref().is_some_and(|it| now >= it.until) {
            return self.expire(id, now, orders);
        }
        if let Some(root) = self.root_of(incident, now) {
            return self.suppress(id, root, now, orders);
        }
        let symptom = detectors::is_symptom(&incident.detector);
        if let Some(until) = self.awaits_root(incident, symptom, now) {
            self.retries.insert(id, until);
            return;
        }
        if incident.state == State::Suppressed {
            self.release(id, now, orders);
        }
        self.pass_schedules(now);
        let (place, found) = self.consider(id, by, now);
        if let Some(place) = place {
            self.book.change(id, |incident| {
                incident.rule = Some(place.rule);
                incident.rung = place.rung;
                incident.tries = place.tries;
            });
        }
        match found {
            Found::Permitted(permitted) => self.permitted(id, *permitted, now, orders),
            Found::Refused(refusal) => self.refused(id, refusal, now, orders),
            Found::Ask(refusal, proposed) => self.propose(id, refusal, *proposed, now, orders),
        }
    }

    /// An incident that no detector could say of that it is over: whatever is done would never prove itself.
    fn unseen(&self, incident: &Incident) -> Option<Found> {
        let mut detectors = self.detectors.iter();
        if detectors.any(|(spec, _)| spec.name == incident.detector) {
            return None;
        }
        let why = format!(
            "detector {} is switched off: nobody could tell whether anything helped",
            incident.detector
        );
        Some(refusal(PLAN, why, None))
    }

    fn consider(&mut self, id: IncidentId, by: Option<&str>, now: Time) -> (Option<Place>, Found) {
        let Some(incident) = self.book.get(id) else {
            return (None, refusal(PLAN, "the incident is gone", None));
        };
        let found = rule_for(&self.rules, &self.world, incident, now);
        let remedy = match self.unseen(incident).map_or(found, Err) {
            Ok(remedy) => remedy,
            Err(found) => return (None, found),
        };
        let same = incident.rule.as_ref() == Some(&remedy.name);
        let mut place = Place {
            rule: remedy.name.clone(),
            rung: if same { incident.rung } else { 0 },
            tries: if same { incident.tries } else { 0 },
        };
        if !same {
            self.exhausted.remove(&id);
        }
        let until = incident.opened.after(remedy.hold);
        if now < until {
            let reason = format!("waits until it has been open for {:?}", remedy.hold);
            return (Some(place), refusal(HOLD, reason, Some(until)));
        }
        match self.exhausted.get(&id).copied() {
            Some(until) if now < until => {
                return (Some(place), refusal(LADDER, EXHAUSTED, Some(until)));
            }
            Some(_) => {
                self.exhausted.remove(&id);
                (place.rung, place.tries) = (0, 0);
            }
            None => {}
        }
        let known = (&self.world, &self.book);
        let (rung, spec, plan) = match rung_for(remedy, &mut place, incident, known, now) {
            Ok(found) => found,
            Err(Some(found)) => return (Some(place), found),
            Err(None) => {
                let until = now.after(self.policy.config().half_open_after.0);
                self.exhausted.insert(id, until);
                return (Some(place), refusal(LADDER, EXHAUSTED, Some(until)));
            }
        };
        let busy: Vec<(&Subject, IncidentId)> = self
            .acts
            .keys()
            .filter(|other| Some(**other) != incident.caused_by)
            .filter_map(|other| Some((&self.book.get(*other)?.subject, *other)))
            .collect();
        let probe = incident.evidence.probe;
        let lost = probe.and_then(|probe| self.lost.get(usize::from(probe.number())));
        let approved = by.zip(incident.proposed.as_ref());
        let proposal = Proposal {
            action: spec.name,
            risk: risk_of(spec, &plan, &self.world),
            plan: plan.clone(),
            incident,
            symptom: detectors::is_symptom(&incident.detector),
            remedy,
            rung,
            approved: approved.map(|(by, proposed)| Approved {
                by,
                plan: &proposed.plan,
            }),
            busy: &busy,
            lost: lost.copied().flatten(),
            world: &self.world,
            halted: self.halted.as_deref(),
        };
        let act = Act {
            attempts: rung.attempts,
            ..Act::of(
                spec.name,
                rung,
                (&remedy.name, plan),
                incident.severity,
                now,
            )
        };
        let found = match self.policy.decide(proposal, now) {
            Ok(permit) => Found::Permitted(Box::new((permit, act))),
            Err(Refusing {
                refusal,
                ask: Some(within),
            }) => {
                let proposed = Proposed {
                    action: act.action.to_owned(),
                    plan: act.plan,
                    reason: refusal.reason.clone(),
                    until: now.after(within),
                };
                Found::Ask(refusal, Box::new(proposed))
            }
            Err(Refusing { refusal, ask: None }) => Found::Refused(refusal),
        };
        (Some(place), found)
    }

    pub(super) fn permitted(
        &mut self,
        id: IncidentId,
        (permit, act): (Permit, Act),
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        self.under_way(&act.plan, true);
        self.retries.remove(&id);
        let by = permit.grounds().by.clone();
        self.book.change(id, |incident| {
            incident.state = State::Acting;
            incident.actions += 1;
            incident.outcome = None;
            incident.proposed = None;
            if let Some(by) = by {
                incident.step(now, StepKind::Approved, format!("{} by {by}", act.action));
            }
            let line = format!("{} (rule {})", act.action, act.rule);
            incident.step(now, StepKind::Decided, line);
        });
        self.acts.insert(id, act);
        self.changed = true;
        self.order(id, permit, orders);
    }

    /// Has a permit carried out. What was frozen is long to copy, and in the line about the incident.
    pub(super) fn order(&mut self, id: IncidentId, permit: Permit, orders: &mut Vec<Order>) {
        let incident = self.book.change(id, |incident| {
            let frozen = incident.evidence.frozen.take();
            let copy = Box::new(incident.clone());
            incident.evidence.frozen = frozen;
            copy
        });
        if let Some(incident) = incident {
            orders.push(Order::Execute { permit, incident });
        }
    }

    /// While a service is ended or started by us, its exit is no surprise.
    pub(super) fn under_way(&mut self, plan: &Plan, begins: bool) {
        if let Plan::RestartService { service, .. }
        | Plan::SwitchRelease { service, .. }
        | Plan::StopService { service, .. }
        | Plan::StartService { service, .. } = plan
        {
            self.change_service(service, |service| service.in_action = begins);
        }
    }

    pub(super) fn refused(
        &mut self,
        id: IncidentId,
        refusal: Refusal,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        match refusal.retry_at {
            // Not in this same moment, whatever a guard says: time must be able to pass.
            Some(retry) => self
                .retries
                .insert(id, retry.max(now.after(Duration::from_millis(1)))),
            None => self.retries.remove(&id),
        };
        let said = self.book.change(id, |incident| {
            let line = format!("{}: {}", refusal.guard, refusal.reason);
            let last = incident.steps.iter().rev().find(|step| {
                matches!(
                    step.what,
                    StepKind::Refused
                        | StepKind::Escalated
                        | StepKind::Decided
                        | StepKind::Released
                )
            });
            // The same guard again is not news, unless something else was done or held it back in between.
            let again = last.is_some_and(|step| {
                matches!(step.what, StepKind::Refused | StepKind::Escalated)
                    && step.detail.starts_with(&refusal.guard)
            });
            if again {
                return false;
            }
            if refusal.guard == guards::LIMIT || refusal.guard == LADDER {
                incident.state = State::Escalated;
                incident.step(now, StepKind::Escalated, line);
            } else {
                if refusal.guard == guards::DRY_RUN {
                    incident.outcome = Some(Outcome::WouldHave);
                }
                incident.step(now, StepKind::Refused, line);
            }
            true
        });
        if said == Some(true) {
            *self.counts.refusals.entry(refusal.guard).or_default() += 1;
            self.record(id, orders);
            self.ask_held(id, now);
        }
    }
}

/// Why a ladder that was tried to its end is not begun again at once.
const EXHAUSTED: &str = "every step was tried, and none helped: a person is needed";
