//! How an incident ended, in plain words.

use crate::cli::proposal;
use crate::cli::render::{Style, duration};
use crate::model::incident::{MANUAL, StepKind};
use crate::model::{Incident, Outcome, State, Time};

/// The words, and how they should look.
pub(in crate::cli) fn of(incident: &Incident, now: Time) -> (String, Style) {
    let seen = incident.evidence.seen;
    let age = duration(now.since(seen));
    match incident.state {
        State::Resolved if incident.detector == MANUAL => wish(incident),
        State::Resolved => resolved(incident),
        State::Escalated => (
            format!(
                "A person is needed: {}.",
                last_word(incident, StepKind::Escalated)
            ),
            Style::Bad,
        ),
        State::Acting => (
            format!("Seen {age} ago; an action is under way."),
            Style::Warning,
        ),
        State::Verifying => (
            format!("Seen {age} ago; the action is done, its effect is not proven yet."),
            Style::Warning,
        ),
        State::Suppressed => (
            format!(
                "Open for {age}: it follows from {}, which is dealt with first.",
                incident.suppressed_by.map_or_else(
                    || "another incident".to_owned(),
                    |root| format!("incident {root}")
                )
            ),
            Style::Warning,
        ),
        State::Open if proposal::waiting(incident, now).is_some() => (
            format!(
                "Open for {age}: an action waits for a person's word (smart-monitor approve {}).",
                incident.id
            ),
            Style::Warning,
        ),
        State::Open => (
            format!("Open for {age}: {}.", nothing_done(incident)),
            Style::Warning,
        ),
    }
}

/// What a person asked for.
fn wish(incident: &Incident) -> (String, Style) {
    let words = |what, kind| format!("{what}: {}.", last_word(incident, kind));
    match incident.outcome {
        Some(Outcome::Fixed) => (words("Done as asked", StepKind::Recovered), Style::Good),
        Some(Outcome::WouldHave) => (words("Nothing was done", StepKind::Proposed), Style::Good),
        Some(Outcome::Failed) => (words("It failed", StepKind::Failed), Style::Bad),
        Some(Outcome::Refused) => {
            let mut steps = incident.steps.iter().rev();
            let kinds = [StepKind::Refused, StepKind::Failed];
            let last = steps.find(|step| kinds.contains(&step.what));
            let kind = last.map_or(StepKind::Refused, |step| step.what);
            (words("Refused, nothing was done", kind), Style::Bad)
        }
        _ => (
            words("Whether it was done is not known", StepKind::Interrupted),
            Style::Warning,
        ),
    }
}

fn resolved(incident: &Incident) -> (String, Style) {
    let seen = incident.evidence.seen;
    let after = |at: Option<Time>| at.map(|at| duration(at.since(seen)));
    let ended = incident
        .closed
        .or_else(|| incident.last(StepKind::Recovered));
    let took = after(ended).unwrap_or_else(|| "an unknown time".to_owned());
    if incident.outcome == Some(Outcome::Fixed) {
        // The time of the last action is the one that helped.
        let laps = [
            (
                "detected after",
                after(incident.first(StepKind::Detected).or(Some(incident.opened))),
            ),
            ("acted after", after(incident.last(StepKind::Acted))),
            ("recovered after", after(ended)),
        ];
        let laps: Vec<_> = laps
            .into_iter()
            .filter_map(|(what, time)| Some(format!("{what} {}", time?)))
            .collect();
        let tries = match incident.actions {
            0 | 1 => String::new(),
            tries => format!(" by the last of {tries} actions"),
        };
        return (
            format!("Fixed in {took}{tries}: {}.", laps.join(", ")),
            Style::Good,
        );
    }
    if incident.outcome == Some(Outcome::Unknown) {
        let words = format!(
            "Closed: the daemon ended before the outcome was known ({took} after it was seen)."
        );
        return (words, Style::Warning);
    }
    if incident.actions == 0 {
        return (
            format!(
                "Over after {took} without an action: {}.",
                nothing_done(incident)
            ),
            Style::Good,
        );
    }
    let outcome = match incident.outcome {
        Some(Outcome::NoEffect) => "the last action was not what helped",
        Some(Outcome::Worse) => "the last action made it worse before",
        Some(Outcome::Failed) => "the last action could not be carried out",
        Some(Outcome::Refused) => "the last action was refused",
        _ => "whether the action helped is not known",
    };
    (format!("Over after {took}: {outcome}."), Style::Warning)
}

/// Why there was no action.
fn nothing_done(incident: &Incident) -> String {
    // What a guard said before a person was asked is not why.
    let asked = [StepKind::Proposed, StepKind::Rejected];
    let why = [StepKind::Refused, StepKind::Failed];
    let mut steps = incident.steps.iter().rev();
    let last = steps.find(|step| asked.contains(&step.what) || why.contains(&step.what));
    if let Some(step) = last.filter(|step| asked.contains(&step.what)) {
        let words = last_word(incident, step.what);
        let words = proposal::proposal_alone(&words);
        return match step.what {
            StepKind::Rejected => format!("what was proposed was not allowed ({words})"),
            _ => format!("an action was proposed and never allowed ({words})"),
        };
    }
    match incident.outcome {
        Some(Outcome::WouldHave) => format!(
            "dry run, nothing was changed ({})",
            last_word(incident, StepKind::Refused)
        ),
        Some(Outcome::Refused) => format!(
            "policy refused to act ({})",
            last_word(incident, StepKind::Refused)
        ),
        Some(Outcome::Failed) => format!(
            "the action could not be carried out ({})",
            last_word(incident, StepKind::Failed)
        ),
        Some(Outcome::NoEffect) => "the last action had no effect".to_owned(),
        Some(Outcome::Worse) => "the last action made it worse".to_owned(),
        Some(Outcome::Fixed | Outcome::Unknown) | None => match incident.last(StepKind::Refused) {
            Some(_) => format!(
                "policy refused to act ({})",
                last_word(incident, StepKind::Refused)
            ),
            None => "no remedy is configured for it".to_owned(),
        },
    }
}

/// The words of the last step of this kind, without a full stop.
fn last_word(incident: &Incident, what: StepKind) -> String {
    let mut steps = incident.steps.iter().rev();
    let step = steps.find(|step| step.what == what);
    step.map_or_else(
        || "no reason was recorded".to_owned(),
        |step| {
            let words = proposal::words(incident, step);
            words.trim_end_matches('.').to_owned()
        },
    )
}
