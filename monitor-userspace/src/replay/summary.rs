//! What two runs did, counted: acts that stay, that go, and that would come.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Decision, Side};
use crate::model::{IncidentId, Outcome};

/// Most acts of which it is remembered what became of them.
const MOST: usize = 65_536;

/// Acts of one kind on one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Acts {
    /// As it was configured.
    pub was: u64,
    /// As it would be, with those of which nobody knows what would have become.
    pub new: u64,
    /// Of the former, those that would be done all the same.
    pub kept: u64,
    /// Those that would not be done any more.
    pub gone: u64,
    /// Of these, those that had fixed what they were for.
    pub gone_fixed: u64,
    /// Those that would be done and were not, by either configuration.
    pub would_have: u64,
}

#[derive(Debug)]
struct Done {
    action: &'static str,
    subject: String,
    own: IncidentId,
    recorded: Option<IncidentId>,
    kept: bool,
    outcome: Option<Outcome>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Summary {
    was: Vec<Done>,
    new: BTreeMap<(&'static str, String), (u64, u64)>,
}

impl Summary {
    /// Counts one decision, of those of a run all.
    pub fn add(&mut self, decision: &Decision) {
        let incident = &decision.incident;
        let Some(act) = &decision.act else {
            let mut acts = self.was.iter_mut().rev();
            if let Some(done) = acts.find(|done| done.own == incident.id)
                && decision.side == Side::Was
                && done.outcome.is_none()
            {
                done.outcome = incident.outcome;
            }
            return;
        };
        let subject = incident.subject.to_string();
        match decision.side {
            Side::Was if self.was.len() < MOST => self.was.push(Done {
                action: act.action,
                subject,
                own: incident.id,
                recorded: act.recorded,
                kept: false,
                outcome: None,
            }),
            Side::Was => {}
            Side::New => {
                let counts = self.new.entry((act.action, subject)).or_default();
                counts.0 += 1;
                counts.1 += u64::from(act.recorded.is_none());
                let same = self.was.iter_mut().find(|done| {
                    !done.kept && done.recorded == act.recorded && done.action == act.action
                });
                if let Some(done) = same.filter(|_| act.recorded.is_some()) {
                    done.kept = true;
                }
            }
        }
    }

    /// By action and subject. With one run alone, nothing is kept or gone.
    pub fn acts(&self, compared: bool) -> BTreeMap<(&'static str, String), Acts> {
        let mut all: BTreeMap<_, Acts> = BTreeMap::new();
        for done in &self.was {
            let acts = all.entry((done.action, done.subject.clone())).or_default();
            acts.was += 1;
            if done.recorded.is_none() {
                acts.would_have += u64::from(!compared);
            } else if done.kept {
                acts.kept += 1;
            } else if compared {
                acts.gone += 1;
                acts.gone_fixed += u64::from(done.outcome == Some(Outcome::Fixed));
            }
        }
        for (place, (new, would_have)) in &self.new {
            let acts = all.entry(place.clone()).or_default();
            acts.new += new;
            acts.would_have += would_have;
        }
        all
    }
}
