//! What a person asks to be done. It goes the way of every act: a rule must allow it, guards are asked, a permit is made, the journal has
//! its intent. What differs: the person's word is the detector's, and what is read back from the host is the proof.

use super::{Act, Engine, Order};
use crate::actions;
use crate::detectors::MANUAL;
use crate::model::incident::StepKind;
use crate::model::{
    Category, Effect, EffectResult, Evidence, Incident, IncidentId, Outcome, Proposed, Refusal,
    Severity, State, Subject, Time,
};
use crate::policy::{Approved, Proposal, Remedy, Rung};

/// What a person asks for.
pub(super) struct Wish<'a> {
    pub(super) by: &'a str,
    pub(super) action: &'a str,
    pub(super) subject: &'a Subject,
    pub(super) rule: Option<&'a str>,
    pub(super) dry_run: bool,
}

impl Engine {
    /// Takes a wish: it becomes an incident of its own, whose story says what came of it.
    pub(super) fn wish(&mut self, wish: &Wish<'_>, now: Time, orders: &mut Vec<Order>) {
        let asked = (wish.by, wish.action);
        let Some(id) = self.asked_for(asked, wish.subject.clone(), now) else {
            return;
        };
        if let Err(refusal) = self.grant(id, wish, now, orders) {
            self.not_granted(id, refusal, now, orders);
        }
    }

    /// The incident of what a person asked for; none when there is no room for one more.
    pub(super) fn asked_for(
        &mut self,
        (by, what): (&str, &str),
        mut subject: Subject,
        now: Time,
    ) -> Option<IncidentId> {
        if let Subject::Process {
            process,
            comm,
            group,
        } = &mut subject
        {
            *group = self.world.groups.get(comm).cloned();
            // The process of a service goes by its name.
            if let Some(service) = self.world.service_of(*process) {
                subject = Subject::service(&service.name);
            }
        }
        if !self.book.has_room(&subject) {
            self.counts.forgotten += 1;
            return None;
        }
        let id = self.book.number();
        let mut evidence = Evidence::at(now)
            .fact("asked for by", by)
            .fact("action", what);
        if let Subject::Process { process, comm, .. } = &subject {
            evidence = evidence.about(*process, comm);
        }
        let mut incident = Incident::new(id, MANUAL, subject, Severity::Warning, evidence, now);
        incident.category = match &incident.subject {
            Subject::Network { .. } => Category::Network,
            Subject::Folder { .. } => Category::Data,
            Subject::Process { .. } => Category::System,
            _ => Category::Service,
        };
        let line = format!("{what} asked for by {by}");
        incident.step(now, StepKind::Detected, line);
        incident.evidence.frozen = Some(Box::new(self.freeze(&incident)));
        self.count_opened(&incident, now);
        self.show_again(&incident.subject);
        self.counts.forgotten += self.book.insert(incident);
        self.changed = true;
        Some(id)
    }

    fn grant(
        &mut self,
        id: IncidentId,
        wish: &Wish<'_>,
        now: Time,
        orders: &mut Vec<Order>,
    ) -> Result<(), Refusal> {
        let refusal = |guard: &str, reason: String| Refusal {
            guard: guard.to_owned(),
            reason,
            retry_at: None,
        };
        let gone = || refusal(super::decide::PLAN, "the incident is gone".to_owned());
        let incident = self.book.get(id).ok_or_else(gone)?;
        let (remedy, rung) = allowed_by(self.rules.all(), incident, wish)
            .map_err(|why| refusal(super::decide::CONSENT, why))?;
        let spec = actions::find(wish.action)
            .ok_or_else(|| refusal(super::decide::PLAN, format!("no action {}", wish.action)))?;
        let plan = (spec.plan)(incident, &self.world, rung)
            .map_err(|why| refusal(super::decide::PLAN, why))?;
        super::held::in_force(&self.book, incident, spec, &plan)
            .map_err(|why| refusal(super::decide::PLAN, why))?;
        let wanted = plan.clone();
        // Whatever comes of it: who asked sees what exactly it is about.
        let proposed = Proposed {
            action: spec.name.to_owned(),
            plan: plan.clone(),
            reason: format!("{} asked for it", wish.by),
            until: now,
        };
        self.book.change(id, |incident| {
            incident.rule = Some(remedy.name.clone());
            incident.proposed = Some(Box::new(proposed.clone()));
        });
        let incident = self.book.get(id).ok_or_else(gone)?;
        let busy: Vec<(&Subject, IncidentId)> = self
            .acts
            .keys()
            .filter_map(|other| Some((&self.book.get(*other)?.subject, *other)))
            .collect();
        let proposal = Proposal {
            action: spec.name,
            risk: super::decide::risk_of(spec, &plan, &self.world),
            plan,
            incident,
            symptom: false,
            remedy,
            rung,
            approved: Some(Approved {
                by: wish.by,
                plan: &wanted,
            }),
            busy: &busy,
            lost: None,
            world: &self.world,
            halted: self.halted.as_deref(),
        };
        if wish.dry_run {
            let would = self.policy.would(&proposal, now);
            would.map_err(|refusing| refusing.refusal)?;
            let line = format!(
                "would have done {}: no guard stands in the way; what the host itself refuses shows when it is done",
                spec.name
            );
            self.end_wish(id, Outcome::WouldHave, &line, now, orders);
            return Ok(());
        }
        let allowed = (remedy.name.as_str(), wanted.clone());
        let act = Act::of(spec.name, rung, allowed, incident.severity, now);
        let permit = self
            .policy
            .decide_for_person(proposal, now)
            .map_err(|refusing| refusing.refusal)?;
        self.permitted(id, (permit, act), now, orders);
        self.book
            .change(id, |incident| incident.proposed = Some(Box::new(proposed)));
        Ok(())
    }

