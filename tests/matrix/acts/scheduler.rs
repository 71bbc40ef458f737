//! Waiting: for a CPU, for a lock; and the load of the benchmarks, which comes with system calls.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};

use anyhow::{Context as _, Result, anyhow, ensure};
use monitor_common::{Event, Kind};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use smart_monitor::kernel::Kernel;

use crate::group::Group;
use crate::part::{Actor, Part};
use crate::stage::Stage;

/// How often two threads give each other the CPU.
const TURNS: u32 = 20;

/// Two threads that wake each other on one CPU.
fn turns(_: &mut Kernel) -> Result<()> {
    let (mut to_other, mut from_here) = pair()?;
    let (mut to_here, mut from_other) = pair()?;
    let other = std::thread::Builder::new().spawn(move || -> Result<()> {
        stay()?;
        for _ in 0..TURNS {
            to_other.read_exact(&mut [0])?;
            from_other.write_all(&[0])?;
        }
        Ok(())
    })?;
    let here = std::thread::Builder::new().spawn(move || -> Result<()> {
        stay()?;
        for _ in 0..TURNS {
            from_here.write_all(&[0])?;
            to_here.read_exact(&mut [0])?;
        }
        Ok(())
    })?;
    for thread in [other, here] {
        thread.join().map_err(|_| anyhow!("a thread died"))??;
    }
    Ok(())
}

fn pair() -> Result<(PipeReader, PipeWriter)> {
    Ok(std::io::pipe()?)
}

/// Keeps this thread on the first CPU that it may run on.
pub(super) fn stay() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(first.context("no CPU is allowed")?);
    Ok(sched_setaffinity(None, &one)?)
}

pub(super) fn run_queue_latency(stage: &mut Stage) -> Result<()> {
    stage.see(turns, |(), event| {
        matches!(event, Event::RunQueueLatency(wait) if wait.task.pid == std::process::id())
    })
}

/// A lock inside the kernel: kernels that do not tell the system call take it for I/O, and tell it as well.
pub(super) fn off_cpu(stage: &mut Stage) -> Result<()> {
    let contended = |kernel: &mut Kernel| {
        let group = Group::new()?;
        let mut actor = Actor::new(Part::Contend)?;
        group.take(actor.pid())?;
        kernel.cgroups().watch(group.id()?)?;
        actor.go()?;
        // In this order they are dropped: who is in the cgroup, the cgroup.
        Ok((actor, group))
    };
    stage.see(
        contended,
        |(actor, _), event| matches!(event, Event::OffCpu(wait) if wait.task.pid == actor.pid()),
    )
}

pub(super) fn bench_load(stage: &mut Stage) -> Result<()> {
    let own = std::process::id();
    let called = |kernel: &mut Kernel| {
        kernel.bench().set(own, 1)?;
        rustix::thread::sched_yield();
        Ok(kernel.bench().set(own, 0)?)
    };
    stage.see(
        called,
        |(), event| matches!(event, Event::BenchLoad(load) if load.task.pid == own),
    )
}

/// It tells nothing, and it is enough that it runs.
pub(super) fn bench_empty(stage: &mut Stage) -> Result<()> {
    turns(&mut stage.kernel)?;
    let costs = stage.kernel.programs().costs();
    let ran = costs
        .iter()
        .any(|cost| cost.probe == Kind::BenchEmpty && cost.run_count > 0);
    ensure!(ran, "it has not run");
    Ok(())
}
