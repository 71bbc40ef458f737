//! What became of one fault: the incidents it led to, and whether the loop closed. Every time in it is the daemon's.

use std::time::Duration;

use serde_json::{Value, json};

use super::scenarios::Scenario;
use crate::model::incident::StepKind;
use crate::model::{Incident, IncidentId, Outcome, Severity, Subject};

/// One fault and what came of it.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) scenario: &'static Scenario,
    /// Incidents since the fault, oldest first.
    pub(super) incidents: Vec<Incident>,
    /// Why it is given up.
    pub(super) failure: Option<String>,
}

/// One incident, as the table shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Follows from an action of ours on the incident before.
    pub(super) nested: bool,
    pub(super) detector: String,
    pub(super) subject: String,
    pub(super) source: String,
    /// Times from the step before: detected from seen, decided from detected, and so on.
    pub(super) laps: [Option<Duration>; 4],
    pub(super) outcome: String,
    pub(super) good: bool,
}

/// Steps of a loop, in order.
const STEPS: [StepKind; 5] = [
    StepKind::Seen,
    StepKind::Detected,
    StepKind::Decided,
    StepKind::Acted,
    StepKind::Recovered,
];

impl Story {
    pub(super) fn new(scenario: &'static Scenario) -> Self {
        Self {
            scenario,
            incidents: Vec::new(),
            failure: None,
        }
    }

    /// Whether all that was expected was seen, and everything that was seen is repaired.
    pub(super) fn closed(&self) -> bool {
        let expected = self.scenario.expect.iter().all(|detector| {
            self.incidents.iter().any(|incident| {
                incident.detector == *detector
                    && self.is_expected(incident)
                    && incident.actions > 0
                    && incident.outcome == Some(Outcome::Fixed)
            })
        });
        self.failure.is_none() && expected && self.incidents.iter().all(is_settled)
    }

    /// Why it is not closed.
    pub(super) fn missing(&self, deadline: Duration) -> String {
        for detector in self.scenario.expect {
            if !self
                .incidents
                .iter()
                .any(|have| have.detector == **detector)
            {
                return format!("no {detector} was raised within {deadline:?}");
            }
        }
        let unfinished = self.incidents.iter().find(|incident| !is_settled(incident));
        let Some(incident) = unfinished else {
            return format!("repaired, but not by an action of the daemon, within {deadline:?}");
        };
        let last = incident.steps.last().map_or("nothing", |step| &step.detail);
        format!(
            "incident {} ({} of {}) is {} after {deadline:?}; last: {last}",
            incident.id,
            incident.detector,
            incident.subject,
            incident.state.name()
        )
    }

    /// Rows of the table: each incident, after it those that its actions brought about. What was expected comes first.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let roots = self.incidents.iter().filter(|i| self.parent(i).is_none());
        let (first, rest): (Vec<_>, Vec<_>) = roots.partition(|root| self.is_expected(root));
        for root in first.into_iter().chain(rest) {
            self.add(root, false, &mut rows);
        }
        rows
    }

    fn is_expected(&self, incident: &Incident) -> bool {
        self.scenario.expect.contains(&incident.detector.as_str())
            && incident.subject.configured_name() == Some(self.scenario.service)
    }

    fn add(&self, incident: &Incident, nested: bool, rows: &mut Vec<Row>) {
        rows.push(row(incident, nested));
        // A cause is always older than what it causes, so this ends.
        for child in &self.incidents {
            if child.id > incident.id && self.parent(child) == Some(incident.id) {
                self.add(child, true, rows);
            }
        }
    }

    fn parent(&self, incident: &Incident) -> Option<IncidentId> {
        let cause = incident.caused_by?;
        let known = cause < incident.id && self.incidents.iter().any(|other| other.id == cause);
        known.then_some(cause)
    }

    /// Time from the kernel's event to the first change of the host, and to proven recovery; of its first incident.
    pub(super) fn times(&self) -> Option<(Duration, Duration)> {
        let mut expected = self.incidents.iter().filter(|one| self.is_expected(one));
        let first = expected.next()?;
        let seen = first.first(StepKind::Seen)?;
        let acted = first.first(StepKind::Acted)?.since(seen);
        let others = expected.filter_map(|incident| incident.last(StepKind::Recovered));
        let recovered = others.chain(first.last(StepKind::Recovered)).max()?;
        Some((acted, recovered.since(seen)))
    }
}

/// Over, or a mere warning that nothing is done about: on a busy machine services wait for a CPU, whatever we inject.
pub(super) fn is_settled(incident: &Incident) -> bool {
    incident.is_over() || (incident.severity == Severity::Warning && incident.actions == 0)
}

