//! The process table: one read of the task iterator, or `/proc` where that is off.

use std::collections::HashMap;

use monitor_common::probes::task_snapshot::{FLAG_KERNEL_THREAD, FLAG_LEADER, TaskSnapshot};
use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::procfs;
use crate::kernel::Snapshot;
use crate::model::{self, BLOCKED, BlockedThread, ProcessKey, ProcessUsage, Time};

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
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        });
        // Kernel threads have no memory of their own.
        Ok(table.filter(|usage| usage.resident > 0).collect())
    }
}

/// What the threads of a process have together.
#[derive(Debug, Default)]
struct Sum {
    cpu_ns: u64,
    major_faults: u64,
    run_delay_ns: u64,
    blocked: Vec<BlockedThread>,
}

impl Sum {
    fn add(&mut self, thread: &TaskSnapshot) {
        self.cpu_ns = self.cpu_ns.saturating_add(thread.cpu_ns);
        self.major_faults = self.major_faults.saturating_add(thread.major_faults);
        self.run_delay_ns = self.run_delay_ns.saturating_add(thread.run_delay_ns);
        if thread.is_uninterruptible() && self.blocked.len() < BLOCKED {
            self.blocked.push(BlockedThread {
                tid: thread.task.tid,
                switches: thread.switches,
            });
        }
    }
}

/// Threads to processes.
fn add_up(threads: &[TaskSnapshot], page_size: u64) -> Vec<ProcessUsage> {
    let mut others: HashMap<u32, Sum> = HashMap::new();
    let users = || {
        threads
            .iter()
            .filter(|thread| thread.flags & FLAG_KERNEL_THREAD == 0)
    };
    for thread in users().filter(|thread| thread.flags & FLAG_LEADER == 0) {
        others.entry(thread.task.pid).or_default().add(thread);
    }
    let leaders = users().filter(|thread| thread.flags & FLAG_LEADER != 0);
    leaders
        .map(|leader| {
            let mut sum = others.remove(&leader.task.pid).unwrap_or_default();
            sum.add(leader);
            ProcessUsage {
                process: ProcessKey::from_task(&leader.task),
                comm: leader.task.comm().to_owned(),
                cpu_ns: sum.cpu_ns,
                resident: leader.rss_pages.saturating_mul(page_size),
                major_faults: sum.major_faults,
                run_delay_ns: sum.run_delay_ns,
                blocked: sum.blocked,
            }
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
