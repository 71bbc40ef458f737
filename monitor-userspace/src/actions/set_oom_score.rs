//! Says how likely a victim of the kernel a process is when memory runs out (`oom_score_adj`): so that a cache goes before a database.

use super::{
    Executed, Settings, Spec, Struck, Target, anywhere, check, process_of, refused, settings,
};
use crate::host::{Host, HostError, Opened};
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "set_oom_score",
    summary: "says how likely a process is to be ended by the kernel when memory runs out (`oom_score_adj`)",
    risk: Risk::Restrains,
    reversible: true,
    on: &[Target::Service, Target::Process],
    needs: "root, or the same user; CAP_SYS_RESOURCE for less than the process was ever given",
    able: anywhere,
    check: check::<SetOomScore>,
    plan,
    strike: None,
    execute,
    verify,
};

/// `OOM_SCORE_ADJ_MAX` of the kernel's `include/uapi/linux/oom.h`.
const MOST: i32 = 1000;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SetOomScore {
    #[serde(default = "likely")]
    score: i32,
}

const fn likely() -> i32 {
    500
}

impl Settings for SetOomScore {
    fn sensible(&self) -> Result<(), String> {
        if (-MOST..=MOST).contains(&self.score) {
            return Ok(());
        }
        Err(format!(
            "`score` is {}, and must be -{MOST} (never ended) to {MOST} (ended first)",
            self.score
        ))
    }
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let (process, comm) = process_of(incident, world)?;
    let SetOomScore { score } = settings(&rung.with)?;
    Ok(Plan::SetOomScore {
        process,
        comm,
        score,
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    carry_out(permit, host).unwrap_or_else(|error| Executed::nothing(refused(&error)))
}

fn carry_out(permit: &Permit, host: &dyn Host) -> Result<Executed, HostError> {
    let open = |process| -> Result<(Box<dyn Opened>, i32), HostError> {
        let target = host.open(process)?;
        let now = target.oom_score()?;
        Ok((target, now))
    };
    match permit.plan() {
        Plan::SetOomScore {
            process,
            comm,
            score,
        } => {
            let (target, had) = open(*process)?;
            let who = format!("{comm} [{}]", process.pid);
            if had == *score {
                let reason = format!("the oom_score_adj of {who} is {score} already");
                return Ok(Executed::nothing(EffectResult::Failed { reason }));
            }
            let undo = Plan::RestoreOomScore {
                process: *process,
                comm: comm.clone(),
                had,
                set: *score,
            };
            host.will_change(permit.incident(), SPEC.name, &undo)?;
            let began = host.now();
            target.set_oom_score(*score)?;
            let detail = format!("the oom_score_adj of {who} is {score}, after {had}");
            Ok(Executed {
                undo: Some(undo),
                ..Executed::at(began, EffectResult::Done { detail })
            })
        }
        Plan::RestoreOomScore {
            process,
            comm,
            had,
            set,
        } => {
            let (target, now) = open(*process)?;
            let who = format!("{comm} [{}]", process.pid);
            let done = |detail| EffectResult::Done { detail };
            if now != *set {
                let left = if now == *had {
                    format!("the oom_score_adj of {who} is {had}, as before")
                } else {
                    format!(
                        "the oom_score_adj of {who} is {now} and not {set}: somebody else has changed it since, so it is left alone"
                    )
                };
                return Ok(Executed::nothing(done(left)));
            }
            let began = host.now();
            target.set_oom_score(*had)?;
            let detail = format!("the oom_score_adj of {who} is {had} again");
            Ok(Executed::at(began, done(detail)))
        }
        _ => Ok(Executed::not_mine(SPEC.name)),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let process = plan
        .process()
        .ok_or("it is not a plan to change an oom_score_adj")?;
    let now = match host.open(process).and_then(|target| target.oom_score()) {
        Ok(now) => now,
        Err(HostError::Gone(_)) => return Ok("the process has ended since".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let good = match plan {
        Plan::SetOomScore { score, .. } => now == *score,
        Plan::RestoreOomScore { set, .. } => now != *set,
        _ => false,
    };
    if good {
        Ok(format!("oom_score_adj says {now}"))
    } else {
        Err(format!("oom_score_adj says {now}"))
    }
}
