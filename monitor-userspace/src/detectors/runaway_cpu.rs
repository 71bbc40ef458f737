//! A process takes more CPU than it should, for longer than it should.
//!
//! Consumes process tables (CPU time of all threads), and `process_exit` for the end of one that it raised. The share is the CPU time between two tables over the time between them, in
//! cores: `100%` is one core. Needs no kernel probe: where the task iterator is off, the table comes from /proc.
//! Main processes of services count, and processes that `[[process]]` names; all others only with `scope = "all"`.

use std::collections::HashMap;

use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::{Percent, Span};
use crate::model::{
    Category, Evidence, Finding, ProcessKey, ProcessUsage, Sample, Severity, Signal, Subject, Time,
    World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "runaway_cpu",
    summary: "a process takes more CPU than it should, for longer than it should",
    category: Category::System,
    symptom: false,
    needs: &[Kind::TaskSnapshot],
};

/// Which subjects a detector looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// What the configuration names.
    #[default]
    Configured,
    /// Everything on the host; what is not named is only ever observed.
    All,
}

/// `[detectors.runaway_cpu]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// CPU share over which a process is suspect; `100%` is one core.
    pub threshold: Percent,
    /// How long it must stay over it.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// Which processes.
    pub scope: Scope,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold: Percent(90.0),
            lasting: Span::seconds(30),
            scope: Scope::Configured,
        }
    }
}

#[derive(Debug)]
struct Track {
    cpu_ns: u64,
    /// Since when its share has been over the threshold.
    over: Option<Time>,
    /// The subject it was raised for.
    raised: Option<Subject>,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    last: Option<Time>,
    tracks: HashMap<ProcessKey, Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            last: None,
            tracks: HashMap::new(),
        }
    }

    fn subject(&self, usage: &ProcessUsage, world: &World) -> Option<Subject> {
        if let Some(service) = world.service_of(usage.process) {
            return Some(Subject::service(&service.name));
        }
        let group = world.groups.get(&usage.comm).cloned();
        (group.is_some() || self.config.scope == Scope::All).then(|| Subject::Process {
            process: usage.process,
            comm: usage.comm.clone(),
            group,
        })
    }

    fn table(&mut self, table: &[ProcessUsage], at: Time, world: &World, out: &mut Vec<Finding>) {
        let elapsed = self.last.map_or(0.0, |last| at.since(last).as_secs_f64());
        let mut tracks = HashMap::with_capacity(table.len());
        for usage in table {
            let Some(subject) = self.subject(usage, world) else {
                continue;
            };
            let before = self.tracks.remove(&usage.process);
            let spent = before
                .as_ref()
                .map_or(0, |track| usage.cpu_ns.saturating_sub(track.cpu_ns));
            let share = if elapsed > 0.0 {
                nanos_to_seconds(spent) / elapsed
            } else {
                0.0
            };
            let (over, raised) = before.map_or((None, None), |track| (track.over, track.raised));
            let mut track = Track {
                cpu_ns: usage.cpu_ns,
                over,
                raised,
            };
            if share < self.config.threshold.share() {
                track.over = None;
                if let Some(subject) = track.raised.take() {
                    let because = format!("its CPU share is {:.0}%", share * 100.0);
                    out.push(Finding::Cleared {
                        subject,
                        seen: at,
                        because,
                    });
                }
            } else {
                // It has been over since the table before: that is where the share counts from.
                let since = *track.over.get_or_insert(self.last.unwrap_or(at));
                if at.since(since) >= self.config.lasting.0 && track.raised.is_none() {
                    track.raised = Some(subject.clone());
                    let evidence = Evidence::at(at)
                        .since(since)
                        .about(usage.process, &usage.comm)
                        .fact("CPU share", format!("{:.0}% of a core", share * 100.0))
                        .fact("threshold", self.config.threshold)
                        .fact("lasting", format!("{:.1?}", at.since(since)))
                        .fact(
                            "CPU time",
                            format!("{:.1} s", nanos_to_seconds(usage.cpu_ns)),
                        );
                    out.push(Finding::Raised {
                        subject,
                        severity: Severity::Critical,
                        evidence,
                    });
                }
            }
            tracks.insert(usage.process, track);
        }
        for subject in self.tracks.drain().filter_map(|(_, track)| track.raised) {
            let because = "the process is gone".to_owned();
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
        self.tracks = tracks;
        self.last = Some(at);
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Sample {
                sample: Sample::Processes { processes },
            } => {
                self.table(processes, at, world, out);
            }
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let track = self.tracks.remove(&ProcessKey::from_task(&exit.task));
                if let Some(subject) = track.and_then(|track| track.raised) {
                    let seen = Time::from_kernel(exit.header.time_ns);
                    out.push(Finding::Cleared {
                        subject,
                        seen,
                        because: "it ended".to_owned(),
                    });
                }
            }
            _ => {}
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.runaway_cpu.clone();
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share of CPU needs no more than 52 bits"
)]
fn nanos_to_seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
