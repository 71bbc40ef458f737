//! Lets a process wait behind the others for the CPU: a higher nice value for each of its threads. Ends nothing, and can be undone.
//!
//! The undo is a plan made of the values as they were read before. No thread is ever given a lower value than it has, but by an undo. The
//! kernel compares nice values within a cgroup that has the CPU controller, and within a session where `sched_autogroup` is on;
//! threads of a real-time policy have none.

use super::{Executed, NoSettings, Spec, Struck, Target, anywhere, check, process_of, refused};
use crate::host::{Host, HostError, Reniced};
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "lower_priority",
    summary: "lets every thread of a process wait behind others for the CPU (`nice`)",
    risk: Risk::Restrains,
    reversible: true,
    on: &[Target::Service, Target::Process],
    needs: "CAP_SYS_NICE, or the same user",
    able: anywhere,
    check: check::<NoSettings>,
    plan,
    strike: None,
    execute,
    verify,
};

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let (process, comm) = process_of(incident, world)?;
    Ok(Plan::LowerPriority {
        process,
        comm,
        nice: rung.nice,
    })
}

/// The nice value that a thread which has the value `had` is to get, by a plan of this action; none by any other plan.
pub fn wanted(plan: &Plan, thread: u32, had: i32) -> Option<i32> {
    match plan {
        Plan::LowerPriority { nice, .. } => Some(had.max(*nice)),
        Plan::RestorePriority { nice, .. } => {
            let known = nice.iter().find(|(known, _)| *known == thread);
            let lowest = || nice.iter().map(|(_, nice)| *nice).min();
            Some(known.map(|(_, nice)| *nice).or_else(lowest).unwrap_or(had))
        }
        _ => None,
    }
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    carry_out(permit.plan(), host)
}

fn carry_out(plan: &Plan, host: &dyn Host) -> Executed {
    let (Plan::LowerPriority { process, comm, .. } | Plan::RestorePriority { process, comm, .. }) =
        plan
    else {
        return Executed::not_mine(SPEC.name);
    };
    let target = match host.open(*process) {
        Ok(target) => target,
        Err(error) => return Executed::nothing(refused(&error)),
    };
    let began = host.now();
    let want = |thread, had| wanted(plan, thread, had).unwrap_or(had);
    let reniced = match target.renice(&want) {
        Ok(reniced) => reniced,
        Err(error) => return Executed::nothing(refused(&error)),
    };
    let who = format!("{comm} [{}]", process.pid);
    let result = match (&reniced.stopped, plan) {
        (Some(error), _) => EffectResult::Failed {
            reason: format!("{who}: after {} threads: {error}", reniced.changed),
        },
        (None, Plan::LowerPriority { nice, .. }) if reniced.changed == 0 => EffectResult::Failed {
            reason: format!("every thread of {who} has a nice value of {nice} or more already"),
        },
        (None, Plan::LowerPriority { nice, .. }) => EffectResult::Done {
            detail: format!(
                "{who} has nice {nice} on {}{}",
                count(reniced.changed),
                left_out(&reniced)
            ),
        },
        (None, _) => EffectResult::Done {
            detail: format!(
                "{who} has its nice values back on {}{}",
                count(reniced.changed),
                left_out(&reniced)
            ),
        },
    };
    let lowered = matches!(plan, Plan::LowerPriority { .. }) && reniced.changed > 0;
    // What has ended needs nothing back.
    let gone = matches!(reniced.stopped, Some(HostError::Gone(_)));
    Executed {
        acted: (reniced.changed > 0).then_some(began),
        result,
        undo: (lowered && !gone).then(|| Plan::RestorePriority {
            process: *process,
            comm: comm.clone(),
            nice: reniced.before,
        }),
    }
}

fn count(threads: usize) -> String {
    let s = if threads == 1 { "" } else { "s" };
    format!("{threads} thread{s}")
}

fn left_out(reniced: &Reniced) -> String {
    match reniced.beyond {
        0 => String::new(),
        beyond => format!(
            "; {beyond} more are as they were, {} are the most that are changed",
            crate::host::priority::THREADS
        ),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let (Plan::LowerPriority { process, .. } | Plan::RestorePriority { process, .. }) = plan else {
        return Err("it is not a plan to change a priority".to_owned());
    };
    // Only read: each is to have what it has.
    match host
        .open(*process)
        .and_then(|target| target.renice(&|_, had| had))
    {
        Ok(read) => {
            let wrong = read.before.iter().filter(|(thread, has)| {
                wanted(plan, *thread, *has).is_some_and(|wanted| wanted != *has)
            });
            match wrong.count() {
                0 => Ok("every thread has its nice value".to_owned()),
                some => Err(format!("{} do not have their nice value", count(some))),
            }
        }
        Err(HostError::Gone(_)) => Ok("the process has ended since".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
