//! A process thrashes: nearly all it does is to wait for pages that must be read back from storage.
//!
//! Consumes process tables: major faults between two of them over the time between them. Raised when that is over `per_second` in
//! `samples` tables in a row; cleared when it is below half of it in as many, or the process is gone. The table read from /proc
//! has no faults: then nothing is seen.

use std::collections::HashMap;
use std::time::Duration;

use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::memory_pressure::mib;
use super::{Detector, Spec, subject_of};
use crate::model::{
    Category, Evidence, Finding, ProcessKey, ProcessUsage, Sample, Severity, Signal, Subject, Time,
    World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "major_fault_storm",
    summary: "a process thrashes: its memory is read back from storage again and again",
    category: Category::System,
    symptom: false,
    needs: &[Kind::TaskSnapshot],
};

/// `[detectors.major_fault_storm]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// Major faults a second over which a process is suspect.
    pub per_second: u32,
    /// How many tables in a row.
    pub samples: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            per_second: 500,
            samples: 3,
        }
    }
}

/// Most processes that are followed.
const PROCESSES: usize = 65_536;
/// Tables that follow each other faster than this (memory is short) are left out: a rate from less is noise.
const SHORTEST: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
struct Track {
    major_faults: u64,
    run_delay_ns: u64,
    /// Tables in a row over the threshold, and below half of it.
    over: u32,
    below: u32,
    since: Time,
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

    fn table(&mut self, table: &[ProcessUsage], at: Time, world: &World, out: &mut Vec<Finding>) {
        let last = self.last.unwrap_or(at);
        if self.last.is_some() && at.since(last) < SHORTEST && at >= last {
            return;
        }
        self.last = Some(at);
        let elapsed = at.since(last);
        let mut tracks = HashMap::with_capacity(table.len().min(PROCESSES));
        for usage in table.iter().take(PROCESSES) {
            let track = match self.tracks.remove(&usage.process) {
                Some(before) if !elapsed.is_zero() => {
                    self.judge(before, usage, last, elapsed, world, out)
                }
                before => Track {
                    major_faults: usage.major_faults,
                    run_delay_ns: usage.run_delay_ns,
                    ..before.unwrap_or_default()
                },
            };
            tracks.insert(usage.process, track);
        }
        let gone = std::mem::replace(&mut self.tracks, tracks);
        for subject in gone.into_values().filter_map(|track| track.raised) {
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because: "the process is gone".to_owned(),
            });
        }
    }

    fn judge(
        &self,
        mut track: Track,
        usage: &ProcessUsage,
        last: Time,
        elapsed: Duration,
        world: &World,
        out: &mut Vec<Finding>,
    ) -> Track {
        let at = last.after(elapsed);
        let faults = usage.major_faults.saturating_sub(track.major_faults);
        let waited = usage.run_delay_ns.saturating_sub(track.run_delay_ns);
        track.major_faults = usage.major_faults;
        track.run_delay_ns = usage.run_delay_ns;
        let rate = per_second(faults, elapsed);
        let threshold = f64::from(self.config.per_second);
        if rate > threshold {
            if track.over == 0 {
                track.since = last;
            }
            track.over = track.over.saturating_add(1);
            track.below = 0;
        } else {
            track.over = 0;
            let below = rate < threshold / 2.0;
            track.below = if below {
                track.below.saturating_add(1)
            } else {
                0
            };
        }
        if track.over >= self.config.samples.max(1) && track.raised.is_none() {
            let subject = subject_of(world, usage.process, &usage.comm);
            track.raised = Some(subject.clone());
            // Nanoseconds waited a second, of all threads, in hundredths of a second.
            let waiting = per_second(waited, elapsed) / 1e7;
            let evidence = Evidence::at(at)
                .since(track.since)
                .about(usage.process, &usage.comm)
                .fact("major faults a second", format!("{rate:.0}"))
                .fact("threshold", self.config.per_second)
                .fact("resident memory", mib(usage.resident))
                .fact(
                    "time waiting for a CPU",
                    format!("{waiting:.0}% (all threads together)"),
                );
            out.push(Finding::Raised {
                subject,
                severity: Severity::Warning,
                evidence,
            });
        } else if track.below >= self.config.samples.max(1)
            && let Some(subject) = track.raised.take()
        {
            let because = format!("it has {rate:.0} major faults a second");
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
        track
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Sample {
                sample: Sample::Processes { processes },
            } => self.table(processes, at, world, out),
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let track = self.tracks.remove(&ProcessKey::from_task(&exit.task));
                if let Some(subject) = track.and_then(|track| track.raised) {
                    out.push(Finding::Cleared {
                        subject,
                        seen: Time::from_kernel(exit.header.time_ns),
                        because: "it ended".to_owned(),
                    });
                }
            }
            _ => {}
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.major_fault_storm.clone();
    }
}
