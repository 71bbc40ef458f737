//! What the requests answer, as the server writes it and the command line reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::model::abilities::ActionRow;
use crate::model::kernel_view::ProbeRow;
use crate::model::{Incident, IncidentId, Plan, ServiceState, Silence, Time, View};

/// The same instant on two clocks: with it, times of the model become wall-clock time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// `CLOCK_MONOTONIC`, the clock of every [`Time`].
    pub monotonic_ns: i64,
    /// Since the Unix epoch.
    pub unix_ns: i64,
}

impl Clock {
    /// Now.
    pub fn now() -> Self {
        let monotonic = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self {
            monotonic_ns: nanos(monotonic),
            unix_ns: nanos(unix),
        }
    }

    /// The instant, as the model counts.
    pub const fn time(&self) -> Time {
        Time::from_nanos(self.monotonic_ns)
    }

    /// When that was, in nanoseconds since the Unix epoch.
    pub const fn unix_ns_of(&self, time: Time) -> i64 {
        let ago = self.monotonic_ns.saturating_sub(time.nanos());
        self.unix_ns.saturating_sub(ago)
    }
}

/// `GET /api/v1/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// When it was answered.
    pub clock: Clock,
    /// The daemon's version.
    pub version: String,
    /// How long it has run.
    pub uptime_seconds: f64,
    /// What it costs.
    pub own: Cost,
    /// The core's state, without the incidents that are over; those about which something was done that is still in force are there.
    pub view: View,
    /// What is less than it should be, though the daemon observes and acts.
    #[serde(default)]
    pub limitations: Vec<String>,
    /// Every probe, on or off and why.
    pub probes: Vec<ProbeRow>,
}

/// What the daemon costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time of its threads since it started.
    pub cpu_seconds: f64,
    /// Run time of its kernel programs since it started; none when the kernel does not count it.
    pub bpf_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// `GET /api/v1/incidents`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Incidents {
    /// When it was answered.
    pub clock: Clock,
    /// Oldest first.
    pub incidents: Vec<Incident>,
}

/// `GET /api/v1/incidents/{id}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneIncident {
    /// When it was answered.
    pub clock: Clock,
    /// The incident.
    pub incident: Incident,
    /// Incidents that an action on this one brought about.
    #[serde(default)]
    pub causes: Vec<IncidentId>,
    /// Incidents that are suppressed because they follow from this one.
    #[serde(default)]
    pub suppresses: Vec<IncidentId>,
}

/// `GET /api/v1/silences`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silences {
    /// When it was answered.
    pub clock: Clock,
    /// Those in force.
    pub silences: Vec<Silence>,
    /// Names of the maintenance windows that are open.
    #[serde(default)]
    pub maintenance: Vec<String>,
}

/// `POST /api/v1/silences` and `DELETE /api/v1/silences/{id}`: what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneSilence {
    /// When it was answered.
    pub clock: Clock,
    /// As it is, or was until it was ended.
    pub silence: Silence,
}

/// The body of `POST /api/v1/silences`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// The name of a service or a `[[process]]` entry; `*` for everything.
    pub on: String,
    /// Only for incidents of this detector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<String>,
    /// How long.
    pub for_seconds: u64,
    /// Why.
    pub reason: String,
    /// Whom root speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
}

/// The body of `POST /api/v1/incidents/{id}/approve`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// What exactly is approved; when the incident proposes something else by then, nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Whom root speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
}

/// `GET /api/v1/actions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions {
    /// In the order of the registry.
    pub actions: Vec<ActionRow>,
}

/// The body of `POST /api/v1/acts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAct {
    /// The action's name.
    pub action: String,
    /// Whom it is done to: a name that the configuration gives, or `pid:N`.
    pub subject: String,
    /// The `[[remedy]]` whose word counts; else the first that allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only say what would be done, and what stands in the way.
    #[serde(default)]
    pub dry_run: bool,
    /// Whom root speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
}

/// The body of `POST /api/v1/services/NAME/repair`, `restore-point`, `rollback` and `watch`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    /// Of `repair`: which step, by its action or its number; what is next when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Only say what would be done, and what stands in the way.
    #[serde(default)]
    pub dry_run: bool,
    /// Whom root speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
}

/// The body of every other request that changes something; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Whom root speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
}

/// `GET /health`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How the daemon itself is.
    pub status: Condition,
    /// Why it is not well.
    pub reasons: Vec<String>,
    /// What it watches: not part of its own health.
    pub services: BTreeMap<String, ServiceState>,
}

/// How the daemon itself is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Condition {
    /// Observes with every probe.
    Healthy,
    /// Observes, and sees less than it should.
    Degraded,
    /// Does not observe, or may not act. The answer's code is 503.
    Unhealthy,
}

/// `/api/v1/recording`: how far a recording of signals is, or what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// The file.
    pub file: PathBuf,
    /// Signals in it.
    pub signals: u64,
    /// Entries that found no room.
    pub lost: u64,
    /// Its size.
    pub bytes: u64,
    /// The size at which it ends.
    pub most_bytes: u64,
    /// How long it has recorded.
    pub seconds: f64,
    /// The time after which it ends; none for as long as the daemon runs.
    pub most_seconds: Option<f64>,
    /// Why it has ended; none while it goes on.
    pub over: Option<String>,
}

/// Any request that could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What, why, what to do.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_time_follows_from_the_pair() {
        let clock = Clock {
            monotonic_ns: 5_000,
            unix_ns: 1_000_000,
        };
        assert_eq!(clock.unix_ns_of(Time::from_nanos(4_000)), 999_000);
        assert_eq!(clock.unix_ns_of(Time::from_nanos(-1_000)), 994_000);
        assert_eq!(clock.unix_ns_of(clock.time()), 1_000_000);
    }
}
