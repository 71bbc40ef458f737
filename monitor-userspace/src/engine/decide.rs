//! From a finding to an order, and from an effect to an outcome: the life of an incident.

use std::time::Duration;

use super::{Act, Engine, Order};
use crate::model::incident::StepKind;
use crate::model::{
    Effect, EffectResult, Evidence, Finding, Incident, IncidentId, Outcome, Plan, Refusal,
    Severity, State, Subject, Time,
};
use crate::policy::{self, Proposal, guards};
use crate::{actions, detectors, verify};

/// The guard that stands for a missing `[[remedy]]`.
pub(super) const CONSENT: &str = "consent";
/// The guard that stands for an action that cannot do anything about this incident.
pub(super) const PLAN: &str = "plan";
/// The step of an incident whose process a guard in the kernel killed.
const KILLED_IN_KERNEL: &str = "SIGKILL sent in the kernel";

impl Engine {
    pub(super) fn handle(
        &mut self,
        found: &mut Vec<(&'static str, Finding)>,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        for (detector, finding) in found.drain(..) {
            match finding {
                Finding::Raised {
                    subject,
                    severity,
                    evidence,
                } => {
                    self.raised(detector, subject, severity, evidence, now, orders);
                }
                Finding::Cleared {
                    subject,
                    seen,
                    because,
                } => {
                    self.cleared(detector, &subject, seen, because, now, orders);
                }
            }
        }
    }

    fn raised(
        &mut self,
        detector: &str,
        subject: Subject,
        severity: Severity,
        evidence: Evidence,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        if let Some(id) = self.book.find(detector, &subject) {
            if let Some(act) = self.acts.get_mut(&id) {
                act.cleared = None;
                // After the act, that ends the wait for its proof.
                act.raised = Some(evidence.seen);
            }
            let worse = self.book.change(id, |incident| {
                let worse = severity > incident.severity;
                let killed = evidence.killed_in_kernel && !incident.evidence.killed_in_kernel;
                if killed {
                    incident.step(evidence.seen, StepKind::Acted, KILLED_IN_KERNEL);
                }
                if worse || killed {
                    incident.severity = severity.max(incident.severity);
                    incident.evidence = evidence;
                }
                worse
            });
            self.judge(id, now, orders);
            if worse == Some(true) {
                self.decide(id, now, orders);
            }
            return;
        }
        let id = self.book.number();
        let caused_by = self.cause(&evidence);
        let mut incident = Incident::new(id, detector, subject, severity, evidence, now);
        incident.caused_by = caused_by;
        incident.category = detectors::category(detector);
        let source = incident
            .evidence
            .probe
            .map_or("sample or check", monitor_common::Kind::name);
        incident.step(incident.evidence.seen, StepKind::Seen, source);
        incident.step(now, StepKind::Detected, detector);
        if incident.evidence.killed_in_kernel {
            let seen = incident.evidence.seen;
            incident.step(seen, StepKind::Acted, KILLED_IN_KERNEL);
        }
        self.count_opened(&incident, now);
        self.counts.forgotten += self.book.insert(incident);
        self.changed = true;
        self.decide(id, now, orders);
    }

    /// The incident whose action, or whose guard in the kernel, ended the process that this evidence is about.
    fn cause(&self, evidence: &Evidence) -> Option<IncidentId> {
        let ended = evidence.process?;
        let cause = self.acts.iter().find(
            |(_, act)| matches!(&act.plan, Plan::KillProcess { process, .. } if *process == ended),
        );
        let guarded = || {
            self.book.open().find(|incident| {
                incident.evidence.killed_in_kernel && incident.evidence.process == Some(ended)
            })
        };
        cause
            .map(|(id, _)| *id)
            .or_else(|| guarded().map(|incident| incident.id))
    }

    pub(super) fn decide(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        let Some(incident) = self.book.get(id) else {
            return;
        };
        if incident.is_over() || self.acts.contains_key(&id) {
            return;
        }
        if let Subject::Service { name } = &incident.subject
            && !self.world.services.contains_key(name)
        {
            return self.resolve(id, None, now, "the service is no longer configured", orders);
        }
        let Some(remedy) = self
            .settings
            .remedies
            .iter()
            .find(|remedy| remedy.covers(incident))
        else {
            let reason = format!(
                "no [[remedy]] covers {} of {}",
                incident.detector, incident.subject
            );
            let refusal = Refusal {
                guard: CONSENT.to_owned(),
                reason,
                retry_at: None,
            };
            return self.refused(id, refusal, now, orders);
        };
        let planned = actions::find(&remedy.action)
            .ok_or_else(|| format!("no action {}", remedy.action))
            .and_then(|spec| Ok((spec, (spec.plan)(incident, &self.world, remedy)?)));
        let (spec, plan) = match planned {
            Ok(planned) => planned,
            Err(reason) => {
                let refusal = Refusal {
                    guard: PLAN.to_owned(),
                    reason,
                    retry_at: None,
                };
                return self.refused(id, refusal, now, orders);
            }
        };
        let busy: Vec<(String, IncidentId)> = self
            .acts
            .keys()
            .filter(|other| Some(**other) != incident.caused_by)
            .filter_map(|other| Some((self.book.get(*other)?.subject.to_string(), *other)))
            .collect();
        let probe = incident
            .evidence
            .probe
            .map(|probe| usize::from(probe.number()));
        let proposal = Proposal {
            action: spec.name,
            risk: spec.risk,
            plan: plan.clone(),
            incident,
            busy: &busy,
            lost: probe.and_then(|probe| self.lost.get(probe).copied().flatten()),
            world: &self.world,
            halted: self.halted.as_deref(),
        };
        match self.policy.decide(proposal, now) {
            Err(refusal) => self.refused(id, refusal, now, orders),
            Ok(permit) => {
                let act = Act {
                    action: spec.name,
                    plan,
                    within: remedy.verify_within,
                    severity: incident.severity,
                    effect: None,
                    cleared: None,
                    raised: None,
                };
                self.permitted(id, act, now);
                if let Some(incident) = self.book.get(id) {
                    orders.push(Order::Execute {
                        permit,
                        incident: Box::new(incident.clone()),
                    });
                }
            }
        }
    }

