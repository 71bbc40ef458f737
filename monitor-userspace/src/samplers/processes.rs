//! The process table: one read of the task iterator, or `/proc` where that is off.

use std::collections::HashMap;

use monitor_common::probes::task_snapshot::{FLAG_KERNEL_THREAD, FLAG_LEADER, TaskSnapshot};
use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::procfs;
use crate::kernel::Snapshot;
use crate::model::{self, ProcessKey, ProcessUsage, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "processes",
    summary: "the process table: CPU time and memory of every process",
};

/// `[samplers.processes]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings.
    pub interval: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::seconds(1),
        }
    }
}

/// Nanoseconds in one tick of `/proc/PID/stat`.
const NANOS_PER_TICK: u64 = 10_000_000;

impl Config {
    /// Whether it can be run without eating the host.
    pub fn resolve(&self) -> Result<(), String> {
        super::not_too_often("interval", self.interval, Span::millis(50))
    }
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    interval: Span,
    snapshot: Option<Snapshot>,
    buffer: Vec<TaskSnapshot>,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            interval: config.interval,
            snapshot: sources.snapshot.take(),
            buffer: Vec::new(),
        }
    }

    fn table(&mut self) -> std::io::Result<Vec<ProcessUsage>> {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.read(&mut self.buffer)?;
            return Ok(add_up(&self.buffer, procfs::page_size()));
        }
        let table = procfs::processes()?.into_iter().map(|stat| ProcessUsage {
            process: stat.key,
            comm: stat.comm,
            cpu_ns: stat.cpu_ticks.saturating_mul(NANOS_PER_TICK),
            resident: stat.resident_pages.saturating_mul(procfs::page_size()),
        });
        // Kernel threads have no memory of their own.
        Ok(table.filter(|usage| usage.resident > 0).collect())
    }
}

/// Threads to processes.
fn add_up(threads: &[TaskSnapshot], page_size: u64) -> Vec<ProcessUsage> {
    let mut others: HashMap<u32, u64> = HashMap::new();
    let users = || {
        threads
            .iter()
            .filter(|thread| thread.flags & FLAG_KERNEL_THREAD == 0)
    };
    for thread in users().filter(|thread| thread.flags & FLAG_LEADER == 0) {
        let cpu = others.entry(thread.task.pid).or_default();
        *cpu = cpu.saturating_add(thread.cpu_ns);
    }
    let leaders = users().filter(|thread| thread.flags & FLAG_LEADER != 0);
    leaders
        .map(|leader| ProcessUsage {
            process: ProcessKey::from_task(&leader.task),
            comm: leader.task.comm().to_owned(),
            cpu_ns: leader
                .cpu_ns
                .saturating_add(others.get(&leader.task.pid).copied().unwrap_or(0)),
            resident: leader.rss_pages.saturating_mul(page_size),
        })
        .collect()
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        match self.table() {
            Ok(processes) => out.push((now, model::Sample::Processes { processes })),
            Err(error) => tracing::warn!(%error, "cannot read the process table"),
        }
        now.after(self.interval.0)
    }

    fn wants_pressure(&self) -> bool {
        true
    }

    fn limitation(&self) -> Option<String> {
        let off = "the process table is read from /proc, at more cost: the task iterator is off";
        self.snapshot.is_none().then(|| off.to_owned())
    }
}
