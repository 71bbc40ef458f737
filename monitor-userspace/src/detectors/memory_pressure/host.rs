//! The host is short of memory: the kernel's pressure trigger fired within `window`, less than `available_min` is left, and what is
//! left is shrinking or the pressure persists (level and trend together: a trigger alone also fires for I/O, a level alone for a
//! cache that could be dropped).
//!
//! The victim is the fastest grower that the configuration names and whose end would cover the deficit; if none would, the largest
//! grower of all is named, which policy will only propose.

use std::collections::HashMap;

use super::super::subject_of;
use super::{Config, MIB, Reading, float, mib};
use crate::model::{Evidence, Finding, ProcessKey, ProcessUsage, Severity, Subject, Time, World};

/// What is known of the host's memory and of who takes it.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The two last tables, to see who grows.
    table: Vec<ProcessUsage>,
    growth: HashMap<ProcessKey, f64>,
    table_at: Option<Time>,
    memory: Option<Reading>,
    shrinking: bool,
    triggered: Option<(Time, u32)>,
    /// The subject raised for the host's memory, and the victim's process.
    raised: Option<(Subject, Option<ProcessKey>)>,
}

impl Host {
    /// The kernel's alarm.
    pub(super) fn triggered(&mut self, at: Time, some_avg10: u32) {
        self.triggered = Some((at, some_avg10));
    }

    pub(super) fn processes(&mut self, table: &[ProcessUsage], at: Time) {
        let elapsed = self
            .table_at
            .map_or(0.0, |last| at.since(last).as_secs_f64());
        let before: HashMap<ProcessKey, u64> = self
            .table
            .iter()
            .map(|usage| (usage.process, usage.resident))
            .collect();
        self.growth = table
            .iter()
            .filter_map(|usage| {
                let grown = usage.resident.saturating_sub(*before.get(&usage.process)?);
                (elapsed > 0.0).then(|| (usage.process, float(grown) / elapsed))
            })
            .collect();
        self.table = table.to_vec();
        self.table_at = Some(at);
    }

    /// The host's memory, total and available.
    pub(super) fn memory(
        &mut self,
        (total, available): (u64, u64),
        at: Time,
        config: &Config,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let now = Reading {
            at,
            resident: available,
        };
        self.shrinking = self
            .memory
            .is_none_or(|before| available <= before.resident);
        self.memory = Some(now);
        let minimum = float(total) * config.available_min.share();
        let enough = float(available) >= minimum;
        if enough {
            if let Some((subject, _)) = self.raised.take() {
                let because = format!("{} of memory are available", mib(available));
                out.push(Finding::Cleared {
                    subject,
                    seen: at,
                    because,
                });
            }
            return;
        }
        // One victim at a time: the next only when the last is gone and it was not enough.
        let gone = |process: &ProcessKey| !self.table.iter().any(|usage| usage.process == *process);
        let last_is_gone = matches!(&self.raised, Some((_, Some(process))) if gone(process));
        if last_is_gone && let Some((subject, _)) = self.raised.take() {
            let because = "that process is gone; the host is still short of memory".to_owned();
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
        let Some((triggered, some_avg10)) = self.triggered else {
            return;
        };
        if at.since(triggered) > config.window.0 || !self.shrinking || self.raised.is_some() {
            return;
        }
        let evidence = Evidence::at(at)
            .since(triggered)
            .fact("available memory", mib(available))
            .fact("least wanted", format!("{:.0} MiB", minimum / MIB))
            .fact(
                "stalled for memory (avg10)",
                format!("{:.2}%", f64::from(some_avg10) / 100.0),
            );
        let (subject, evidence) = match self.victim(minimum - float(available), world) {
            Some((subject, usage)) => {
                let growth = self.growth.get(&usage.process).copied().unwrap_or(0.0);
                let evidence = evidence
                    .about(usage.process, &usage.comm)
                    .fact("victim", format!("{} [{}]", usage.comm, usage.process.pid))
                    .fact("its resident memory", mib(usage.resident))
                    .fact("its growth", format!("{:.0} MiB/s", growth / MIB));
                (subject, evidence)
            }
            None => (Subject::Host, evidence.fact("victim", "none known")),
        };
        self.raised = Some((subject.clone(), evidence.process));
        out.push(Finding::Raised {
            subject,
            severity: Severity::Critical,
            evidence,
        });
    }

    /// Who should go to free this many bytes: what ten seconds of growth will have made the largest.
    fn victim(&self, deficit: f64, world: &World) -> Option<(Subject, &ProcessUsage)> {
        let score = |usage: &ProcessUsage| {
            let growth = self.growth.get(&usage.process).copied().unwrap_or(0.0);
            growth.mul_add(10.0, float(usage.resident))
        };
        let largest = |named: bool| {
            let candidates = self.table.iter().filter(|usage| {
                let group = world.groups.contains_key(&usage.comm);
                let is_named = group || world.service_of(usage.process).is_some();
                !named || (is_named && float(usage.resident) >= deficit)
            });
            candidates.max_by(|a, b| score(a).total_cmp(&score(b)))
        };
        let usage = largest(true).or_else(|| largest(false))?;
        Some((subject_of(world, usage.process, &usage.comm), usage))
    }
}
