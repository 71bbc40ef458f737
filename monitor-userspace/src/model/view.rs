//! What the hot thread shows the slow side: a copy it brings up to date when something changed. The API, the exporter and the
//! command line read this and nothing else of the core.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Incident, IncidentId, Outcome, Service, ServiceState, Silence};

/// Most incidents that are over and kept; beyond it the oldest goes (it stays in the journal).
pub const INCIDENTS: usize = 512;
/// Most incidents that are open at one time; beyond it what is found is counted and left out.
pub const OPEN: usize = 2048;

/// Most incidents about which something was done that is still in force. Beyond it, the oldest is changed back, and nothing more is done
/// that must be.
pub const HELD: usize = 128;

/// Most silences in force at a time.
pub const SILENCES: usize = 256;

/// How many more there may be of what the configuration names.
pub const OPEN_NAMED: usize = 1024;

/// The core's state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct View {
    /// Incidents, oldest first; at most [`OPEN`], [`OPEN_NAMED`], [`INCIDENTS`] and those that hold something: [`HELD`] and a few.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// Services of the configuration.
    pub services: BTreeMap<String, ServiceView>,
    /// Detectors, in the order of the registry.
    pub detectors: Vec<DetectorView>,
    /// Counters since the daemon started.
    pub counts: Counts,
    /// Whether policy only says what it would have done.
    pub dry_run: bool,
    /// Why nothing may act now, when that is so (the journal cannot be written, ...).
    pub halted: Option<String>,
    /// Silences in force; at most [`SILENCES`].
    #[serde(default)]
    pub silences: Vec<Silence>,
    /// Names of the maintenance windows that are open.
    #[serde(default)]
    pub maintenance: Vec<String>,
    /// How often the action of each rule has helped, of the last few times: `RULE/ACTION`.
    #[serde(default)]
    pub rates: BTreeMap<String, Rate>,
}

/// How often something helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How often it helped.
    pub helped: usize,
    /// Of how many.
    pub of: usize,
}

/// A service, and its state in the words that users see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    /// What is known of it.
    pub service: Service,
    /// Its state.
    pub state: ServiceState,
}

/// A detector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorView {
    /// Its name.
    pub name: String,
    /// What it sees.
    pub summary: String,
    /// Why it sees less than it should (a probe it needs is off); none when all is well.
    pub degraded: Option<String>,
}

/// Counters since the daemon started; every set of labels is bounded by a registry.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Signals by kind: a probe's name, `sample`, `check`, `service`, `effect`, `loss`.
    pub signals: BTreeMap<String, u64>,
    /// Incidents opened, by detector.
    pub opened: BTreeMap<String, u64>,
    /// Outcomes by action.
    pub outcomes: BTreeMap<String, BTreeMap<Outcome, u64>>,
    /// Refusals by guard.
    pub refusals: BTreeMap<String, u64>,
    /// Nanoseconds from the deciding signal to the incident, by detector.
    pub detect: BTreeMap<String, Durations>,
    /// Nanoseconds from the deciding signal to the first change of the host, by action.
    pub act: BTreeMap<String, Durations>,
    /// Nanoseconds from the deciding signal to proven recovery, by detector.
    pub recover: BTreeMap<String, Durations>,
    /// How the services of the configuration fared.
    #[serde(default)]
    pub services: BTreeMap<String, ServiceCounts>,
    /// Records in a ring that could not be decoded.
    pub malformed: u64,
    /// Incidents that were forgotten to make room for new ones, and findings that found no room.
    pub forgotten: u64,
    /// Incidents that were found to follow from another one.
    #[serde(default)]
    pub suppressed: u64,
}

/// How a service fared since the daemon started. Divided by `ended`, the sums are its mean times to detect and to recover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceCounts {
    /// Incidents that are over.
    pub ended: u64,
    /// Time from the first signal of the trouble to its detection, of those that are over, seconds.
    pub detect_seconds: f64,
    /// Time from the deciding signal to recovery, of those that are over, seconds.
    pub recover_seconds: f64,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Their sum, seconds.
    pub sum: f64,
    /// How many are at most [`Durations::BOUNDS`] of the same index, not counting those of earlier ones; the last
    /// counts the rest.
    pub buckets: [u64; Durations::BOUNDS.len() + 1],
}

impl Durations {
    /// Upper bounds of the buckets, seconds.
    pub const BOUNDS: [f64; 14] = [
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0,
        5.0, 30.0,
    ];

    /// Counts one duration.
    pub fn add(&mut self, duration: std::time::Duration) {
        let seconds = duration.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        let at = Self::BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = self.buckets.get_mut(at.unwrap_or(Self::BOUNDS.len())) {
            *bucket += 1;
        }
    }
}
