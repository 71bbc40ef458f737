//! Requests to a disk fail.
//!
//! Consumes `block_io`. A warning when `errors` of them failed within `window`; critical as soon as one of those is a write or a
//! flush, since then what programs believe to be stored may not be. Cleared when none failed for `quiet`. Only reported: what a disk
//! needs is a person.

use std::collections::BTreeMap;

use monitor_common::probes::block_io::{BlockIo, Operation};
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec};
use crate::config::units::Span;
use crate::model::{
    Category, Evidence, Finding, ProcessKey, Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "disk_error",
    summary: "requests to a disk fail",
    category: Category::Data,
    symptom: false,
    needs: &[Kind::BlockIo],
};

/// `[detectors.disk_error]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How many requests must fail.
    pub errors: u32,
    /// Within which time.
    pub window: Span,
    /// How long none may fail before it is over.
    pub quiet: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            errors: 3,
            window: Span::seconds(60),
            quiet: Span::seconds(300),
        }
    }
}

/// Most disks that are followed; one more is not seen until one of them is quiet.
const DISKS: usize = 64;

#[derive(Debug)]
struct Track {
    first: Time,
    last: Time,
    /// Failures since `first`, by operation.
    errors: [u32; Operation::ALL.len()],
    raised: Option<Severity>,
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

    fn failure(&mut self, event: &BlockIo, at: Time, out: &mut Vec<Finding>) {
        // A time that has not come yet would hold its place for ever.
        let seen = Time::from_kernel(event.header.time_ns).min(at);
        let name = event.disk();
        if self.disks.len() >= DISKS && !self.disks.contains_key(name) {
            return;
        }
        let fresh = Track {
            first: seen,
            last: seen,
            errors: [0; 4],
            raised: None,
        };
        let track = self.disks.entry(name.to_owned()).or_insert(fresh);
        if track.raised.is_none() && seen.since(track.first) > self.config.window.0 {
            track.first = seen;
            track.errors = [0; 4];
        }
        track.last = track.last.max(seen);
        let operation = Operation::from_number(event.operation).unwrap_or(Operation::Other);
        if let Some(count) = track.errors.get_mut(operation as usize) {
            *count = count.saturating_add(1);
        }
        let [reads, writes, flushes, others] = track.errors;
        let all = [reads, writes, flushes, others]
            .iter()
            .fold(0_u32, |sum, count| sum.saturating_add(*count));
        let severity = if writes > 0 || flushes > 0 {
            Severity::Critical
        } else {
            Severity::Warning
        };
        if all < self.config.errors || track.raised >= Some(severity) {
            return;
        }
        track.raised = Some(severity);
        let failures =
            format!("{reads} reads, {writes} writes, {flushes} flushes, {others} others");
        out.push(Finding::Raised {
            subject: subject(name),
            severity,
            evidence: about(event, seen)
                .since(track.first)
                .fact("failed", failures)
                .fact("error", error(event))
                .fact("last at sector", event.sector),
        });
    }
}

/// A disk as a subject.
pub(super) fn subject(name: &str) -> Subject {
    Subject::Device {
        name: name.to_owned(),
    }
}

/// Evidence with the process that made the request, where that is known.
pub(super) fn about(event: &BlockIo, seen: Time) -> Evidence {
    let evidence = Evidence::at(seen).from_probe(Kind::BlockIo);
    if event.task.pid == 0 {
        return evidence.fact("process", "unknown");
    }
    let (pid, comm) = (event.task.pid, event.task.comm());
    evidence
        .about(ProcessKey::from_task(&event.task), comm)
        .fact("process", format!("{comm} [{pid}]"))
}

fn error(event: &BlockIo) -> std::io::Error {
    std::io::Error::from_raw_os_error(i32::try_from(event.error()).unwrap_or(i32::MAX))
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, _world: &World, out: &mut Vec<Finding>) {
        if let Signal::Kernel {
            event: Event::BlockIo(event),
        } = signal
            && event.status != 0
        {
            self.failure(event, at, out);
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let quiet = self.config.quiet.0;
        self.disks.retain(|name, track| {
            let stays = at < track.last.after(quiet);
            if !stays && track.raised.is_some() {
                out.push(Finding::Cleared {
                    subject: subject(name),
                    seen: at,
                    because: format!("no request failed for {}", self.config.quiet),
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
        self.config = config.disk_error.clone();
    }
}
