//! Ceilings that the kernel itself watches: `memory_ceiling` tells of the crossing at the very page, and may have killed at it.
//!
//! For a service's main process it is the condition that the readings of `service_memory` show, only sooner; they clear it too. Of
//! any other process it is over when a table shows it below, or it is gone; of a cgroup, which is told of again and again while its
//! members take more, when nothing was told for `QUIET`. Who was spared is never the one to be ended: it is named by no group.

use std::collections::BTreeMap;
use std::time::Duration;

use monitor_common::Kind;
use monitor_common::probes::memory_ceiling::{
    KILLED, MemoryCeiling, OBSERVED, REFUSED, SPARED, Scope,
};

use super::super::subject_of;
use super::mib;
use crate::model::{Evidence, Finding, ProcessKey, ProcessUsage, Severity, Subject, Time, World};

/// Most crossings that are followed at a time; more are raised when there is room.
const CROSSINGS: usize = 256;
/// The kernel tells of a cgroup over its ceiling ten times a second while its members take more.
const QUIET: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Crossing {
    subject: Subject,
    severity: Severity,
    limit: u64,
    last: Time,
}

/// What a crossing is of: one process, or a cgroup of the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Process(ProcessKey),
    Cgroup(u64),
}

/// Crossings that are not told by readings of a service's memory.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    open: BTreeMap<Of, Crossing>,
}

impl Crossings {
    pub(super) fn take(
        &mut self,
        event: &MemoryCeiling,
        service: Option<&str>,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let process = ProcessKey::from_task(&event.task);
        let of = match event.scope() {
            Scope::Process => Of::Process(process),
            Scope::Cgroup => Of::Cgroup(event.memory_cgroup_id),
        };
        let seen = Time::from_kernel(event.header.time_ns);
        let own = service.is_none() || world.service_of(process).is_some();
        let severity = match event.verdict {
            // Nobody to blame yet; or a worker was, and is gone: no reason to end the service.
            SPARED => Severity::Warning,
            KILLED if !own => Severity::Warning,
            _ => Severity::Critical,
        };
        if let Some(crossing) = self.open.get_mut(&of) {
            crossing.last = crossing.last.max(seen);
            // Only a kill is news of a crossing that is known, and what makes it worse.
            if event.verdict != KILLED && severity <= crossing.severity {
                return;
            }
        } else if self.open.len() >= CROSSINGS {
            return;
        }
        let subject = match service {
            Some(name) => Subject::service(name),
            None if event.verdict == SPARED => Subject::Process {
                process,
                comm: event.task.comm().to_owned(),
                group: None,
            },
            None => subject_of(world, process, event.task.comm()),
        };
        let before = self.open.insert(
            of,
            Crossing {
                subject: subject.clone(),
                severity,
                limit: bytes(event.limit_pages),
                last: seen,
            },
        );
        let other = before.filter(|before| before.subject != subject);
        if let Some(other) = other {
            let because = format!("the kernel turned to {}", event.task.comm());
            out.push(Finding::Cleared {
                subject: other.subject,
                seen,
                because,
            });
        }
        out.push(Finding::Raised {
            subject,
            severity,
            evidence: evidence(event),
        });
    }

    /// Whether one of a cgroup of this service is open.
    pub(super) fn has(&self, service: &str) -> bool {
        let mut open = self.open.values();
        open.any(|crossing| {
            crossing.subject.configured_name() == Some(service) && is_service(crossing)
        })
    }

    /// The service has ended or was started anew: whether one was open.
    pub(super) fn forget(&mut self, service: &str) -> bool {
        let had = self.has(service);
        self.open.retain(|_, crossing| {
            !is_service(crossing) || crossing.subject.configured_name() != Some(service)
        });
        had
    }

    /// A table shows who is below its ceiling again, or gone.
    pub(super) fn table(&mut self, table: &[ProcessUsage]) -> Vec<(Subject, String)> {
        self.clear(|of, crossing| {
            let Of::Process(process) = of else {
                return None;
            };
            match table.iter().find(|usage| usage.process == *process) {
                None => Some("the process is gone".to_owned()),
                Some(usage) if usage.resident <= crossing.limit => {
                    Some(format!("its resident memory is {}", mib(usage.resident)))
                }
                Some(_) => None,
            }
        })
    }

    pub(super) fn ended(&mut self, process: ProcessKey) -> Vec<(Subject, String)> {
        self.clear(|of, _| (*of == Of::Process(process)).then(|| "it ended".to_owned()))
    }

    /// Cgroups of which nothing was told for a while.
    pub(super) fn quiet(&mut self, at: Time) -> Vec<(Subject, String)> {
        for crossing in self.open.values_mut() {
            // A time that has not come yet would hold its place for ever.
            crossing.last = crossing.last.min(at);
        }
        self.clear(|of, crossing| {
            let quiet = matches!(of, Of::Cgroup(_)) && at >= crossing.last.after(QUIET);
            quiet.then(|| format!("it took no memory over its ceiling for {QUIET:?}"))
        })
    }

    pub(super) fn wake(&self) -> Option<Time> {
        let cgroups = self.open.iter();
        let cgroups = cgroups.filter(|(of, _)| matches!(of, Of::Cgroup(_)));
        cgroups
            .map(|(_, crossing)| crossing.last.after(QUIET))
            .min()
    }

    fn clear(&mut self, over: impl Fn(&Of, &Crossing) -> Option<String>) -> Vec<(Subject, String)> {
        let mut cleared = Vec::new();
        self.open.retain(|of, crossing| {
            let because = over(of, crossing);
            let stays = because.is_none();
            cleared.extend(because.map(|because| (crossing.subject.clone(), because)));
            stays
        });
        cleared
    }
}

const fn is_service(crossing: &Crossing) -> bool {
    matches!(crossing.subject, Subject::Service { .. })
}

/// What the kernel saw, and did.
pub(super) fn evidence(event: &MemoryCeiling) -> Evidence {
    let over = event.used_pages.saturating_sub(event.limit_pages);
    let verdict = match event.verdict {
        OBSERVED => "nothing, it only observes",
        KILLED => "SIGKILL sent in the kernel",
        SPARED => "spared: it holds too small a share to be to blame",
        REFUSED => "the kernel refused to send SIGKILL",
        _ => "not known",
    };
    let used = match event.scope() {
        Scope::Process => "resident memory",
        Scope::Cgroup => "memory of its cgroup",
    };
    let mut evidence = Evidence::at(Time::from_kernel(event.header.time_ns))
        .from_probe(Kind::MemoryCeiling)
        .about(ProcessKey::from_task(&event.task), event.task.comm())
        .fact(used, mib(bytes(event.used_pages)))
        .fact("ceiling", mib(bytes(event.limit_pages)))
        .fact("over it by", format!("{} KiB", bytes(over) / 1024))
        .fact("done at the crossing", verdict);
    if event.scope() == Scope::Cgroup {
        evidence = evidence
            .fact(
                "of which the process holds",
                mib(bytes(event.resident_pages)),
            )
            .fact("cgroup of the memory controller", event.memory_cgroup_id);
    }
    evidence.killed_in_kernel = event.verdict == KILLED;
    evidence
}

pub(super) fn bytes(pages: u64) -> u64 {
    pages.saturating_mul(rustix::param::page_size() as u64)
}
