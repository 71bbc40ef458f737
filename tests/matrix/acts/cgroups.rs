//! Cgroups that come and go, also so fast that their events are held back.

use anyhow::{Result, anyhow};
use monitor_common::probes::cgroup_change::{MADE, RENAMED};
use monitor_common::{Event, Kind};
use smart_monitor::kernel::Kernel;

use crate::group::{self, Group};
use crate::stage::{SHARE, Stage};

use super::scheduler::stay;

/// One is made, and one is renamed where there is a hierarchy that allows it: those of v1 do.
pub(super) fn change(stage: &mut Stage) -> Result<()> {
    let made = |_: &mut Kernel| Group::new()?.id();
    stage.see(made, |id, event| {
        matches!(event, Event::CgroupChange(change) if change.change == MADE && change.cgroup_id == *id)
    })?;
    let Some(root) = group::hierarchy_of_v1()? else {
        return Ok(());
    };
    let renamed = |_: &mut Kernel| {
        let mut group = Group::below(&root)?;
        group.rename()?;
        group.id()
    };
    stage.see(renamed, |id, event| {
        matches!(event, Event::CgroupChange(change) if change.change == RENAMED && change.cgroup_id == *id)
    })
}

/// Two events a cgroup, all on one CPU, since each has a share of its own. Below one that gives them no controllers: to make those of
/// memory takes so long that on a busy host not enough of them fall into a second.
pub(super) fn throttle(stage: &mut Stage) -> Result<()> {
    let busy = |_: &mut Kernel| {
        let thread = std::thread::Builder::new().spawn(|| -> Result<()> {
            stay()?;
            let above = Group::new()?;
            for _ in 0..SHARE {
                Group::below(above.folder())?;
            }
            Ok(())
        })?;
        thread.join().map_err(|_| anyhow!("a thread died"))?
    };
    stage.see(busy, |(), event| {
        matches!(event, Event::EventThrottle(throttle)
            if throttle.task.pid == std::process::id()
                && throttle.probe == Kind::CgroupChange.number()
                && (throttle.began, throttle.per_second) == (1, SHARE))
    })
}