fn row(incident: &Incident, nested: bool) -> Row {
    let mut laps = [None; 4];
    let mut before = incident.first(StepKind::Seen);
    for (lap, step) in laps.iter_mut().zip(STEPS.iter().skip(1)) {
        // More than one action: the first shows how fast it is, the last how it ended.
        let at = if *step == StepKind::Recovered {
            incident.last(*step)
        } else {
            incident.first(*step)
        };
        *lap = at.zip(before).map(|(at, before)| at.since(before));
        before = at.or(before);
    }
    let outcome = match incident.outcome {
        Some(outcome) if incident.is_over() => outcome.name().to_owned(),
        _ => incident.state.name().to_owned(),
    };
    Row {
        nested,
        detector: incident.detector.clone(),
        subject: match &incident.subject {
            Subject::Service { name } => name.clone(),
            other => other.to_string(),
        },
        source: source(incident),
        laps,
        good: incident.is_over() && incident.outcome == Some(Outcome::Fixed),
        outcome: if incident.actions > 1 {
            format!("{outcome} ({} actions)", incident.actions)
        } else {
            outcome
        },
    }
}

/// Where the deciding signal came from.
fn source(incident: &Incident) -> String {
    match incident.evidence.probe {
        Some(probe) => format!("kernel: {}", probe.name()),
        None if incident
            .evidence
            .facts
            .iter()
            .any(|(name, _)| name.contains("check")) =>
        {
            "health check".to_owned()
        }
        None => "sample".to_owned(),
    }
}

/// All of it, for programs. Times are nanoseconds of the daemon's monotonic clock.
pub(super) fn json(stories: &[Story]) -> Value {
    let faults: Vec<Value> = stories
        .iter()
        .map(|story| {
            json!({
                "fault": story.scenario.label,
                "service": story.scenario.service,
                "closed": story.closed(),
                "failure": story.failure,
                "incidents": story.incidents,
            })
        })
        .collect();
    let closed = stories.iter().filter(|story| story.closed()).count();
    json!({
        "faults": faults,
        "closed": closed,
        "of": super::scenarios::ALL.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::scenarios;
    use super::*;
    use crate::model::incident::State;
    use crate::model::{Evidence, Time};
    use monitor_common::Kind;

    fn incident(id: u64, detector: &str, service: &str, from_us: i64) -> Incident {
        let at = |us| Time::from_nanos((from_us + us) * 1000);
        let mut incident = Incident {
            closed: Some(at(3000)),
            outcome: Some(Outcome::Fixed),
            actions: 1,
            state: State::Resolved,
            ..Incident::new(
                IncidentId(id),
                detector,
                Subject::service(service),
                Severity::Critical,
                Evidence::at(at(0)).from_probe(Kind::ProcessExit),
                at(50),
            )
        };
        for (what, us) in STEPS.into_iter().zip([0, 50, 70, 400, 3000]) {
            incident.step(at(us), what, "");
        }
        incident
    }

    fn scenario(label: &str) -> &'static Scenario {
        scenarios::ALL.iter().find(|s| s.label == label).unwrap()
    }

    #[test]
    fn laps_are_from_step_to_step() {
        let mut story = Story::new(scenario("crash: exit"));
        story.incidents = vec![incident(1, "service_down", "auth", 1000)];
        assert!(story.closed());
        let row = &story.rows()[0];
        let us = |n| Some(Duration::from_micros(n));
        assert_eq!(row.laps, [us(50), us(20), us(330), us(2600)]);
        assert_eq!(
            (row.source.as_str(), row.outcome.as_str()),
            ("kernel: process_exit", "fixed")
        );
    }

    #[test]
    fn a_leak_needs_both_of_its_incidents() {
        let mut story = Story::new(scenario("memory leak"));
        story.incidents = vec![incident(4, "memory_pressure", "inventory", 0)];
        assert!(!story.closed());
        assert!(
            story
                .missing(Duration::from_secs(1))
                .contains("service_down")
        );
        let mut follow_up = incident(5, "service_down", "inventory", 500);
        follow_up.caused_by = Some(IncidentId(4));
        story.incidents.push(follow_up);
        assert!(story.closed());
        let nested: Vec<bool> = story.rows().iter().map(|row| row.nested).collect();
        assert_eq!(nested, [false, true]);
        assert_eq!(
            story.times(),
            Some((Duration::from_micros(400), Duration::from_micros(3500)))
        );
    }

    #[test]
    fn another_services_trouble_keeps_the_loop_open() {
        let mut story = Story::new(scenario("crash: exit"));
        let mut other = incident(2, "latency_spike", "gateway", 0);
        other.state = State::Escalated;
        story.incidents = vec![incident(1, "service_down", "auth", 0), other];
        assert!(!story.closed());
        assert!(story.missing(Duration::from_secs(1)).contains("gateway"));
    }

    #[test]
    fn a_mere_warning_does_not_hold_it_open_and_stands_last() {
        let mut story = Story::new(scenario("crash: exit"));
        let mut warning = incident(1, "latency_spike", "auth", 0);
        (warning.severity, warning.state) = (Severity::Warning, State::Open);
        (warning.actions, warning.outcome) = (0, None);
        story.incidents = vec![warning, incident(2, "service_down", "auth", 0)];
        assert!(story.closed());
        assert_eq!(story.rows()[0].detector, "service_down");
    }

    #[test]
    fn what_went_away_without_an_action_is_no_closed_loop() {
        let mut story = Story::new(scenario("crash: exit"));
        let mut alone = incident(1, "service_down", "auth", 0);
        (alone.actions, alone.outcome) = (0, None);
        story.incidents = vec![alone];
        assert!(!story.closed());
    }
}
