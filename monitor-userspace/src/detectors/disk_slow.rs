//! A disk takes long for its requests, or requests wait long for it.
//!
//! Consumes `block_io`, of which there is one for each request over `block_threshold` of `[kernel]`. Raised when `requests` of them
//! came within `window`; cleared when none came for `quiet`. Says whether the disk is slow or there is too much for it, and whose the
//! most of those requests are. Only reported.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use monitor_common::probes::block_io::{BlockIo, UNKNOWN};
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::disk_error::{about, subject};
use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::{Category, Finding, Severity, Signal, Time, World};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "disk_slow",
    summary: "a disk takes long for its requests, or requests wait long for it",
    category: Category::Data,
    symptom: false,
    needs: &[Kind::BlockIo],
};

/// `[detectors.disk_slow]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How many slow requests there must be.
    pub requests: u32,
    /// Within which time.
    pub window: Span,
    /// How long there must be none before it is over.
    pub quiet: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            requests: 20,
            window: Span::seconds(10),
            quiet: Span::seconds(30),
        }
    }
}

/// Most disks that are followed; one more is not seen until one of them is quiet.
const DISKS: usize = 64;
/// Most requests that are remembered of a disk.
const REQUESTS: usize = 256;

#[derive(Clone, Debug)]
struct Slow {
    at: Time,
    longest_ns: u64,
    /// It waited for its turn for longer than the disk took for it.
    held_back: bool,
    who: String,
}

#[derive(Debug, Default)]
struct Track {
    slow: VecDeque<Slow>,
    last: Time,
    raised: bool,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    disks: BTreeMap<String, Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            disks: BTreeMap::new(),
        }
    }

    fn slow(&mut self, event: &BlockIo, at: Time, out: &mut Vec<Finding>) {
        // A time that has not come yet would hold its place for ever.
        let seen = Time::from_kernel(event.header.time_ns).min(at);
        let name = event.disk();
        if self.disks.len() >= DISKS && !self.disks.contains_key(name) {
            return;
        }
        let wanted = usize::try_from(self.config.requests)
            .unwrap_or(REQUESTS)
            .clamp(1, REQUESTS);
        let track = self.disks.entry(name.to_owned()).or_default();
        track.last = track.last.max(seen);
        if track.slow.len() >= wanted {
            track.slow.pop_front();
        }
        track.slow.push_back(Slow {
            at: seen,
            longest_ns: event.longest_ns(),
            held_back: event.queued_ns != UNKNOWN
                && (event.device_ns == UNKNOWN || event.queued_ns > event.device_ns),
            who: match event.task.pid {
                0 => "unknown".to_owned(),
                pid => format!("{} [{pid}]", event.task.comm()),
            },
        });
        let window = self.config.window.0;
        track.slow.retain(|slow| seen.since(slow.at) <= window);
        if track.raised || track.slow.len() < wanted {
            return;
        }
        track.raised = true;
        out.push(raise(event, seen, &track.slow));
    }
}

fn raise(event: &BlockIo, seen: Time, slow: &VecDeque<Slow>) -> Finding {
    let longest = slow.iter().map(|slow| slow.longest_ns).max().unwrap_or(0);
    let held_back = slow.iter().filter(|slow| slow.held_back).count();
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for slow in slow {
        *makers.entry(&slow.who).or_default() += 1;
    }
    let most = makers.iter().max_by_key(|(_, count)| **count);
    let since = slow.front().map_or(seen, |slow| slow.at);
    let mut evidence = about(event, seen)
        .since(since)
        .fact(
            "slow requests",
            format!("{} in {:.1?}", slow.len(), seen.since(since)),
        )
        .fact("longest", format!("{:.1?}", Duration::from_nanos(longest)))
        .fact("of them mostly held back before the disk", held_back);
    if let Some((who, count)) = most {
        evidence = evidence.fact("most of them made by", format!("{who}, {count}"));
    }
    Finding::Raised {
        subject: subject(event.disk()),
        severity: Severity::Warning,
        evidence,
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, _world: &World, out: &mut Vec<Finding>) {
        if let Signal::Kernel {
            event: Event::BlockIo(event),
        } = signal
            && event.status == 0
        {
            self.slow(event, at, out);
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let quiet = self.config.quiet.0;
        self.disks.retain(|name, track| {
            let stays = at < track.last.after(quiet);
            if !stays && track.raised {
                out.push(Finding::Cleared {
                    subject: subject(name),
                    seen: at,
                    because: format!("no slow request for {}", self.config.quiet),
                });
            }
            stays
        });
    }

    fn wake(&self) -> Option<Time> {
        let lasts = self.disks.values().map(|track| track.last);
        lasts.map(|last| last.after(self.config.quiet.0)).min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.disk_slow.clone();
    }
}
