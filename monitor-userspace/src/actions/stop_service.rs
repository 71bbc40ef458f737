//! Stops a service, and keeps it stopped: no incident comes of it, and nothing starts it but `start_service`, the undo, or a restart of
//! the machine. Undone by starting it again with the same command.

use super::{Executed, NoSettings, Spec, Struck, Target, anywhere, check, refused, start_service};
use crate::host::Host;
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "stop_service",
    summary: "stops a service, which then stays stopped until it is started",
    risk: Risk::Destructive,
    reversible: true,
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
    if service.stopped {
        return Err(format!("service {} is stopped already", service.name));
    }
    let newer = |started| started > incident.evidence.seen;
    if service.process.is_some() && service.started.is_some_and(newer) {
        return Err(format!(
            "service {} has been started anew since",
            service.name
        ));
    }
    Ok(Plan::StopService {
        service: service.name.clone(),
        process: service.process,
        term_grace: rung.term_grace,
        command: service.command.clone(),
    })
}

fn execute(permit: &Permit, struck: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::StopService {
        service,
        process,
        term_grace,
        command,
    } = permit.plan()
    else {
        // What changes it back.
        return (start_service::SPEC.execute)(permit, struck, host);
    };
    let undo = Plan::StartService {
        service: service.clone(),
        command: command.clone(),
    };
    if let Err(error) = host.will_change(permit.incident(), SPEC.name, &undo) {
        return Executed::nothing(refused(&error));
    }
    match host.stop_service(service, *process, *term_grace) {
        Ok(acted) => {
            let who = process.map_or_else(String::new, |process| format!(" (pid {})", process.pid));
            let detail = format!("{service}{who} is stopped, and stays so until it is started");
            Executed {
                undo: Some(undo),
                ..Executed::at(acted, EffectResult::Done { detail })
            }
        }
        Err(error) => Executed::nothing(refused(&error)),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::StopService { service, .. } = plan else {
        return (start_service::SPEC.verify)(plan, host);
    };
    match host.running(service) {
        Ok(None) => Ok(format!("{service} does not run")),
        Ok(Some(process)) => Err(format!("{service} runs as pid {}", process.pid)),
        Err(error) => Err(error.to_string()),
    }
}
