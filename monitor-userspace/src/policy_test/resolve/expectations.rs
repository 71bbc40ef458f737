//! What a step expects, as it is meant.

use super::steps::Reader;
use crate::model::{Outcome, ServiceState, State};
use crate::policy_test::step::{Expect, On};

impl Reader<'_> {
    pub(super) fn expect(&mut self) -> Option<Expect> {
        let step = self.step;
        let detector = self.detector(step.detector.as_ref())?;
        let action = self.action()?;
        match step.expect.as_ref()?.get_ref().as_str() {
            "act" => Some(Expect::Act {
                on: self.maybe_on()?,
                action,
                rule: self.rule()?,
                detector,
                undo: step.undo.as_ref().is_some_and(|undo| *undo.get_ref()),
            }),
            "refused" => Some(Expect::Refused {
                on: self.on(step.on.as_ref())??,
                guard: self.guard()?,
                detector,
            }),
            "proposed" => Some(Expect::Proposed {
                on: self.on(step.on.as_ref())??,
                action,
                detector,
            }),
            "none" => Some(Expect::Nothing {
                on: self.maybe_on()?,
            }),
            _ => self.state(detector),
        }
    }

    pub(super) fn state(&mut self, detector: Option<String>) -> Option<Expect> {
        let step = self.step;
        let on = self.on(step.on.as_ref())??;
        let incidents = State::ALL.iter().map(|state| (state.name(), *state));
        if let (Some(name), On::Service(service)) = (&step.state, &on) {
            let mut states = ServiceState::ALL.iter();
            let is = |state: &&ServiceState| state.name().eq_ignore_ascii_case(name.get_ref());
            if let Some(state) = states.find(is) {
                let service = service.clone();
                return Some(Expect::Service {
                    service,
                    state: *state,
                });
            }
        }
        let state = match &step.state {
            Some(name) => Some(self.mistakes.one_of("state", name, incidents)?),
            None => None,
        };
        let outcome = match &step.outcome {
            Some(name) => {
                let known = Outcome::ALL
                    .iter()
                    .map(|outcome| (outcome.name(), *outcome));
                Some(self.mistakes.one_of("outcome", name, known)?)
            }
            None => None,
        };
        if state.is_none() && outcome.is_none() && step.severity.is_none() {
            let message = "nothing is expected of the incident".to_owned();
            let help = Some("say which `state`, `outcome` or `severity`".to_owned());
            self.mistakes.add(self.span.clone(), message, help);
            return None;
        }
        Some(Expect::Incident {
            on,
            detector,
            state,
            outcome,
            severity: step.severity.as_ref().map(|severity| *severity.get_ref()),
        })
    }
}
