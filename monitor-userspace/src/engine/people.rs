//! What people say: a proposal is allowed, forbidden or left unanswered; a silence begins or ends; somebody has seen it.

use super::manual::Wish;
use super::{Engine, Order};
use crate::model::incident::StepKind;
use crate::model::{Incident, IncidentId, Proposed, Refusal, Request, Silence, State, Time};

impl Engine {
    /// Takes what a person asks for. Whether it was done shows in the incident, and in the silences.
    pub(super) fn person(
        &mut self,
        by: &str,
        request: &Request,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        self.changed = true;
        match request {
            Request::Approve { incident } => {
                let proposed = self.book.get(*incident).and_then(|it| it.proposed.as_ref());
                if proposed.is_some_and(|proposed| now < proposed.until) {
                    self.decide_for(*incident, Some(by), now, orders);
                    // Refused all the same: what would be done by now may be another thing, and is proposed anew.
                    if !self.acts.contains_key(incident) {
                        self.retries.entry(*incident).or_insert(now);
                    }
                }
            }
            Request::Reject { incident } => {
                let line = format!("rejected by {by}");
                self.withdraw(*incident, &line, now, orders);
            }
            Request::Acknowledge { incident } => {
                let open = self.book.get(*incident).is_some_and(|it| !it.is_over());
                if open {
                    self.book.change(*incident, |incident| {
                        incident.acknowledged_by = Some(by.to_owned());
                        incident.step(now, StepKind::Acknowledged, format!("by {by}"));
                    });
                    self.record(*incident, orders);
                }
            }
            Request::Act {
                action,
                subject,
                rule,
                dry_run,
            } => {
                let wish = Wish {
                    by,
                    action,
                    subject,
                    rule: rule.as_deref(),
                    dry_run: *dry_run,
                };
                self.wish(&wish, now, orders);
            }
            Request::Repair {
                service,
                step,
                dry_run,
            } => {
                let what = (service.as_str(), step.as_deref());
                self.asked_to_repair(by, what, *dry_run, now, orders);
            }
            Request::RestorePoint { service, dry_run } => {
                self.restore_point(by, service, *dry_run, now, orders);
            }
            Request::Watch { service, dry_run } => {
                self.watched_closely(by, service, *dry_run, now, orders);
            }
            Request::Undo { incident } => self.asked_to_undo(*incident, by, now, orders),
            Request::Silence { silence } => {
                self.policy.schedules_mut().add(silence.clone());
                self.said_anew = true;
                self.look_again(now);
            }
            Request::Unsilence { id } => {
                if self.policy.schedules_mut().remove(*id) {
                    self.ask_all_again(now);
                }
            }
        }
    }

    /// Silences from the journal, at start.
    pub fn silences(&mut self, silences: Vec<Silence>) {
        for silence in silences {
            self.policy.schedules_mut().add(silence);
        }
        self.changed = true;
    }

    /// Those in force.
    pub fn silences_in_force(&self) -> &[Silence] {
        self.policy.schedules().silences()
    }

    /// Incidents about which something was done that is still in force.
    pub fn held(&self) -> impl Iterator<Item = Incident> {
        self.book.held().cloned()
    }

    /// What was refused may be allowed by now.
    pub(super) fn ask_all_again(&mut self, now: Time) {
        // What follows from a failure that is over keeps the time that it has to recover by itself.
        let settling = |incident: &&Incident| {
            incident.state == State::Suppressed && self.retries.contains_key(&incident.id)
        };
        let open = self.book.open().filter(|incident| !settling(incident));
        for id in open.map(|incident| incident.id).collect::<Vec<_>>() {
            let at = self.retries.entry(id).or_insert(now);
            *at = now.min(*at);
        }
    }

    /// Asks people, once for each plan.
    pub(super) fn propose(
        &mut self,
        id: IncidentId,
        refusal: Refusal,
        proposed: Proposed,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let rejected = self.book.get(id).and_then(|it| it.rejected.as_deref());
        if rejected == Some(&proposed.plan) {
            // A person has said no to exactly this, or nothing: asking again changes nothing.
            self.retries.remove(&id);
            self.book
                .change(id, |incident| incident.state = State::Escalated);
            return;
        }
        let known = self.book.get(id).and_then(|it| it.proposed.as_deref());
        if let Some(known) = known.filter(|known| known.plan == proposed.plan) {
            let until = known.until;
            self.retries.insert(id, until);
            return;
        }
        self.retries.insert(id, proposed.until);
        self.book.change(id, |incident| {
            incident.state = State::Open;
            let line = format!(
                "{}: {}; within {:?}: smart-monitor approve {id}",
                refusal.guard,
                proposed.reason,
                proposed.until.since(now)
            );
            incident.step(now, StepKind::Proposed, line);
            incident.proposed = Some(Box::new(proposed));
        });
        *self.counts.refusals.entry(refusal.guard).or_default() += 1;
        self.record(id, orders);
    }

    /// Nobody has said anything in time.
    pub(super) fn expire(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        self.withdraw(id, "nobody answered in time", now, orders);
    }

    /// What was proposed is not to be done: the incident is a person's from here on.
    fn withdraw(&mut self, id: IncidentId, line: &str, now: Time, orders: &mut Vec<Order>) {
        let withdrawn = self.book.change(id, |incident| {
            let Some(proposed) = incident.proposed.take() else {
                return false;
            };
            let line = format!("{} is not done: {line}", proposed.action);
            incident.rejected = Some(Box::new(proposed.plan));
            incident.step(now, StepKind::Rejected, line.as_str());
            incident.state = State::Escalated;
            incident.step(now, StepKind::Escalated, line);
            true
        });
        if withdrawn == Some(true) {
            self.retries.remove(&id);
            self.record(id, orders);
            self.ask_held(id, now);
        }
    }
}
