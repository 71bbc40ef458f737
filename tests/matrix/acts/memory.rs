//! Memory: too little of it in a cgroup of the act's own, and a ceiling of a process.

use anyhow::{Context as _, Result};
use monitor_common::Event;
use monitor_common::probes::direct_reclaim::{SCOPE_CGROUP, SCOPE_HOST};
use monitor_common::probes::memory_ceiling::KILLED;
use smart_monitor::host::procfs;
use smart_monitor::kernel::{Guard, Guarded, Kernel};

use crate::group::Group;
use crate::part::{Actor, Part};
use crate::stage::Stage;

/// What the hog's cgroup, or a process with a ceiling, may hold.
const LIMIT: u64 = 24 << 20;

/// A process that took memory in a cgroup with a limit until it was killed. No other process can be the victim.
fn starved(_: &mut Kernel) -> Result<Actor> {
    let group = Group::of_memory(LIMIT)?;
    let mut actor = Actor::new(Part::Hog)?;
    group.take(actor.pid())?;
    actor.go()?;
    actor.wait()?;
    Ok(actor)
}

pub(super) fn oom_kill(stage: &mut Stage) -> Result<()> {
    stage.see(
        starved,
        |hog, event| matches!(event, Event::OomKill(kill) if kill.task.pid == hog.pid()),
    )
}

/// A process that took all there is, and was killed for it.
fn starved_with_all(_: &mut Kernel) -> Result<Actor> {
    let mut actor = Actor::new(Part::Hog)?;
    let score = format!("/proc/{}/oom_score_adj", actor.pid());
    std::fs::write(score, "1000").context("the victim cannot be chosen")?;
    actor.go()?;
    actor.wait()?;
    Ok(actor)
}

/// For a cgroup's memory, and for the machine's where that may run out.
pub(super) fn direct_reclaim(stage: &mut Stage) -> Result<()> {
    let told = |hog: &Actor, event: &Event, scope| {
        matches!(event, Event::DirectReclaim(stall)
            if stall.task.pid == hog.pid() && stall.scope == scope)
    };
    stage.see(starved, |hog, event| told(hog, event, SCOPE_CGROUP))?;
    if stage.may_oom {
        stage.see(starved_with_all, |hog, event| told(hog, event, SCOPE_HOST))?;
    }
    Ok(())
}

pub(super) fn ceiling(stage: &mut Stage) -> Result<()> {
    let crossed = |kernel: &mut Kernel| {
        let mut actor = Actor::new(Part::Take)?;
        let process = procfs::stat(actor.pid()).context("the child is not in /proc")?;
        let guarded = Guarded::ProcessMemory(process.key);
        let guard = Guard {
            limit: LIMIT,
            enforce: true,
        };
        kernel.guards().arm(guarded, guard)?;
        actor.go()?;
        actor.wait()?;
        kernel.guards().disarm(guarded);
        Ok(actor)
    };
    stage.see(crossed, |child, event| {
        matches!(event, Event::MemoryCeiling(crossing)
            if crossing.task.pid == child.pid() && crossing.verdict == KILLED)
    })
}
