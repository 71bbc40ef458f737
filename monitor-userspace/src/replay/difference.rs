//! Which decisions are news, and which of two runs differ.

use std::collections::BTreeMap;

use super::ledger::Key;
use super::{Decision, Side};
use crate::model::incident::StepKind;
use crate::model::{IncidentId, Outcome, State};

/// What two decisions must have in common to be the same: not their words, which tell of thresholds, nor numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gist {
    key: Key,
    /// The action, and whether it was done.
    act: Option<(&'static str, bool)>,
    state: State,
    outcome: Option<Outcome>,
    step: Option<StepKind>,
    guard: Option<String>,
}

impl Gist {
    fn of(decision: &Decision) -> Self {
        let incident = &decision.incident;
        let step = incident.steps.last();
        Self {
            key: Key::new(&incident.detector, &incident.subject),
            act: decision
                .act
                .as_ref()
                .map(|act| (act.action, act.recorded.is_some())),
            state: incident.state,
            outcome: incident.outcome,
            step: step.map(|step| step.what),
            guard: decision.guard().map(str::to_owned),
        }
    }
}

impl Decision {
    /// The guard that refused, if this is a refusal.
    pub fn guard(&self) -> Option<&str> {
        let step = self.incident.steps.last().filter(|step| {
            self.act.is_none() && matches!(step.what, StepKind::Refused | StepKind::Escalated)
        })?;
        step.detail.split_once(": ").map(|(guard, _)| guard)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Differences {
    /// What was last said of incidents that are not over.
    said: BTreeMap<(Side, IncidentId), Gist>,
}

impl Differences {
    /// Leaves out what says nothing that was not said before.
    pub fn news(&mut self, decided: Vec<Decision>) -> Vec<Decision> {
        let mut news = decided;
        news.retain(|decision| {
            let (place, gist) = ((decision.side, decision.incident.id), Gist::of(decision));
            if decision.incident.is_over() {
                self.said.remove(&place);
                return true;
            }
            let before = self.said.insert(place, gist.clone());
            before != Some(gist)
        });
        news
    }

    /// Of what two runs decided at one signal, that which only one of them did; that of the first run first.
    pub fn between(&mut self, decided: Vec<Decision>) -> Vec<Decision> {
        let news = self.news(decided);
        let (mut was, new): (Vec<_>, Vec<_>) = news
            .into_iter()
            .map(|decision| (Gist::of(&decision), decision))
            .partition(|(_, decision)| decision.side == Side::Was);
        let mut only_new = Vec::new();
        for (gist, decision) in new {
            match was.iter().position(|(other, _)| *other == gist) {
                Some(at) => drop(was.remove(at)),
                None => only_new.push(decision),
            }
        }
        let mut only: Vec<Decision> = was.into_iter().map(|(_, decision)| decision).collect();
        only.extend(only_new);
        only
    }
}
