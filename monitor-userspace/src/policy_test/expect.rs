//! Whether what is expected is so.

use super::scene::{Act, Scene};
use super::step::{Expect, On};
use super::story::seconds;
use crate::model::incident::StepKind;
use crate::model::{Incident, Outcome, ServiceState, State};

/// Most acts that are listed.
const LISTED: usize = 5;

/// Something is not as it should be.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) expected: String,
    pub(super) happened: String,
}

/// Judges one expectation. An act that it names is taken for expected from here on.
pub(super) fn judge(expect: &Expect, scene: &mut Scene) -> Result<(), Wrong> {
    let happened = match expect {
        Expect::Act { .. } => match act(expect, scene) {
            Some(happened) => happened,
            None => return Ok(()),
        },
        Expect::Nothing { on } => {
            let others = unexpected(scene, on.as_ref());
            if others.is_empty() {
                return Ok(());
            }
            format!("something was done{}", listed(&others))
        }
        Expect::Refused {
            on,
            guard,
            detector,
        } => {
            let refused = scene.newest(on, detector.as_deref()).and_then(refusal);
            match (refused, guard) {
                (Some(_), None) => return Ok(()),
                (Some(by), Some(guard)) if by.starts_with(&format!("{guard}:")) => return Ok(()),
                (Some(by), Some(_)) => format!("it was refused by {by}"),
                (None, _) => scene.last_word(on, detector.as_deref()),
            }
        }
        Expect::Proposed {
            on,
            action,
            detector,
        } => {
            let incident = scene.newest(on, detector.as_deref());
            let proposed = incident.and_then(|incident| incident.proposed.as_ref());
            match (proposed, action) {
                (Some(_), None) => return Ok(()),
                (Some(proposed), Some(action)) if proposed.action == *action => return Ok(()),
                (Some(proposed), Some(_)) => format!("{} is proposed", proposed.action),
                (None, _) => scene.last_word(on, detector.as_deref()),
            }
        }
        Expect::Incident {
            on,
            detector,
            state,
            outcome,
            severity,
        } => {
            let good = scene
                .newest(on, detector.as_deref())
                .is_some_and(|incident| {
                    state.is_none_or(|state| state == incident.state)
                        && outcome.is_none_or(|outcome| Some(outcome) == incident.outcome)
                        && severity.is_none_or(|severity| severity == incident.severity)
                });
            if good {
                return Ok(());
            }
            scene.last_word(on, detector.as_deref())
        }
        Expect::Service { service, state } => {
            let is = scene.view().services.get(service).map(|view| view.state);
            if is == Some(*state) {
                return Ok(());
            }
            let is = is.map_or("unknown", ServiceState::name);
            let on = On::Service(service.clone());
            format!(
                "{service} is {}; {}",
                is.to_lowercase(),
                scene.last_word(&on, None)
            )
        }
    };
    Err(Wrong {
        expected: expect.to_string(),
        happened,
    })
}

/// Takes an act for expected; what happened instead, when there is none.
fn act(expect: &Expect, scene: &mut Scene) -> Option<String> {
    let Expect::Act {
        on,
        action,
        rule,
        detector,
        undo,
    } = expect
    else {
        return None;
    };
    let is = |act: &Act| {
        !act.expected
            && act.undo == *undo
            && on.as_ref().is_none_or(|on| on.is(&act.subject))
            && action.as_ref().is_none_or(|action| action == act.action)
            && rule.as_ref().is_none_or(|rule| *rule == act.rule)
            && detector.as_ref().is_none_or(|name| *name == act.detector)
    };
    if let Some(act) = scene.acts_mut().iter_mut().find(|act| is(act)) {
        act.expected = true;
        return None;
    }
    let others = unexpected(scene, None);
    Some(match (others.is_empty(), on) {
        (false, _) => format!("something else was done{}", listed(&others)),
        (true, Some(on)) => {
            let word = scene.last_word(on, detector.as_deref());
            format!("nothing was done; {word}")
        }
        (true, None) => "nothing was done".to_owned(),
    })
}

/// The refusal that is an incident's last word: a guard, and why.
fn refusal(incident: &Incident) -> Option<&str> {
    let mut words = incident.steps.iter().rev().filter(|step| {
        matches!(
            step.what,
            StepKind::Decided | StepKind::Refused | StepKind::Escalated | StepKind::Proposed
        )
    });
    let last = words.next()?;
    let refused = matches!(last.what, StepKind::Refused | StepKind::Escalated);
    refused.then_some(last.detail.as_str())
}

fn unexpected(scene: &Scene, on: Option<&On>) -> Vec<Act> {
    let acts = scene.acts().iter().filter(|act| !act.expected);
    let acts = acts.filter(|act| on.is_none_or(|on| on.is(&act.subject)));
    acts.cloned().collect()
}

/// Acts in words, the last ones; nothing when there are none.
pub(super) fn listed(acts: &[Act]) -> String {
    let words = |act: &Act| {
        let rule = if act.rule.is_empty() {
            String::new()
        } else {
            format!(" by {}", act.rule)
        };
        let undo = if act.undo { "undo of " } else { "" };
        format!(
            "{undo}{} for {} of {}{rule} at {} (incident {})",
            act.action,
            act.detector,
            act.subject,
            seconds(act.at),
            act.incident
        )
    };
    if acts.is_empty() {
        return String::new();
    }
    let shown = acts.iter().skip(acts.len().saturating_sub(LISTED));
    format!(": {}", shown.map(words).collect::<Vec<_>>().join(", "))
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Act {
                on,
                action,
                rule,
                detector,
                undo,
            } => {
                let undo = if *undo { "the undo of " } else { "" };
                write!(f, "{undo}{}", action.as_deref().unwrap_or("an act"))?;
                also(f, "on", on.as_ref())?;
                also(f, "for", detector.as_ref())?;
                also(f, "by", rule.as_ref())
            }
            Self::Refused {
                on,
                guard,
                detector,
            } => {
                f.write_str("a refusal")?;
                also(f, "by", guard.as_ref())?;
                also(f, "on", Some(on))?;
                also(f, "for", detector.as_ref())
            }
            Self::Proposed {
                on,
                action,
                detector,
            } => {
                let action = action.as_deref().unwrap_or("an act");
                write!(f, "{action} on {on} waiting for a person's word")?;
                also(f, "for", detector.as_ref())
            }
            Self::Nothing { on } => {
                f.write_str("no act")?;
                also(f, "on", on.as_ref())?;
                f.write_str(" that no step before expected")
            }
            Self::Incident {
                on,
                detector,
                state,
                outcome,
                severity,
            } => {
                write!(f, "an incident on {on}")?;
                also(f, "of", detector.as_ref())?;
                also(f, "that is", state.map(State::name))?;
                also(f, "with the outcome", outcome.map(Outcome::name))?;
                let severity = severity.map(|severity| format!("{severity:?}").to_lowercase());
                also(f, "that is", severity)
            }
            Self::Service { service, state } => {
                write!(f, "{service} is {}", state.name().to_lowercase())
            }
        }
    }
}

fn also(
    f: &mut std::fmt::Formatter<'_>,
    word: &str,
    value: Option<impl std::fmt::Display>,
) -> std::fmt::Result {
    match value {
        Some(value) => write!(f, " {word} {value}"),
        None => Ok(()),
    }
}
