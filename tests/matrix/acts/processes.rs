//! The life of processes.

use anyhow::{Context as _, Result, ensure};
use monitor_common::Event;
use monitor_common::probes::process_exit::Ending;
use smart_monitor::kernel::Kernel;

use crate::part::{Actor, Part};
use crate::stage::{FORKS, Stage};

/// A child that has ended with its exit code.
fn ended(_: &mut Kernel) -> Result<Actor> {
    let mut actor = Actor::new(Part::Exit)?;
    actor.go()?;
    actor.wait()?;
    Ok(actor)
}

pub(super) fn exec(stage: &mut Stage) -> Result<()> {
    stage.see(ended, |child, event| {
        matches!(event, Event::ProcessExec(exec)
            if exec.task.pid == child.pid() && exec.parent_pid == std::process::id())
    })
}

pub(super) fn fork(stage: &mut Stage) -> Result<()> {
    stage.see(ended, |child, event| {
        matches!(event, Event::ProcessFork(fork)
            if fork.task.pid == child.pid() && fork.parent_pid == std::process::id())
    })
}

pub(super) fn exit(stage: &mut Stage) -> Result<()> {
    stage.see(ended, |child, event| {
        matches!(event, Event::ProcessExit(exit)
            if exit.task.pid == child.pid() && exit.ending() == Ending::Code(7))
    })
}

pub(super) fn signal(stage: &mut Stage) -> Result<()> {
    const SIGKILL: u32 = 9;
    let killed = |_: &mut Kernel| {
        let mut actor = Actor::new(Part::Exit)?;
        actor.kill()?;
        Ok(actor)
    };
    stage.see(killed, |child, event| {
        matches!(event, Event::ProcessSignal(signal)
            if signal.task.pid == child.pid() && signal.signal == SIGKILL && signal.sender_pid == std::process::id())
    })
}

/// Threads count as well, and cost less.
pub(super) fn fork_storm(stage: &mut Stage) -> Result<()> {
    let storm = |_: &mut Kernel| {
        for _ in 0..4 * FORKS {
            let thread = std::thread::Builder::new().spawn(|| ())?;
            ensure!(thread.join().is_ok(), "a thread died");
        }
        Ok(())
    };
    stage.see(storm, |(), event| {
        matches!(event, Event::ForkStorm(storm)
            if storm.task.pid == std::process::id() && storm.limit == FORKS)
    })
}

/// The table is read, not told: this process and a child of its own stand in it.
pub(super) fn snapshot(stage: &mut Stage) -> Result<()> {
    let snapshot = stage.kernel.take_snapshot();
    let mut snapshot = snapshot.context("there is no process table")?;
    let child = Actor::new(Part::Exit)?;
    let mut tasks = Vec::new();
    snapshot.read(&mut tasks)?;
    let found = tasks
        .iter()
        .any(|task| task.task.pid == child.pid() && task.parent_pid == std::process::id());
    ensure!(found, "a child is not among {} tasks", tasks.len());
    Ok(())
}