    fn permitted(&mut self, id: IncidentId, act: Act, now: Time) {
        if let Plan::RestartService { service, .. } = &act.plan
            && let Some(service) = self.world.services.get_mut(service)
        {
            service.in_action = true;
        }
        self.book.change(id, |incident| {
            incident.state = State::Acting;
            incident.actions += 1;
            incident.step(now, StepKind::Decided, act.action);
        });
        self.acts.insert(id, act);
        self.changed = true;
    }

    fn refused(&mut self, id: IncidentId, refusal: Refusal, now: Time, orders: &mut Vec<Order>) {
        if let Some(retry) = refusal.retry_at {
            self.retries.insert(id, retry);
        }
        let said = self.book.change(id, |incident| {
            let line = format!("{}: {}", refusal.guard, refusal.reason);
            let last = incident.steps.iter().rev().find(|step| {
                matches!(
                    step.what,
                    StepKind::Refused | StepKind::Escalated | StepKind::Decided
                )
            });
            // The same guard again is not news.
            let again = last.is_some_and(|step| {
                step.what != StepKind::Decided && step.detail.starts_with(&refusal.guard)
            });
            if again {
                return false;
            }
            if refusal.guard == guards::LIMIT {
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
        }
    }

    pub(super) fn take_effect(&mut self, effect: &Effect, now: Time, orders: &mut Vec<Order>) {
        let id = effect.incident;
        let Some(act) = self.acts.get_mut(&id) else {
            return;
        };
        act.effect = Some(effect.clone());
        let action = act.action;
        if let Plan::RestartService { service, .. } = &act.plan
            && let Some(service) = self.world.services.get_mut(service)
        {
            service.in_action = false;
        }
        let seen = self.book.change(id, |incident| {
            match &effect.result {
                EffectResult::Done { detail } => {
                    incident.state = State::Verifying;
                    let acted = effect.acted.unwrap_or(effect.finished);
                    incident.step(acted, StepKind::Acted, detail.as_str());
                }
                EffectResult::Failed { reason } | EffectResult::Refused { reason } => {
                    incident.step(effect.finished, StepKind::Failed, reason.as_str());
                }
            }
            incident.evidence.seen
        });
        if let (Some(seen), Some(acted)) = (seen, effect.acted) {
            self.count_acted(action, seen, acted);
        }
        self.changed = true;
        self.judge(id, now, orders);
    }

    fn cleared(
        &mut self,
        detector: &str,
        subject: &Subject,
        seen: Time,
        because: String,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let Some(id) = self.book.find(detector, subject) else {
            return;
        };
        if let Some(act) = self.acts.get_mut(&id) {
            act.cleared = Some((seen, because));
            self.judge(id, now, orders);
        } else {
            self.resolve(id, None, seen, &because, orders);
        }
    }

    /// Asks whether an action has proven itself, and draws the consequence.
    pub(super) fn judge(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        let Some(act) = self.acts.get(&id) else {
            return;
        };
        let (Some(effect), Some(incident)) = (&act.effect, self.book.get(id)) else {
            return;
        };
        let known = verify::Known {
            effect,
            within: act.within,
            cleared: act.cleared.as_ref().map(|(seen, _)| *seen),
            again: act.again(),
            severity: (act.severity, incident.severity),
        };
        let outcome = verify::judge(known, now);
        let Some(act) = outcome
            .or(act.cleared.as_ref().map(|_| Outcome::NoEffect))
            .and_then(|_| self.acts.remove(&id))
        else {
            return;
        };
        // Gone before anything was done: not our merit.
        let outcome = outcome.unwrap_or(Outcome::NoEffect);
        self.count_outcome(act.action, outcome);
        if let Some((seen, because)) = act.cleared {
            if outcome == Outcome::Fixed
                && let Some(incident) = self.book.get(id)
            {
                self.policy
                    .remember_fixed(&policy::target(act.action, incident), now);
            }
            return self.resolve(id, Some(outcome), seen, &because, orders);
        }
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
        });
        self.record(id, orders);
        // Guards say when: a cooldown, a limit. Not in this same moment, whatever they say.
        let soon = now.after(Duration::from_millis(10));
        self.retries.insert(id, soon);
    }

    fn resolve(
        &mut self,
        id: IncidentId,
        outcome: Option<Outcome>,
        seen: Time,
        because: &str,
        orders: &mut Vec<Order>,
    ) {
        self.retries.remove(&id);
        let ended = self.book.change(id, |incident| {
            incident.state = State::Resolved;
            incident.closed = Some(seen);
            incident.outcome = outcome.or(incident.outcome);
            incident.step(seen, StepKind::Recovered, because);
            (incident.detector.clone(), incident.evidence.seen)
        });
        if let Some((detector, began)) = ended {
            self.count_recovered(&detector, began, seen);
        }
        self.changed = true;
        self.record(id, orders);
    }

    fn record(&mut self, id: IncidentId, orders: &mut Vec<Order>) {
        self.changed = true;
        if let Some(incident) = self.book.get(id) {
            orders.push(Order::Record(Box::new(incident.clone())));
        }
    }
}
