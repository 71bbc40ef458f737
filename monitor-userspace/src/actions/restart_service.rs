//! Starts a service anew, ending what is left of it first. For services that the daemon runs itself (`kind = "command"`).
//!
//! Not more than that: it starts no service that the configuration does not name, and refuses when the service's process is not the
//! one the incident is about any more (someone else was faster).

use super::{Executed, NoSettings, Spec, Struck, Target, anywhere, check, refused};
use crate::host::Host;
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, Service, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "restart_service",
    summary: "starts a service anew, ending what is left of it first",
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

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let service = super::service_of(incident, world)?;
    runs_here(service)?;
    if service.stopped {
        return Err(format!(
            "service {} was stopped, and stays so until start_service starts it",
            service.name
        ));
    }
    Ok(Plan::RestartService {
        service: service.name.clone(),
        process: service.last_process,
        term_grace: rung.term_grace,
        command: service.command.clone(),
    })
}

/// Refuses what only has checks.
fn runs_here(service: &Service) -> Result<(), String> {
    if service.is_elsewhere() {
        return Err(format!("nobody on this host runs {}", service.name));
    }
    Ok(())
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::RestartService {
        service,
        process,
        term_grace,
        command,
    } = permit.plan()
    else {
        return Executed::not_mine(SPEC.name);
    };
    match host.restart_service(service, *process, *term_grace, command) {
        Ok(restarted) => {
            let detail = format!("{service} runs as pid {}", restarted.process.pid);
            Executed::at(restarted.acted, EffectResult::Done { detail })
        }
        Err(error) => Executed::nothing(refused(&error)),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::RestartService { service, .. } = plan else {
        return Err("it is not a plan to start a service anew".to_owned());
    };
    match host.running(service) {
        Ok(Some(process)) => Ok(format!("{service} runs as pid {}", process.pid)),
        Ok(None) => Err(format!("{service} has ended again")),
        Err(error) => Err(error.to_string()),
    }
}
