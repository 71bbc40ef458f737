//! Ends everything in the cgroup of a process, whatever is born meanwhile: SIGTERM to each of it, and SIGKILL to all of it (`cgroup.kill`)
//! when something has not left within the grace. Only a cgroup that is the process's own: its service's, or one that holds it and its
//! descendants alone.

use super::restraining;
use super::{Executed, NoSettings, Spec, Struck, Target, check, refused};
use crate::host::{Host, HostError};
use crate::model::abilities::Abilities;
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{PROTECTED, Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "kill_cgroup",
    summary: "ends everything in the cgroup that is a process's own: SIGTERM, then SIGKILL to all of it at once",
    risk: Risk::Destructive,
    reversible: false,
    on: &[Target::Service, Target::Process],
    needs: "root, to write to cgroups, and CAP_KILL",
    able,
    check: check::<NoSettings>,
    plan,
    strike: None,
    execute,
    verify,
};

fn able(abilities: &Abilities) -> Result<(), String> {
    if abilities.cgroup2.is_none() && abilities.controllers1.is_empty() {
        return Err("no cgroup hierarchy is mounted here".to_owned());
    }
    restraining::writes_cgroups(abilities)
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    Ok(Plan::KillCgroup {
        whole: restraining::whole(incident, world)?,
        term_grace: rung.term_grace,
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::KillCgroup { whole, term_grace } = permit.plan() else {
        return Executed::not_mine(SPEC.name);
    };
    if let Err(error) = host.open(whole.process) {
        return Executed::nothing(refused(&error));
    }
    let began = host.now();
    match host.end_cgroup(whole, *term_grace, &PROTECTED) {
        Ok(ended) => Executed::at(
            ended.acted,
            EffectResult::Done {
                detail: format!(
                    "{} [{}] and all in {} have ended: {} processes, {} of them by SIGKILL",
                    whole.comm,
                    whole.process.pid,
                    ended.folder.display(),
                    ended.processes,
                    ended.killed
                ),
            },
        ),
        // What is said of a cgroup was met while ending what is in it.
        Err(error @ (HostError::Cgroup { .. } | HostError::System { .. })) => {
            Executed::at(began, refused(&error))
        }
        Err(error) => Executed::nothing(refused(&error)),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::KillCgroup { whole, .. } = plan else {
        return Err("it is not a plan to end what is in a cgroup".to_owned());
    };
    match host.open(whole.process) {
        Err(HostError::Gone(_) | HostError::Reused(_)) => {
            Ok("the process is gone, and its cgroup is empty".to_owned())
        }
        Err(error) => Err(error.to_string()),
        Ok(target) => match target.wait(std::time::Duration::ZERO) {
            // Who started it has not taken its exit status yet.
            Ok(true) => Ok("the process has ended, and its cgroup is empty".to_owned()),
            Ok(false) => Err("the process still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}
