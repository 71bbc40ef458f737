//! Effect to outcome: an act counts as success only when the signal that raised the incident says that the condition is gone.
//!
//! Pure. What came before the act proves nothing; what comes after its time is up comes too late.

use std::time::Duration;

use crate::model::{Effect, EffectResult, Outcome, Severity, Time};

/// What is known when a judgement is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What the action did.
    pub effect: &'a Effect,
    /// How long it has to show an effect, from the end of the act.
    pub within: Duration,
    /// The signal that says the condition is gone, if there was one.
    pub cleared: Option<Time>,
    /// Whether the condition was raised anew by a signal after the act.
    pub again: bool,
    /// Severity when the action was decided, and the worst since.
    pub severity: (Severity, Severity),
}

/// The outcome; none while it is open.
pub fn judge(known: Known<'_>, now: Time) -> Option<Outcome> {
    match &known.effect.result {
        EffectResult::Refused { .. } => return Some(Outcome::Refused),
        EffectResult::Failed { .. } => return Some(Outcome::Failed),
        EffectResult::Done { .. } => {}
    }
    let acted = known.effect.acted.unwrap_or(known.effect.finished);
    if known.cleared.is_some_and(|cleared| cleared >= acted) {
        return Some(Outcome::Fixed);
    }
    let (before, after) = known.severity;
    if after > before {
        return Some(Outcome::Worse);
    }
    let over = now >= known.effect.finished.after(known.within);
    (over || known.again).then_some(Outcome::NoEffect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IncidentId;

    fn at(millis: i64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn judged(result: EffectResult, cleared: Option<i64>, now: i64) -> Option<Outcome> {
        let effect = Effect {
            incident: IncidentId(1),
            action: "restart_service".to_owned(),
            acted: Some(at(100)),
            finished: at(110),
            result,
            verified: None,
            undo: None,
        };
        let known = Known {
            effect: &effect,
            within: Duration::from_millis(50),
            cleared: cleared.map(at),
            again: false,
            severity: (Severity::Critical, Severity::Critical),
        };
        judge(known, at(now))
    }

    #[test]
    fn only_a_signal_after_the_act_is_a_success() {
        let done = || EffectResult::Done {
            detail: String::new(),
        };
        assert_eq!(judged(done(), None, 120), None);
        assert_eq!(
            judged(done(), Some(99), 120),
            None,
            "this signal is older than the act"
        );
        assert_eq!(judged(done(), Some(105), 120), Some(Outcome::Fixed));
        assert_eq!(judged(done(), None, 160), Some(Outcome::NoEffect));
    }

    #[test]
    fn what_was_not_done_is_no_success_whatever_the_signals_say() {
        let failed = EffectResult::Failed {
            reason: String::new(),
        };
        assert_eq!(judged(failed, Some(120), 130), Some(Outcome::Failed));
        let refused = EffectResult::Refused {
            reason: String::new(),
        };
        assert_eq!(judged(refused, Some(120), 130), Some(Outcome::Refused));
    }
}
