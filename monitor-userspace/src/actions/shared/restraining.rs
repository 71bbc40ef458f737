//! What `freeze`, `throttle_cpu` and `throttle_memory` have in common: they hold a process back, with all that belongs to it, and let it go.

use super::{Executed, process_of, refused};
use crate::host::Host;
use crate::model::abilities::Abilities;
use crate::model::{EffectResult, Incident, Plan, Subject, Whole, World};
use crate::policy::{PROTECTED, Permit};

/// What an incident's subject is, with all that belongs to it.
pub(super) fn whole(incident: &Incident, world: &World) -> Result<Whole, String> {
    let (process, comm) = process_of(incident, world)?;
    let service = match &incident.subject {
        Subject::Service { name } => world.services.get(name),
        _ => None,
    };
    let named = service.is_none();
    Ok(Whole {
        process,
        comm,
        cgroup_id: service.map_or(0, |service| service.cgroup_id),
        named,
        spared: if named {
            world.protected_names.clone()
        } else {
            Vec::new()
        },
    })
}

/// Whether the daemon may write to cgroups.
pub(super) fn writes_cgroups(abilities: &Abilities) -> Result<(), String> {
    if abilities.root {
        return Ok(());
    }
    Err("only root writes to the cgroups of others: run the daemon as root".to_owned())
}

/// Holds back, or lets go.
pub(super) fn execute(permit: &Permit, host: &dyn Host) -> Executed {
    match permit.plan() {
        Plan::Restrain { whole, restraint } => {
            // Whose identity is in doubt is a refusal, whatever else this host can do.
            if let Err(error) = host.open(whole.process) {
                return Executed::nothing(refused(&error));
            }
            let release = |lift: &crate::model::Lift| Plan::Release {
                process: whole.process,
                comm: whole.comm.clone(),
                lift: Box::new(lift.clone()),
            };
            let mut will = |lift: &crate::model::Lift| {
                host.will_change(permit.incident(), permit.action(), &release(lift))
            };
            match host.restrain(whole, *restraint, &PROTECTED, &mut will) {
                Ok(done) => Executed {
                    acted: Some(done.acted),
                    undo: Some(release(&done.lift)),
                    result: match done.stopped {
                        None => EffectResult::Done {
                            detail: done.detail,
                        },
                        Some(error) => EffectResult::Failed {
                            reason: format!("{}, but not all of it: {error}", done.detail),
                        },
                    },
                },
                Err(error) => Executed::nothing(refused(&error)),
            }
        }
        Plan::Release {
            process,
            comm,
            lift,
        } => match host.lift(*process, lift) {
            Ok((acted, now)) => Executed {
                acted,
                result: EffectResult::Done {
                    detail: format!("{comm} [{}] is let go: {now}", process.pid),
                },
                undo: None,
            },
            Err(error) => Executed::nothing(refused(&error)),
        },
        _ => Executed::not_mine(permit.action()),
    }
}

/// Reads back that it is held back, or let go.
pub(super) fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let read = match plan {
        Plan::Restrain { whole, restraint } => host.is_restrained(whole, *restraint),
        Plan::Release { process, lift, .. } => host.is_lifted(*process, lift),
        _ => return Err("it is not a plan to hold a process back".to_owned()),
    };
    match read {
        Err(crate::host::HostError::Gone(_)) => Ok("the process has ended since".to_owned()),
        read => read.map_err(|error| error.to_string()),
    }
}
