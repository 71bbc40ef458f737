//! Acts that are under way: whether they are still wanted, and whether they come back.

use super::manual::is_wish;
use super::{Engine, Order};
use crate::model::incident::StepKind;
use crate::model::{IncidentId, State, Time};

impl Engine {
    /// What people or the configuration say has changed: is what is under way still wanted?
    pub(super) fn look_again(&mut self, now: Time) {
        if !std::mem::take(&mut self.said_anew) {
            return;
        }
        let unwanted = self.acts.iter().filter_map(|(id, act)| {
            let incident = self.book.get(*id)?;
            if is_wish(incident) {
                return None;
            }
            let remedy = self.rules.all().iter().find(|it| it.name == act.rule);
            let why = self.policy.no_longer(incident, remedy, &self.world, now)?;
            Some((*id, why))
        });
        for (id, why) in unwanted.collect::<Vec<_>>() {
            self.call_off(id, &why);
        }
    }

    /// An act is not to go on, if it still can be stopped: one that waits out the grace after SIGTERM can be.
    pub(super) fn call_off(&mut self, id: IncidentId, why: &str) {
        let Some(act) = self.acts.get_mut(&id) else {
            return;
        };
        if act.effect.is_none() && !act.undo && !act.called_off {
            act.called_off = true;
            self.called_off.push((id, why.to_owned()));
        }
    }

    /// Acts that are not to go on, since this was last asked, and why.
    pub fn take_called_off(&mut self) -> Vec<(IncidentId, String)> {
        std::mem::take(&mut self.called_off)
    }

    /// An action that does not come back stays under way, since nobody knows what it has done; a person is told.
    pub(super) fn notice_hanging(&mut self, id: IncidentId, now: Time, orders: &mut Vec<Order>) {
        let Some(act) = self.acts.get_mut(&id) else {
            return;
        };
        if act.effect.is_some() || act.hangs || now < act.granted.after(act.patience()) {
            return;
        }
        act.hangs = true;
        let line = format!(
            "{} has not come back after {:?}: nothing more is done to its target until it does",
            act.action,
            now.since(act.granted)
        );
        self.book.change(id, |incident| {
            // What is over stays so when the undo of what was done about it hangs.
            if !incident.is_over() {
                incident.state = State::Escalated;
            }
            incident.step(now, StepKind::Escalated, line);
        });
        self.record(id, orders);
        self.ask_held(id, now);
    }
}
