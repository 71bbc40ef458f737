//! A decision in words, and as JSON.

use serde_json::{Value, json};

use crate::cli::render;
use crate::model::incident::StepKind;
use crate::model::{Outcome, Time};
use crate::policy::guards;
use crate::replay::{Decision, Side};

/// One line: time since the beginning, incident, detector, subject, what was decided, and by which rule.
pub(super) fn text(decision: &Decision, began: Time) -> String {
    let incident = &decision.incident;
    let at = decision.at.since(began);
    let mut line = format!(
        "{:>6}.{:06}  #{:<4} {} of {}: {}",
        at.as_secs(),
        at.subsec_micros(),
        incident.id.0,
        incident.detector,
        incident.subject,
        what(decision)
    );
    if let Some(rule) = rule(decision) {
        render::add(&mut line, format_args!(" [{rule}]"));
    }
    render::clean(&line)
}

fn rule(decision: &Decision) -> Option<&str> {
    let of_act = decision.act.as_ref().map(|act| act.rule.as_str());
    let rule = of_act.or(decision.incident.rule.as_deref());
    rule.filter(|rule| !rule.is_empty())
}

/// What was decided, in a word for programs and in words for people.
fn kind(decision: &Decision) -> (&'static str, String) {
    let incident = &decision.incident;
    if let Some(act) = &decision.act {
        return match act.recorded {
            Some(_) => ("act", format!("act {}", act.action)),
            None => (
                "would_have",
                format!(
                    "would have: {} (it was not done in the recording)",
                    act.action
                ),
            ),
        };
    }
    let Some(step) = incident.steps.last() else {
        return (incident.state.name(), incident.state.name().to_owned());
    };
    match step.what {
        StepKind::Refused if decision.guard() == Some(guards::DRY_RUN) => {
            ("would_have", format!("would have ({})", step.detail))
        }
        StepKind::Refused => ("refused", format!("refused by {}", step.detail)),
        StepKind::Recovered => {
            let outcome = incident.outcome.map_or("", Outcome::name);
            let comma = if outcome.is_empty() { "" } else { ", " };
            ("resolved", format!("resolved{comma}{outcome}"))
        }
        other => (other.name(), format!("{}: {}", other.name(), step.detail)),
    }
}

fn what(decision: &Decision) -> String {
    kind(decision).1
}

/// The same for programs. `since_start_ns` counts from the beginning of the recording.
pub(super) fn json(decision: &Decision, began: Time, compared: bool) -> Value {
    let incident = &decision.incident;
    let (kind, words) = kind(decision);
    let since = decision.at.nanos().saturating_sub(began.nanos());
    let mut line = json!({
        "since_start_ns": since,
        "incident": incident.id,
        "detector": incident.detector,
        "subject": incident.subject,
        "decision": kind,
        "words": words,
        "state": incident.state,
        "outcome": incident.outcome,
        "guard": decision.guard(),
        "action": decision.act.as_ref().map(|act| act.action),
        "rule": rule(decision),
    });
    if compared && let Some(line) = line.as_object_mut() {
        let side = match decision.side {
            Side::Was => "was",
            Side::New => "new",
        };
        line.insert("run".to_owned(), side.into());
    }
    line
}