    pub(super) fn not_granted(
        &mut self,
        id: IncidentId,
        refusal: Refusal,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let line = format!("{}: {}", refusal.guard, refusal.reason);
        let dry_run = refusal.guard == crate::policy::guards::DRY_RUN;
        self.book
            .change(id, |incident| incident.step(now, StepKind::Refused, line));
        *self.counts.refusals.entry(refusal.guard).or_default() += 1;
        let outcome = if dry_run {
            Outcome::WouldHave
        } else {
            Outcome::Refused
        };
        self.end_wish(id, outcome, "nothing was done", now, orders);
    }

    /// What was asked for was done, or could not be: there is no detector to wait for.
    pub(super) fn wish_done(
        &mut self,
        id: IncidentId,
        effect: &Effect,
        now: Time,
        orders: &mut Vec<Order>,
    ) -> Outcome {
        let (outcome, line) = match &effect.result {
            EffectResult::Done { detail } => (
                Outcome::Fixed,
                effect.verified.clone().unwrap_or_else(|| detail.clone()),
            ),
            EffectResult::Failed { reason } => (Outcome::Failed, reason.clone()),
            EffectResult::Refused { reason } => (Outcome::Refused, reason.clone()),
        };
        self.end_wish(id, outcome, &line, now, orders);
        outcome
    }

    pub(super) fn end_wish(
        &mut self,
        id: IncidentId,
        outcome: Outcome,
        line: &str,
        now: Time,
        orders: &mut Vec<Order>,
    ) {
        let what = match outcome {
            Outcome::Fixed => StepKind::Recovered,
            Outcome::WouldHave => StepKind::Proposed,
            _ => StepKind::Failed,
        };
        self.retries.remove(&id);
        let subject = self.book.get(id).map(|incident| incident.subject.clone());
        self.book.change(id, |incident| {
            incident.state = State::Resolved;
            incident.closed = Some(now);
            incident.outcome = Some(outcome);
            // A refusal has its own line already.
            if outcome != Outcome::Refused || incident.actions > 0 {
                incident.step(now, what, line);
            }
        });
        if let Some(subject) = subject {
            self.show_again(&subject);
        }
        self.record(id, orders);
    }
}

/// The rule and the rung on whose word a person may have this done: of those for people alone first, then of all.
fn allowed_by<'a>(
    rules: &'a [Remedy],
    incident: &Incident,
    wish: &Wish<'_>,
) -> Result<(&'a Remedy, &'a Rung), String> {
    let name = incident.subject.configured_name();
    let named = |remedy: &&Remedy| {
        let on = name.is_some_and(|name| remedy.on.iter().any(|on| on == "*" || on == name));
        on && wish.rule.is_none_or(|rule| remedy.name == rule)
    };
    let step = |remedy: &'a Remedy| {
        let rung = remedy.steps.iter().find(|rung| rung.action == wish.action);
        rung.map(|rung| (remedy, rung))
    };
    let all = || rules.iter().filter(named).filter_map(step);
    let found = all()
        .find(|(remedy, _)| remedy.detector == MANUAL)
        .or_else(|| all().next());
    found.ok_or_else(|| {
        if let Some(rule) = wish.rule.filter(|rule| rules.iter().all(|it| it.name != **rule)) {
            return format!("there is no rule {rule}");
        }
        let of = match wish.rule {
            Some(rule) => format!("rule {rule}"),
            None => "a [[remedy]]".to_owned(),
        };
        format!(
            "no step of {of} allows {} on {}: the configuration must name both (`detector = \"{MANUAL}\"` for what only people may ask for)",
            wish.action, incident.subject
        )
    })
}

/// Whether an incident is what a person asked for.
pub(super) fn is_wish(incident: &Incident) -> bool {
    incident.detector == MANUAL
}
