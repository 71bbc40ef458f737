//! A process's memory grows steadily, and will be too much within the `horizon`: of the host's, or of its service's `memory_max`.
//!
//! Consumes process tables, thinned to 60 in `window`, and the host's available memory. Raised when over at least half of `window` it
//! grew by `min_growth`, steadily (see `trend`), and that growth, carried on, reaches a limit; the host's counts only while its
//! available memory shrinks too. Cleared when it would take more than twice the horizon, or the process is gone. Only processes
//! over `min_resident`, the 256 largest. That memory is lost rather than used is more than growth can show: a warning.

pub(super) mod trend;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::memory_pressure::{MIB, float, mib};
use super::{Detector, Spec, subject_of};
use crate::config::units::{Bytes, Span};
use crate::model::{
    Category, Evidence, Finding, ProcessKey, ProcessUsage, Sample, Severity, Signal, Subject, Time,
    World,
};
use trend::{Point, Trend};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory_growth",
    summary: "a process grows steadily, and will use up the host's memory or its service's ceiling",
    category: Category::System,
    symptom: false,
    needs: &[Kind::TaskSnapshot],
};

/// `[detectors.memory_growth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How far back a trend looks.
    pub window: Span,
    /// Memory that will be used up within this is trouble.
    pub horizon: Span,
    /// How much a process must have grown within the window.
    pub min_growth: Bytes,
    /// Processes smaller than this are not followed.
    pub min_resident: Bytes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span::seconds(600),
            horizon: Span::seconds(1800),
            min_growth: Bytes::mib(64),
            min_resident: Bytes::mib(64),
        }
    }
}

/// Most processes that are followed; the largest.
const PROCESSES: usize = 256;
/// Points of a whole window.
const POINTS: u32 = 60;

#[derive(Debug, Default)]
struct Track {
    points: VecDeque<Point>,
    raised: Option<Subject>,
}

