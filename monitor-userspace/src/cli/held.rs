//! What was done and is still in force, in words: for `status`, `act`, `undo`, `incidents` and `explain`.

use super::render;
use crate::model::incident::StepKind;
use crate::model::{Incident, Time};

/// What is in force, since when, and what ends it; none when nothing is.
pub(super) fn words(incident: &Incident, now: Time) -> Option<String> {
    let held = incident.held.as_ref()?;
    let since = incident
        .last(StepKind::Acted)
        .map_or_else(String::new, |acted| {
            format!(" since {}", render::duration(now.since(acted)))
        });
    let again = match held.tries {
        0 => String::new(),
        1 => " (tried once in vain)".to_owned(),
        tries => format!(" (tried {tries} times in vain)"),
    };
    let until = match held.due {
        Some(due) if due > now => {
            format!("undone in {}{again}", render::duration(due.since(now)))
        }
        Some(_) => format!("to be undone now{again}"),
        None if held.tries > 0 => format!("could not be undone{again}"),
        None => "until somebody undoes it".to_owned(),
    };
    Some(format!(
        "held: {} on {}{since}, {until}: smart-monitor undo {}",
        held.action, incident.subject, incident.id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evidence, Held, IncidentId, Plan, ProcessKey, Severity, Subject};

    #[test]
    fn what_is_in_force_says_since_when_and_what_ends_it() {
        let at = |seconds: i64| Time::from_nanos(seconds * 1_000_000_000);
        let mut incident = Incident::new(
            IncidentId(12),
            "runaway_cpu",
            Subject::service("web"),
            Severity::Warning,
            Evidence::at(at(0)),
            at(0),
        );
        assert_eq!(words(&incident, at(200)), None);
        incident.step(at(20), StepKind::Acted, "done");
        let held = |due: Option<i64>, tries| {
            Some(Box::new(Held {
                action: "lower_priority".to_owned(),
                rule: "calm".to_owned(),
                undo: Plan::RestorePriority {
                    process: ProcessKey {
                        pid: 1,
                        start_ticks: 1,
                    },
                    comm: "web".to_owned(),
                    nice: Vec::new(),
                },
                due: due.map(at),
                tries,
            }))
        };
        for (due, tries, until) in [
            (Some(620), 0, "undone in 7 min 0 s"),
            (Some(200), 0, "to be undone now"),
            (Some(260), 1, "undone in 1 min 0 s (tried once in vain)"),
            (None, 6, "could not be undone (tried 6 times in vain)"),
            (None, 0, "until somebody undoes it"),
        ] {
            incident.held = held(due, tries);
            assert_eq!(
                words(&incident, at(200)).unwrap(),
                format!(
                    "held: lower_priority on service web since 3 min 0 s, {until}: smart-monitor undo 12"
                )
            );
        }
    }
}
