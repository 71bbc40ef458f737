//! What was seen of a unit before, which tells apart what its properties alone do not.

use super::unit::Unit;
use crate::model::ProcessKey;
use crate::supervisors::Phase;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The run that was seen last, and how often it had been started anew by then; none after an order of ours.
    run: Option<(Vec<u8>, Option<u32>)>,
    /// It was running, or being stopped, when it was seen last.
    ran: bool,
    /// The run that they were seen to be told to end, before it was ready.
    told: Option<Vec<u8>>,
    /// A process that they said is the unit's.
    pub(super) verified: Option<ProcessKey>,
    /// What went wrong with our order to start it, after which it looks as if nobody had wanted it to run.
    pub(super) refused: Option<String>,
    /// The connection in which they were asked not to forget it.
    kept: u64,
}

impl Memory {
    /// Whether they were asked not to forget it, in this connection; they are from now on.
    pub(super) fn is_kept(&mut self, connection: u64) -> bool {
        std::mem::replace(&mut self.kept, connection) == connection
    }

    /// An order of ours: what runs after it is none of the news that somebody else stopped it.
    pub(super) fn is_ordered(&mut self) {
        self.run = None;
        self.refused = None;
    }

    /// Where it is in its life; and whether that is about a moment between the last look and this one.
    pub(super) fn judge(&mut self, unit: &Unit) -> (Phase, bool) {
        let run = Some(&unit.invocation);
        let ending = unit.active_state == "deactivating";
        if ending && unit.has_main() && unit.result == "success" && self.told.as_ref() != run {
            self.told = run.cloned();
        }
        let phase = unit.phase(self.told.is_some() && self.told.as_ref() == run);
        let alive = matches!(phase, Phase::Running | Phase::Starting);
        if alive && self.was_ordered_by_others(unit) {
            self.ran = false;
            return (Phase::Stopped, true);
        }
        if phase != Phase::Stopped {
            self.refused = None;
        }
        self.run = Some((unit.invocation.clone(), unit.restarts));
        self.ran = matches!(phase, Phase::Running | Phase::Stopping);
        match &self.refused {
            Some(why) if phase == Phase::Stopped => {
                let why = why.clone();
                let gave_up = false;
                (Phase::Failed { why, gave_up }, false)
            }
            _ => (phase, false),
        }
    }

    /// It ran, and this is another run, which did not come of `Restart=`: somebody had it stopped and started in between. What they start
    /// anew by themselves they count, and from 0 after each order.
    fn was_ordered_by_others(&self, unit: &Unit) -> bool {
        let Some((before, restarts)) = &self.run else {
            return false;
        };
        let another = !before.is_empty() && *before != unit.invocation;
        self.ran && another && unit.restarts.is_some() && unit.restarts <= *restarts
    }
}
