//! Has a service read its configuration again, in the way that its `reload` says, without ending it. One that ends of it is a failure,
//! and `service_down`'s from there.

use super::{Executed, NoSettings, Spec, Struck, Target, anywhere, check, refused};
use crate::host::Host;
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "reload_service",
    summary: "has a service read its configuration again, by its signal or its command",
    risk: Risk::Restores,
    reversible: false,
    on: &[Target::Service],
    needs: "CAP_KILL, or the same user",
    able: anywhere,
    check: check::<NoSettings>,
    plan,
    strike: None,
    execute,
    verify,
};

fn plan(incident: &Incident, world: &World, _: &Rung) -> Result<Plan, String> {
    let service = super::service_of(incident, world)?;
    let name = &service.name;
    let how = service.reload.clone().ok_or_else(|| {
        format!("the configuration does not say how {name} reloads: `reload = {{ signal = \"SIGHUP\" }}` or `reload = {{ command = [...] }}` in its [[service]]")
    })?;
    let (process, _) = super::process_of(incident, world)?;
    Ok(Plan::ReloadService {
        service: name.clone(),
        process,
        how,
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::ReloadService {
        service,
        process,
        how,
    } = permit.plan()
    else {
        return Executed::not_mine(SPEC.name);
    };
    match host.reload_service(service, *process, how) {
        Ok(told) => {
            let who = format!("{service} (pid {})", process.pid);
            let result = match told.refused {
                None => EffectResult::Done {
                    detail: format!("{who} was told to reload by {how}"),
                },
                Some(why) => EffectResult::Failed {
                    reason: format!("{who} was told to reload by {how}: {why}"),
                },
            };
            Executed::at(told.acted, result)
        }
        Err(error) => Executed::nothing(refused(&error)),
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::ReloadService {
        service, process, ..
    } = plan
    else {
        return Err("it is not a plan to reload a service".to_owned());
    };
    match host.running(service) {
        Ok(Some(found)) if found == *process => {
            Ok(format!("{service} still runs as pid {}", process.pid))
        }
        Ok(Some(found)) => Err(format!("{service} runs as pid {} by now", found.pid)),
        Ok(None) => Err(format!("{service} has ended")),
        Err(error) => Err(error.to_string()),
    }
}
