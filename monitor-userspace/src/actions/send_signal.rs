//! Sends a process a signal by which many programs collect their garbage, open their logs again or read their configuration anew. Only one that
//! the process has a handler for: without one it would end the process, or do nothing.

use std::time::{Duration, Instant};

use super::{
    Executed, Settings, Spec, Struck, Target, anywhere, check, process_of, refused, settings,
};
use crate::host::{Host, HostError, Opened};
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, Subject, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "send_signal",
    summary: "sends a process a signal that it has a handler for: to collect garbage, open logs again, reload",
    risk: Risk::Restores,
    reversible: false,
    on: &[Target::Service, Target::Process],
    needs: "CAP_KILL, or the same user",
    able: anywhere,
    check: check::<SendSignal>,
    plan,
    strike: None,
    execute,
    verify,
};

/// What may be sent, with its number on every architecture that we build for (signal(7)). SIGQUIT is not among them: programs in Go
/// handle it by ending.
pub const ALLOWED: &[(&str, i32)] = &[("HUP", 1), ("USR1", 10), ("USR2", 12), ("WINCH", 28)];
/// How long the process may take to take it.
const TAKING: Duration = Duration::from_secs(2);
/// How long it is looked at after: one that handles a signal by ending does so within this.
const LOOKING: Duration = Duration::from_millis(300);

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SendSignal {
    signal: String,
}

impl Settings for SendSignal {
    fn sensible(&self) -> Result<(), String> {
        number(&self.signal).map(|_| ())
    }
}

fn number(name: &str) -> Result<i32, String> {
    let found = ALLOWED.iter().find(|(allowed, _)| *allowed == name);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        format!(
            "`signal` is `{name}`, and must be one of {}",
            names.join(", ")
        )
    })
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let (process, comm) = process_of(incident, world)?;
    let SendSignal { signal } = settings(&rung.with)?;
    Ok(Plan::SendSignal {
        process,
        comm,
        signal,
        named: matches!(incident.subject, Subject::Process { .. }),
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    let Plan::SendSignal {
        process,
        comm,
        signal,
        named,
    } = permit.plan()
    else {
        return Executed::not_mine(SPEC.name);
    };
    let failed = |reason: String| EffectResult::Failed { reason };
    let number = match number(signal) {
        Ok(number) => number,
        Err(reason) => return Executed::nothing(failed(reason)),
    };
    let who = format!("{comm} [{}]", process.pid);
    let ready = || -> Result<(Box<dyn Opened>, bool), HostError> {
        let target = host.open(*process)?;
        if let Some(found) = target.name().filter(|found| *named && found != comm) {
            return Err(HostError::Renamed {
                process: *process,
                found,
                meant: comm.clone(),
            });
        }
        let caught = target.disposition(number)?.caught;
        Ok((target, caught))
    };
    let target = match ready() {
        Ok((target, true)) => target,
        Ok((_, false)) => {
            let reason = format!(
                "{who} has no handler for SIG{signal}: it would end it, or do nothing; choose another signal"
            );
            return Executed::nothing(failed(reason));
        }
        Err(error) => return Executed::nothing(refused(&error)),
    };
    let began = host.now();
    if let Err(error) = target.send(number) {
        return Executed::nothing(refused(&error));
    }
    Executed::at(began, taken(target.as_ref(), number, signal, &who))
}

/// Waits until the process has taken it.
fn taken(target: &dyn Opened, number: i32, signal: &str, who: &str) -> EffectResult {
    let failed = |why: &str| EffectResult::Failed {
        reason: format!("{who}, after SIG{signal}: {why}"),
    };
    let deadline = Instant::now() + TAKING;
    loop {
        match target.disposition(number) {
            Ok(now) if !now.pending => {
                if let Ok(true) = target.wait(LOOKING) {
                    return failed("it has ended");
                }
                let detail = format!("{who} has taken SIG{signal}");
                return EffectResult::Done { detail };
            }
            Ok(_) if Instant::now() < deadline => {}
            Ok(_) => return failed("it does not take it; it may be stopped, or block it"),
            Err(HostError::Gone(_)) => return failed("it has ended"),
            Err(error) => return failed(&error.to_string()),
        }
        // Its end wakes, too.
        if let Ok(true) = target.wait(Duration::from_millis(1)) {
            return failed("it has ended");
        }
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::SendSignal {
        process, signal, ..
    } = plan
    else {
        return Err("it is not a plan to send a signal".to_owned());
    };
    let number = number(signal)?;
    let read = host
        .open(*process)
        .and_then(|target| target.disposition(number));
    match read {
        Ok(now) if now.pending => Err(format!("SIG{signal} still waits to be taken")),
        Ok(_) => Ok(format!(
            "it runs, and SIG{signal} does not wait to be taken"
        )),
        Err(error) => Err(error.to_string()),
    }
}
