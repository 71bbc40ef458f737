//! Lets a process wait behind the others for disks: a lower priority (`ionice`) for each of its threads. Ends nothing, and can be undone.
//!
//! No thread is ever given a higher one than it has, but by an undo, and that leaves alone what somebody else has changed since. The kernel
//! has these priorities for disks whose scheduler is bfq or mq-deadline; with any other they mean nothing.

use super::{
    Executed, Settings, Spec, Struck, Target, anywhere, check, process_of, refused, settings,
};
use crate::host::{Host, HostError};
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "lower_io_priority",
    summary: "lets every thread of a process wait behind others for disks (`ionice`)",
    risk: Risk::Restrains,
    reversible: true,
    on: &[Target::Service, Target::Process],
    needs: "CAP_SYS_NICE, or the same user; disks with the scheduler bfq or mq-deadline",
    able: anywhere,
    check: check::<LowerIoPriority>,
    plan,
    strike: None,
    execute,
    verify,
};

/// Bits of the level, below those of the class (`IOPRIO_CLASS_SHIFT` of the kernel's `include/uapi/linux/ioprio.h`).
const SHIFT: i32 = 13;
/// `IOPRIO_CLASS_BE` and `IOPRIO_CLASS_IDLE`.
const BEST_EFFORT: i32 = 2;
const IDLE: i32 = 3;
/// The level of best effort that a thread has which nobody gave one.
const NORMAL: i32 = 4;
/// The last level of best effort.
const LAST: i32 = 7;

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Class {
    #[default]
    BestEffort,
    Idle,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LowerIoPriority {
    #[serde(default)]
    class: Class,
    level: Option<i32>,
}

impl Settings for LowerIoPriority {
    fn sensible(&self) -> Result<(), String> {
        match (self.class, self.level) {
            (Class::Idle, Some(_)) => Err("`level` means nothing in the class idle".to_owned()),
            (Class::BestEffort, Some(level)) if !(0..=LAST).contains(&level) => Err(format!(
                "`level` is {level}, and must be 0 to {LAST}, the last to be served"
            )),
            _ => Ok(()),
        }
    }
}

impl LowerIoPriority {
    fn ioprio(&self) -> i32 {
        match self.class {
            Class::BestEffort => (BEST_EFFORT << SHIFT) | self.level.unwrap_or(LAST),
            Class::Idle => IDLE << SHIFT,
        }
    }
}

/// In words.
pub fn name(ioprio: i32) -> String {
    match (ioprio >> SHIFT, ioprio & 7) {
        (0, _) => "as its nice value says".to_owned(),
        (1, level) => format!("real time, level {level}"),
        (BEST_EFFORT, level) => format!("best effort, level {level}"),
        (IDLE, _) => "idle".to_owned(),
        (class, level) => format!("class {class}, level {level}"),
    }
}

/// The higher, the later it is served.
const fn rank(ioprio: i32) -> (i32, i32) {
    match ioprio >> SHIFT {
        0 => (BEST_EFFORT, NORMAL),
        // Of idle, there are no levels.
        IDLE => (IDLE, 0),
        class => (class, ioprio & 7),
    }
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let (process, comm) = process_of(incident, world)?;
    Ok(Plan::LowerIoPriority {
        process,
        comm,
        ioprio: settings::<LowerIoPriority>(&rung.with)?.ioprio(),
    })
}

/// The priority that a thread which has the priority `had` is to get, by a plan of this action; what it has by any other plan.
pub fn wanted(plan: &Plan, thread: u32, had: i32) -> i32 {
    match plan {
        Plan::LowerIoPriority { ioprio, .. } if rank(had) < rank(*ioprio) => *ioprio,
        Plan::RestoreIoPriority {
            process,
            set,
            ioprio,
            ..
        } if had == *set => {
            let of = |thread: u32| ioprio.iter().find(|(known, _)| *known == thread);
            let known = of(thread).or_else(|| of(process.pid));
            known.map_or(had, |(_, before)| *before)
        }
        _ => had,
    }
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let plan = permit.plan();
    let (Plan::LowerIoPriority { process, comm, .. }
    | Plan::RestoreIoPriority { process, comm, .. }) = plan
    else {
        return Executed::not_mine(SPEC.name);
    };
    let failed = |error: &HostError| Executed::nothing(refused(error));
    let target = match host.open(*process) {
        Ok(target) => target,
        Err(error) => return failed(&error),
    };
    let who = format!("{comm} [{}]", process.pid);
    let mut undo = None;
    if let Plan::LowerIoPriority { ioprio, .. } = plan {
        // Only read: what it has.
        let before = match target.change_io_priority(&|_, had| had) {
            Ok(read) => read.before,
            Err(error) => return failed(&error),
        };
        if before
            .iter()
            .all(|(thread, had)| wanted(plan, *thread, *had) == *had)
        {
            let reason = format!("every thread of {who} waits as long for disks already");
            return Executed::nothing(EffectResult::Failed { reason });
        }
        let restore = Plan::RestoreIoPriority {
            process: *process,
            comm: comm.clone(),
            set: *ioprio,
            ioprio: before,
        };
        if let Err(error) = host.will_change(permit.incident(), SPEC.name, &restore) {
            return failed(&error);
        }
        undo = Some(restore);
    }
    let began = host.now();
    let changed = match target.change_io_priority(&|thread, had| wanted(plan, thread, had)) {
        Ok(changed) => changed,
        Err(error) => return failed(&error),
    };
    let gone = matches!(changed.stopped, Some(HostError::Gone(_)));
    let result = match (changed.stopped, plan) {
        (Some(error), _) => EffectResult::Failed {
            reason: format!("{who}: after {} threads: {error}", changed.changed),
        },
        (None, Plan::LowerIoPriority { ioprio, .. }) => EffectResult::Done {
            detail: format!(
                "{who} is served by disks as {} ({} threads)",
                name(*ioprio),
                changed.changed
            ),
        },
        (None, _) => EffectResult::Done {
            detail: format!(
                "{who} has its priorities for disks back ({} threads; what somebody else has changed since is left alone)",
                changed.changed
            ),
        },
    };
    Executed {
        acted: (changed.changed > 0).then_some(began),
        result,
        // What has ended needs nothing back.
        undo: undo.filter(|_| changed.changed > 0 && !gone),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let process = plan
        .process()
        .ok_or("it is not a plan to change a priority")?;
    match host
        .open(process)
        .and_then(|target| target.change_io_priority(&|_, had| had))
    {
        Ok(read) => {
            let wrong = read.before.iter();
            match wrong
                .filter(|(thread, has)| wanted(plan, *thread, *has) != *has)
                .count()
            {
                0 => Ok("every thread has its priority for disks".to_owned()),
                some => Err(format!(
                    "{some} threads do not have their priority for disks"
                )),
            }
        }
        Err(HostError::Gone(_)) => Ok("the process has ended since".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