/// What will be used up, and when.
struct Limit {
    what: String,
    left: f64,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// The last table that was taken.
    last: Option<Time>,
    tracks: HashMap<ProcessKey, Track>,
    /// The host's available memory, as often as the tables.
    available: VecDeque<Point>,
    /// Its last reading.
    now_available: Option<u64>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            last: None,
            tracks: HashMap::new(),
            available: VecDeque::new(),
            now_available: None,
        }
    }

    fn table(&mut self, table: &[ProcessUsage], at: Time, world: &World, out: &mut Vec<Finding>) {
        let step = (self.config.window.0 / POINTS).max(Duration::from_secs(1));
        if self.last.is_some_and(|last| at < last) {
            // A clock that goes back: nothing of before compares with what comes.
            self.available.clear();
            for track in self.tracks.values_mut() {
                track.points.clear();
            }
        } else if self.last.is_some_and(|last| at.since(last) < step) {
            return;
        }
        self.last = Some(at);
        if let Some(available) = self.now_available {
            push(&mut self.available, at, available);
        }
        self.forget(table, at, out);
        for usage in self.largest(table) {
            let mut track = self.tracks.remove(&usage.process).unwrap_or_default();
            push(&mut track.points, at, usage.resident);
            self.judge(&mut track, usage, at, world, out);
            self.tracks.insert(usage.process, track);
        }
    }

    /// Whom to follow: the largest, and those of whom it was said that they grow.
    fn largest<'a>(&self, table: &'a [ProcessUsage]) -> Vec<&'a ProcessUsage> {
        let raised = |usage: &ProcessUsage| {
            let track = self.tracks.get(&usage.process);
            track.is_some_and(|track| track.raised.is_some())
        };
        let large = |usage: &&ProcessUsage| usage.resident >= self.config.min_resident.0;
        let mut all: Vec<(bool, &ProcessUsage)> = table
            .iter()
            .filter(large)
            .map(|usage| (raised(usage), usage))
            .collect();
        if all.len() > PROCESSES {
            all.select_nth_unstable_by_key(PROCESSES, |(raised, usage)| {
                std::cmp::Reverse((*raised, usage.resident))
            });
            all.truncate(PROCESSES);
        }
        all.into_iter().map(|(_, usage)| usage).collect()
    }

    /// Drops who is gone, has become small, or is not among the largest any more.
    fn forget(&mut self, table: &[ProcessUsage], at: Time, out: &mut Vec<Finding>) {
        let stay: HashSet<ProcessKey> = self
            .largest(table)
            .iter()
            .map(|usage| usage.process)
            .collect();
        self.tracks.retain(|process, track| {
            let stays = stay.contains(process);
            if !stays && let Some(subject) = track.raised.take() {
                let because = "the process is gone, or small by now".to_owned();
                out.push(Finding::Cleared {
                    subject,
                    seen: at,
                    because,
                });
            }
            stays
        });
    }

    fn judge(
        &self,
        track: &mut Track,
        usage: &ProcessUsage,
        at: Time,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let window = self.config.window.0;
        while track
            .points
            .front()
            .is_some_and(|point| at.since(point.at) > window)
        {
            track.points.pop_front();
        }
        let Some(first) = track.points.front().copied() else {
            return;
        };
        let grown = usage.resident.saturating_sub(first.bytes);
        // Not a fit for each process and table: most do not grow.
        if track.raised.is_none()
            && (grown < self.config.min_growth.0.max(1) || at.since(first.at) < window / 2)
        {
            return;
        }
        let trend = Trend::of(track.points.make_contiguous());
        let limit = self.nearest(usage, first, grown, world);
        let left = limit.as_ref().and_then(|limit| trend.reaches(limit.left));
        if let Some(subject) = &track.raised {
            if left.is_some_and(|left| left <= self.config.horizon.0.saturating_mul(2)) {
                return;
            }
            let because = format!("it grows by {} a minute", rate(trend.per_second));
            out.push(Finding::Cleared {
                subject: subject.clone(),
                seen: at,
                because,
            });
            track.raised = None;
            return;
        }
        let (Some(limit), Some(left)) = (limit, left) else {
            return;
        };
        if left > self.config.horizon.0 || !trend.is_steady() {
            return;
        }
        let subject = subject_of(world, usage.process, &usage.comm);
        track.raised = Some(subject.clone());
        let minutes = at.since(first.at).as_secs().div_ceil(60);
        let evidence = Evidence::at(at)
            .since(first.at)
            .about(usage.process, &usage.comm)
            .fact("growth a minute", rate(trend.per_second))
            .fact("grown", format!("{} in {minutes} min", mib(grown)))
            .fact("resident memory", mib(usage.resident))
            .fact("would use up", limit.what)
            .fact("in", format!("{} min", left.as_secs().div_ceil(60)));
        out.push(Finding::Raised {
            subject,
            severity: Severity::Warning,
            evidence,
        });
    }

    /// The limit with the least left of it.
    fn nearest(
        &self,
        usage: &ProcessUsage,
        first: Point,
        grown: u64,
        world: &World,
    ) -> Option<Limit> {
        let ceiling = world
            .service_of(usage.process)
            .and_then(|service| service.memory_max);
        let own = ceiling.map(|ceiling| Limit {
            what: format!("its memory_max of {}", Bytes(ceiling)),
            left: float(ceiling.saturating_sub(usage.resident)),
        });
        let mut then = self.available.iter().rev();
        let then = then.find(|point| point.at <= first.at);
        let then = then.or(self.available.front());
        let host = self.now_available.zip(then).and_then(|(now, then)| {
            // Pages of files count as resident, and are given up when they must.
            let shrinks = then.bytes.saturating_sub(now) >= grown / 4;
            shrinks.then(|| Limit {
                what: format!("the host's available memory, {}", mib(now)),
                left: float(now),
            })
        });
        match (own, host) {
            (Some(own), Some(host)) => Some(if own.left <= host.left { own } else { host }),
            (own, host) => own.or(host),
        }
    }
}

fn push(points: &mut VecDeque<Point>, at: Time, bytes: u64) {
    while points.len() > POINTS as usize {
        points.pop_front();
    }
    points.push_back(Point { at, bytes });
}

fn rate(per_second: f64) -> String {
    format!("{:.1} MiB", per_second * 60.0 / MIB)
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Sample {
                sample: Sample::Processes { processes },
            } => self.table(processes, at, world, out),
            Signal::Sample {
                sample: Sample::Memory { available, .. },
            } => self.now_available = Some(*available),
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
        self.config = config.memory_growth.clone();
    }
}
