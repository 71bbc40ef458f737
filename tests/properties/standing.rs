//! What must hold of the incidents after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, IncidentId, Outcome, State, Time};

use super::keeper::{Keeper, must};

type Incidents = BTreeMap<IncidentId, Incident>;

/// What was seen of the incidents so far.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    over: BTreeSet<IncidentId>,
    mended: BTreeSet<IncidentId>,
}

impl Standing {
    pub(crate) fn check(
        &mut self,
        incidents: &Incidents,
        keeper: &mut Keeper,
        now: Time,
        wake: Option<Time>,
    ) -> Result<(), String> {
        let mut about = BTreeSet::new();
        for incident in incidents.values() {
            let id = incident.id;
            must!(
                incident.steps.len() <= Incident::STEPS,
                "a story of {id} without end"
            );
            let mended = incident.outcome == Some(Outcome::Fixed) && incident.is_over();
            if mended && self.mended.insert(id) {
                let acted = keeper.acted.get(&id);
                let proven =
                    acted.is_some_and(|acted| incident.closed.is_some_and(|at| at >= *acted));
                must!(
                    proven,
                    "{id} counts as fixed without an act before it was over"
                );
                keeper.mended(id, now);
            }
            if incident.is_over() {
                self.over.insert(id);
                continue;
            }
            must!(!self.over.contains(&id), "{id} came back");
            must!(
                about.insert((&incident.detector, &incident.subject)),
                "{id} is there twice"
            );
            let held = incident.state == State::Suppressed;
            must!(
                held == incident.suppressed_by.is_some(),
                "{id} is held back by nothing"
            );
            must!(
                !ends_in_a_circle(incidents, incident),
                "{id} holds itself back"
            );
            if wake.is_none() {
                must!(is_said(incident), "{id} is forgotten: {incident:#?}");
            }
        }
        Ok(())
    }

    /// After time has passed: what holds others back is open, or was until a short time ago.
    pub(crate) fn roots(incidents: &Incidents, now: Time, settle: Duration) -> Result<(), String> {
        for incident in incidents
            .values()
            .filter(|incident| incident.state == State::Suppressed)
        {
            let root = incident.suppressed_by.and_then(|root| incidents.get(&root));
            let root = root.ok_or("what holds back is not known")?;
            let over = root.closed.filter(|_| root.is_over());
            // And the time in which another root may still be told of.
            let due = over.map(|closed| closed.after(settle + Duration::from_secs(2)));
            must!(
                due.is_none_or(|due| now < due),
                "{} is still held back by {}",
                incident.id,
                root.id
            );
        }
        Ok(())
    }
}

fn ends_in_a_circle(incidents: &Incidents, from: &Incident) -> bool {
    let mut at = from;
    for _ in 0..=incidents.len() {
        let next = at.suppressed_by.filter(|_| at.state == State::Suppressed);
        match next.and_then(|next| incidents.get(&next)) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}

/// Whether its story says why nothing more will be done by itself.
fn is_said(incident: &Incident) -> bool {
    let waits = matches!(
        incident.state,
        State::Suppressed | State::Escalated | State::Acting
    );
    let decided = incident.steps.iter().rev().find(|step| {
        matches!(
            step.what,
            StepKind::Refused | StepKind::Escalated | StepKind::Decided | StepKind::Rejected
        )
    });
    waits || decided.is_some_and(|step| step.what != StepKind::Decided)
}
