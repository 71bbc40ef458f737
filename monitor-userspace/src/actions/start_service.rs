//! Starts a service that does not run: one that was stopped, or one that has ended. Never a second process beside one that runs.

use super::{Executed, NoSettings, Spec, Struck, Target, anywhere, check, refused};
use crate::host::Host;
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "start_service",
    summary: "starts a service that does not run",
    risk: Risk::Restores,
    reversible: false,
    on: &[Target::Service],
    needs: "what its supervisor needs",
    able: anywhere,
    check: check::<NoSettings>,
    plan,
    strike: None,
    execute,
    verify,
};

fn plan(incident: &Incident, world: &World, _: &Rung) -> Result<Plan, String> {
    let service = super::service_of(incident, world)?;
    if let Some(process) = service.process {
        let name = &service.name;
        return Err(format!(
            "service {name} runs already, as pid {}",
            process.pid
        ));
    }
    Ok(Plan::StartService {
        service: service.name.clone(),
        command: service.command.clone(),
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::StartService { service, command } = permit.plan() else {
        return Executed::not_mine(SPEC.name);
    };
    match host.start_service(service, command) {
        Ok(started) => {
            let detail = format!("{service} runs as pid {}", started.process.pid);
            Executed::at(started.acted, EffectResult::Done { detail })
        }
        Err(error) => Executed::nothing(refused(&error)),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::StartService { service, .. } = plan else {
        return Err("it is not a plan to start a service".to_owned());
    };
    match host.running(service) {
        Ok(Some(process)) => Ok(format!("{service} runs as pid {}", process.pid)),
        Ok(None) => Err(format!("{service} has ended again")),
        Err(error) => Err(error.to_string()),
    }
}
