//! The kernel killed a process for lack of memory.
//!
//! Consumes `oom_kill`. The end of a service's main process is `service_down`'s, which takes the kill as its cause; every other
//! victim is an incident here, of its service where it belongs to one. Victims of one name in one cgroup are one incident.
//! Nothing shows that it is over but time: cleared when no other followed for `hold`.

use std::collections::BTreeMap;

use monitor_common::probes::oom_kill::{CAUSE_CGROUP, CAUSE_HOST, OomKill};
use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::memory_pressure::mib;
use super::{Detector, Spec, service_of_task, subject_of};
use crate::config::units::Span;
use crate::model::{
    Category, Evidence, Finding, ProcessKey, Severity, Signal, Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "oom_killed",
    summary: "the kernel killed a process for lack of memory",
    category: Category::System,
    symptom: false,
    needs: &[Kind::OomKill],
};

/// `[detectors.oom_killed]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How long no other may be killed before it is over.
    pub hold: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            hold: Span::seconds(60),
        }
    }
}

/// Most kinds of victim that are followed at a time; more are only counted.
const KINDS: usize = 256;

#[derive(Debug)]
struct Track {
    subject: Subject,
    last: Time,
    victims: u64,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    /// By cgroup and name of the victims.
    tracks: BTreeMap<(u64, [u8; 16]), Track>,
    /// Victims for which there was no room since the last that had one.
    unfollowed: u64,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tracks: BTreeMap::new(),
            unfollowed: 0,
        }
    }

    fn killed(&mut self, event: &OomKill, world: &World, out: &mut Vec<Finding>) {
        let process = ProcessKey::from_task(&event.task);
        if world.service_of(process).is_some() {
            return;
        }
        let seen = Time::from_kernel(event.header.time_ns);
        let key = (event.task.cgroup_id, event.task.comm);
        if let Some(track) = self.tracks.get_mut(&key) {
            track.last = track.last.max(seen);
            track.victims = track.victims.saturating_add(1);
            return;
        }
        if self.tracks.len() >= KINDS {
            self.unfollowed = self.unfollowed.saturating_add(1);
            return;
        }
        let subject = match service_of_task(world, &event.task) {
            Some(service) => Subject::service(&service.name),
            None => subject_of(world, process, event.task.comm()),
        };
        self.tracks.insert(
            key,
            Track {
                subject: subject.clone(),
                last: seen,
                victims: 1,
            },
        );
        let evidence = Evidence::at(seen)
            .from_probe(Kind::OomKill)
            .about(process, event.task.comm())
            .fact(
                "victim",
                format!("{} [{}]", event.task.comm(), event.task.pid),
            );
        let mut evidence = facts(evidence, event);
        if self.unfollowed > 0 {
            let unfollowed = std::mem::take(&mut self.unfollowed);
            evidence = evidence.fact("victims not listed before", unfollowed);
        }
        out.push(Finding::Raised {
            subject,
            severity: Severity::Critical,
            evidence,
        });
    }
}

/// What the victim held, and why it had to go.
pub(super) fn facts(evidence: Evidence, event: &OomKill) -> Evidence {
    let page = rustix::param::page_size() as u64;
    let held = |pages: u64| mib(pages.saturating_mul(page));
    let cause = match event.cause {
        CAUSE_HOST => "the host's memory was short".to_owned(),
        CAUSE_CGROUP => format!(
            "a cgroup's limit was reached (cgroup {} or one above it)",
            event.task.cgroup_id
        ),
        _ => "not known (asked for by a person, or no reclaim was seen)".to_owned(),
    };
    let length = event.trigger_comm.iter().position(|byte| *byte == 0);
    let name = event.trigger_comm.get(..length.unwrap_or(16));
    let trigger = String::from_utf8_lossy(name.unwrap_or_default());
    evidence
        .fact("why", cause)
        .fact("held, anonymous", held(event.anon_pages))
        .fact("held, of files", held(event.file_pages))
        .fact("held, shared", held(event.shmem_pages))
        .fact(
            "memory was asked for by",
            format!("{trigger} [{}]", event.trigger_pid),
        )
        .fact("oom_score_adj", event.oom_score_adj)
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, _at: Time, world: &World, out: &mut Vec<Finding>) {
        if let Signal::Kernel {
            event: Event::OomKill(event),
        } = signal
        {
            self.killed(event, world, out);
        }
    }

    fn tick(&mut self, at: Time, _world: &World, out: &mut Vec<Finding>) {
        let hold = self.config.hold.0;
        let mut over = Vec::new();
        self.tracks.retain(|_, track| {
            // A time that has not come yet would hold its place for ever.
            track.last = track.last.min(at);
            let stays = at < track.last.after(hold);
            if !stays {
                over.push((track.subject.clone(), track.victims));
            }
            stays
        });
        for (subject, victims) in over {
            // A service may have victims of several names.
            if self.tracks.values().any(|track| track.subject == subject) {
                continue;
            }
            let because = format!("no other victim for {}; {victims} in all", self.config.hold);
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
    }

    fn wake(&self) -> Option<Time> {
        let lasts = self.tracks.values().map(|track| track.last);
        lasts.map(|last| last.after(self.config.hold.0)).min()
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.oom_killed.clone();
    }
}
