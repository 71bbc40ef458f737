//! What the core saw and decided, in words, for who reads why a test failed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Incident, IncidentId, Step};

/// Most lines that are kept; the last ones.
const LINES: usize = 24;
/// Longest text of a step that is repeated, characters.
const WIDTH: usize = 120;

/// The lines, and what of each incident is in them.
#[derive(Debug, Default)]
pub(super) struct Story {
    lines: VecDeque<String>,
    dropped: usize,
    told: BTreeMap<IncidentId, Step>,
}

impl Story {
    /// Adds a line.
    pub(super) fn line(&mut self, at: Duration, text: &str) {
        if self.lines.len() >= LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(format!("{:>10}  {text}", seconds(at)));
    }

    /// Adds what is new of an incident. `at` is now.
    pub(super) fn incident(&mut self, at: Duration, incident: &Incident) {
        let Some(last) = incident.steps.last() else {
            return;
        };
        let told = self.told.insert(incident.id, last.clone());
        let known = told.and_then(|told| incident.steps.iter().rposition(|step| *step == told));
        let new = incident.steps.iter().skip(known.map_or(0, |at| at + 1));
        for step in new {
            let text = format!(
                "incident {} ({} of {}): {}: {}",
                incident.id,
                incident.detector,
                incident.subject,
                step.what.name(),
                step.detail
            );
            self.line(at, &text);
        }
    }

    /// The lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        let dropped = (self.dropped > 0).then(|| format!("({} lines before)", self.dropped));
        dropped
            .into_iter()
            .chain(self.lines.iter().cloned())
            .collect()
    }
}

/// A time since the begin of a test.
pub(super) fn seconds(at: Duration) -> String {
    format!("{}.{:03}s", at.as_secs(), at.subsec_millis())
}

/// A step as it is written, on one line that is not too long.
pub(super) fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= WIDTH {
        return text;
    }
    let cut: String = text.chars().take(WIDTH - 1).collect();
    format!("{cut}…")
}
