//! A cgroup makes processes and threads faster than its limit.
//!
//! Consumes `fork_storm`, which comes once for each second in which the limit is crossed, at the crossing. A warning at the first;
//! critical when `seconds` of them follow each other, or when a guard in the kernel kills. Cleared when none came for `quiet`. The
//! subject is the service of the cgroup, else the process that forked: there is no subject for a cgroup, so its id is a fact.

use std::collections::BTreeMap;

use monitor_common::probes::fork_storm::ForkStorm;
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec, service_of_task, subject_of};
use crate::config::units::Span;
use crate::model::{
    Category, Evidence, Finding, ProcessKey, Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "fork_storm",
    summary: "a cgroup makes processes and threads faster than its limit",
    category: Category::System,
    symptom: false,
    needs: &[Kind::ForkStorm],
};

/// `[detectors.fork_storm]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How many seconds in a row over the limit are critical.
    pub seconds: u32,
    /// How long none may come before it is over.
    pub quiet: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            seconds: 3,
            quiet: Span::seconds(5),
        }
    }
}

/// Most cgroups that are followed at a time; a storm in one more is not seen until one of them is over.
const CGROUPS: usize = 256;
/// Seconds over the limit that begin further apart than this do not follow each other: a second begins with the first fork after
/// the one before.
const IN_A_ROW_NS: u64 = 2_000_000_000;
/// `guard` of an event whose guard also kills.
const KILLS: u32 = 2;

#[derive(Debug)]
struct Storm {
    subject: Subject,
    first: Time,
    last: Time,
    /// When the last second began, and how many came in a row.
    window_ns: u64,
    seconds: u32,
    critical: bool,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// By id of the cgroup.
    storms: BTreeMap<u64, Storm>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            storms: BTreeMap::new(),
        }
    }

    fn storm(&mut self, event: &ForkStorm, world: &World, out: &mut Vec<Finding>) {
        let seen = Time::from_kernel(event.header.time_ns);
        let cgroup = event.task.cgroup_id;
        if self.storms.len() >= CGROUPS && !self.storms.contains_key(&cgroup) {
            return;
        }
        let process = ProcessKey::from_task(&event.task);
        let mut fresh = false;
        let storm = self.storms.entry(cgroup).or_insert_with(|| {
            fresh = true;
            let subject = match service_of_task(world, &event.task) {
                Some(service) => Subject::service(&service.name),
                None => subject_of(world, process, event.task.comm()),
            };
            Storm {
                subject,
                first: seen,
                last: seen,
                window_ns: event.window_ns,
                seconds: 1,
                critical: false,
            }
        });
        storm.last = storm.last.max(seen);
        match event.window_ns.wrapping_sub(storm.window_ns) {
            0 => {}
            1..=IN_A_ROW_NS => storm.seconds = storm.seconds.saturating_add(1),
            _ => storm.seconds = 1,
        }
        storm.window_ns = event.window_ns;
        let killing = event.guard == KILLS && event.killed > 0;
        let critical = killing || storm.seconds >= self.config.seconds;
        let worse = critical && !storm.critical;
        if !fresh && !worse {
            return;
        }
        storm.critical = critical;
        let evidence = Evidence::at(seen)
            .from_probe(Kind::ForkStorm)
            .since(storm.first)
            .about(process, event.task.comm());
        out.push(Finding::Raised {
            subject: storm.subject.clone(),
            severity: if critical {
                Severity::Critical
            } else {
                Severity::Warning
            },
            evidence: facts(evidence, event, storm.seconds),
        });
    }
}

fn facts(evidence: Evidence, event: &ForkStorm, seconds: u32) -> Evidence {
    let seen = Time::from_kernel(event.header.time_ns);
    let took = seen.since(Time::from_kernel(event.window_ns));
    // Not finer than a millisecond: a rate from less is noise.
    let millis = u64::try_from(took.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, 1_000);
    let rate = u64::from(event.forks).saturating_mul(1_000) / millis;
    let guard = match event.guard {
        0 => "not armed",
        KILLS => "armed, kills",
        _ => "armed, only reports",
    };
    evidence
        .fact("forks a second", rate)
        .fact(
            "limit",
            format!("{} a second, crossed after {millis} ms", event.limit),
        )
        .fact("seconds in a row over it", seconds)
        .fact("guard in the kernel", guard)
        .fact("killed by the guard so far", event.killed)
        .fact(
            "forks",
            format!("{} [{}]", event.task.comm(), event.task.pid),
        )
        .fact("cgroup", event.task.cgroup_id)
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, _at: Time, world: &World, out: &mut Vec<Finding>) {
        if let Signal::Kernel {
            event: Event::ForkStorm(event),
        } = signal
        {
            self.storm(event, world, out);
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let quiet = self.config.quiet.0;
        let mut over = Vec::new();
        self.storms.retain(|_, storm| {
            // A time that has not come yet would hold its place for ever.
            storm.last = storm.last.min(at);
            let stays = at < storm.last.after(quiet);
            if !stays {
                over.push(storm.subject.clone());
            }
            stays
        });
        for subject in over {
            // A service may have more than one cgroup.
            if self.storms.values().any(|storm| storm.subject == subject) {
                continue;
            }
            let because = format!("no second over the limit for {}", self.config.quiet);
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
    }

    fn wake(&self) -> Option<Time> {
        let lasts = self.storms.values().map(|storm| storm.last);
        lasts.map(|last| last.after(self.config.quiet.0)).min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.fork_storm.clone();
    }
}
