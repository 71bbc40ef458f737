//! Has a service run the release before, and starts it anew: the last thing to try. Undone by going forward again.
//!
//! Goes back to the last release that proved healthy, never twice from the same one. What could make that wrong is asked right before it is
//! done: see `host::release`. Whether it helped is said by the signal that raised the incident, as always; when it did not, the
//! core has the undo done.

use std::time::Duration;

use serde::Deserialize;

use super::{Executed, Spec, Struck, Target, anywhere, check, refused, settings};
use crate::config::units::Span;
use crate::host::release::Switch;
use crate::host::{Host, HostError};
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, Subject, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "rollback_release",
    summary: "has a service run the last release that proved healthy, and starts it anew",
    risk: Risk::Destructive,
    reversible: true,
    on: &[Target::Service],
    needs: "`[service.release]`; git where the release is a commit; to write where the release lies",
    able: anywhere,
    check: check::<Settings>,
    plan,
    strike: None,
    execute,
    verify,
};

/// What a rung can say to it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Only a release that the service has run for less than this is rolled back.
    within: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            within: Span(Duration::from_hours(72)),
        }
    }
}

impl super::Settings for Settings {
    fn sensible(&self) -> Result<(), String> {
        if self.within.0.is_zero() {
            return Err("`within` must be more than nothing".to_owned());
        }
        Ok(())
    }
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let within = settings::<Settings>(&rung.with)?.within;
    let Subject::Service { name } = &incident.subject else {
        return Err(format!("{} is not a service", incident.subject));
    };
    let service = world.services.get(name);
    let service = service.ok_or_else(|| format!("no service {name}"))?;
    let release = service.release.as_ref().ok_or_else(|| {
        format!("nothing says where the releases of {name} are: add [service.release]")
    })?;
    let known = &release.known;
    let from = known.runs.as_ref().ok_or_else(|| {
        let why = release.unknown.as_deref();
        let why = why.unwrap_or("it has not been started since its releases are watched");
        format!("it is not known which release {name} runs: {why}")
    })?;
    if known.rolled_back.contains(from) {
        return Err(format!(
            "{name} was rolled back from {from} before, and is not a second time"
        ));
    }
    let to = known.good_but(from).ok_or_else(|| {
        format!("no release of {name} but {from} has proven healthy that could be gone back to")
    })?;
    let changed = known.changed.map(|changed| changed.after(within.0));
    if changed.is_none_or(|until| incident.evidence.seen > until) {
        return Err(format!(
            "{name} has run {from} for longer than {within}: that is no matter of its release"
        ));
    }
    Ok(Plan::SwitchRelease {
        service: name.clone(),
        from: from.clone(),
        to: to.to_owned(),
        forward: false,
        how: Box::new(release.how.clone()),
        process: service.last_process,
        ran: None,
        term_grace: rung.term_grace,
        command: service.command.clone(),
    })
}

/// What changes a roll-back back: forward again, to the release that was left. The process is the one that runs by then, which is
/// left alone where it is the one that ran before.
pub fn forward(plan: &Plan) -> Option<Plan> {
    let mut plan = plan.clone();
    let Plan::SwitchRelease {
        from,
        to,
        forward,
        process,
        ran,
        ..
    } = &mut plan
    else {
        return None;
    };
    if *forward {
        return None;
    }
    std::mem::swap(from, to);
    *forward = true;
    *ran = process.take();
    Some(plan)
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let plan = permit.plan();
    let Plan::SwitchRelease {
        service,
        from,
        to,
        forward: goes_forward,
        how,
        process,
        ran,
        term_grace,
        command,
    } = plan
    else {
        return Executed::not_mine(SPEC.name);
    };
    let switch = Switch {
        service,
        how,
        from,
        to,
        forward: *goes_forward,
    };
    match ready(&switch, *process, host) {
        Ok(()) => {}
        // What could not be found out is no reason to believe that nothing is left to be changed back.
        Err(error) if *goes_forward && !matches!(error, HostError::OtherRelease { .. }) => {
            return Executed::nothing(EffectResult::Failed {
                reason: error.to_string(),
            });
        }
        Err(error) => return Executed::nothing(refused(&error)),
    }
    let undo = forward(plan);
    if let Some(undo) = &undo
        && let Err(error) = host.will_change(permit.incident(), SPEC.name, undo)
    {
        return Executed::nothing(refused(&error));
    }
    let began = host.now();
    let switched = host.switch_release(&switch);
    let way = if *goes_forward { "after" } else { "back from" };
    let started = switched.and_then(|()| match host.running(service)? {
        Some(runs) if *ran == Some(runs) => {
            Ok((runs, ", which ran it all along: not started anew"))
        }
        _ => {
            let restarted = host.restart_service(service, *process, *term_grace, command)?;
            Ok((restarted.process, ""))
        }
    });
    let result = match started {
        Ok((runs, how)) => EffectResult::Done {
            detail: format!(
                "{service} runs release {to} as pid {}, {way} {from}{how}",
                runs.pid
            ),
        },
        Err(error) => EffectResult::Failed {
            reason: format!("{service} to release {to}: {error}"),
        },
    };
    Executed {
        acted: Some(began),
        result,
        undo,
    }
}

/// Whether the release may be put in place. It may be there already, when something ended a change in its midst: it is built again then.
fn ready(
    switch: &Switch<'_>,
    process: Option<crate::model::ProcessKey>,
    host: &dyn Host,
) -> Result<(), HostError> {
    let runs = host.running(switch.service)?;
    if let (Some(meant), Some(found)) = (process, runs)
        && meant != found
    {
        return Err(HostError::Replaced {
            service: switch.service.to_owned(),
            found,
        });
    }
    if switch.forward && host.release(switch.how)? == switch.to {
        if runs.is_some() {
            return Err(HostError::OtherRelease {
                service: switch.service.to_owned(),
                found: switch.to.to_owned(),
                meant: switch.from.to_owned(),
            });
        }
        return Ok(());
    }
    host.may_switch_release(switch)
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::SwitchRelease {
        service, to, how, ..
    } = plan
    else {
        return Err("it is not a plan to switch a release".to_owned());
    };
    match host.release(how) {
        Ok(found) if found == *to => {}
        Ok(found) => return Err(format!("{found} is in place, not {to}")),
        Err(error) => return Err(error.to_string()),
    }
    match host.running(service) {
        Ok(Some(process)) => Ok(format!(
            "{to} is in place, and {service} runs as pid {}",
            process.pid
        )),
        Ok(None) => Err(format!("{service} has ended again")),
        Err(error) => Err(error.to_string()),
    }
}
