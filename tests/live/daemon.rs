//! The daemon itself, on the running kernel: the binary, started as a user starts it, over services that misbehave.
//!
//! Needs root and the binary (`cargo xtask build`, or `SMART_MONITOR_BIN`). Each test has a daemon of its own in a folder of its own,
//! and touches only processes that came of it.

#[path = "daemon/acts.rs"]
mod acts;
#[path = "daemon/answers.rs"]
mod answers;
#[path = "daemon/audit.rs"]
mod audit;
#[path = "daemon/cgroups.rs"]
mod cgroups;
#[path = "daemon/frozen.rs"]
mod frozen;
#[path = "daemon/guards.rs"]
mod guards;
#[path = "daemon/held.rs"]
mod held;
#[path = "daemon/kernel_guards.rs"]
mod kernel_guards;
#[path = "daemon/people.rs"]
mod people;
#[path = "daemon/pressure.rs"]
mod pressure;
#[path = "daemon/recording.rs"]
mod recording;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/repair.rs"]
mod repair;
#[path = "daemon/start.rs"]
mod start;
#[path = "daemon/survive.rs"]
mod survive;
#[path = "daemon/told.rs"]
mod told;

use serde_json::Value;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, Outcome, Subject};

/// A `[[remedy]]` for everything that the configuration names.
fn remedy(detector: &str, action: &str, lines: &str) -> String {
    format!(
        "\n[[remedy]]\ndetector = \"{detector}\"\non = [\"*\"]\naction = \"{action}\"\n{lines}\n"
    )
}

fn restarts() -> String {
    remedy("service_down", "restart_service", "")
}

/// The incident of this detector on this service.
fn is(incident: &Incident, detector: &str, service: &str) -> bool {
    incident.detector == detector && incident.subject == Subject::service(service)
}

/// The same, once it is over.
fn is_fixed(incident: &Incident, detector: &str, service: &str) -> bool {
    is(incident, detector, service)
        && incident.is_over()
        && incident.outcome == Some(Outcome::Fixed)
}

/// Whether a step of this kind tells of this.
fn tells(incident: &Incident, what: StepKind, text: &str) -> bool {
    let mut steps = incident.steps.iter();
    steps.any(|step| step.what == what && step.detail.contains(text))
}

/// Where in the journal the first entry of this kind about this incident stands.
fn position(journal: &[Value], kind: &str, incident: u64) -> Option<usize> {
    journal.iter().position(|line| {
        let about = ["/incident/id", "/effect/incident"];
        line.get("entry").and_then(Value::as_str) == Some(kind)
            && about
                .iter()
                .any(|path| line.pointer(path).and_then(Value::as_u64) == Some(incident))
    })
}
