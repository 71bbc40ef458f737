//! Ends one process: SIGTERM, SIGKILL when it has not left within the grace, and its memory freed without waiting for it.
//!
//! The first signal is the strike. With no grace, SIGKILL is sent at once: for a host or a service that is out of memory.

use std::time::Duration;

use super::{Executed, NoSettings, Spec, Struck, Target, anywhere, check, process_of, refused};
use crate::host::{Host, HostError, Opened};
use crate::model::action::Risk;
use crate::model::{EffectResult, Incident, Plan, ProcessKey, Subject, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "kill_process",
    summary: "ends one process: SIGTERM, then SIGKILL; its memory is freed at once",
    risk: Risk::Destructive,
    reversible: false,
    on: &[Target::Service, Target::Process],
    needs: "CAP_KILL, or the same user",
    able: anywhere,
    check: check::<NoSettings>,
    plan,
    strike: Some(strike),
    execute,
    verify,
};

/// How soon an act that is called off ends, at the latest.
const SLICE: Duration = Duration::from_millis(100);
/// How long a process may take to die of SIGKILL before it counts as stuck in the kernel.
const DYING: Duration = Duration::from_secs(10);

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let (process, comm) = process_of(incident, world)?;
    let evidence = &incident.evidence;
    if evidence.killed_in_kernel && evidence.process == Some(process) {
        return Err("a guard in the kernel has sent its SIGKILL already".to_owned());
    }
    Ok(Plan::KillProcess {
        process,
        comm,
        term_grace: rung.term_grace,
        named: matches!(incident.subject, Subject::Process { .. }),
    })
}

fn strike(permit: &Permit, host: &dyn Host) -> Result<Struck, EffectResult> {
    let Plan::KillProcess {
        process,
        term_grace,
        comm,
        named,
    } = permit.plan()
    else {
        return Err(EffectResult::Failed {
            reason: "not a plan to end a process".to_owned(),
        });
    };
    let target = host.open(*process).map_err(|error| refused(&error))?;
    still_called(target.as_ref(), *process, comm, *named).map_err(|error| refused(&error))?;
    // Before the signal: what it brings about may be seen before the call returns, and must not count as older than the act.
    let acted = host.now();
    let sent = if term_grace.is_zero() {
        target.kill()
    } else {
        target.terminate()
    };
    sent.map_err(|error| refused(&error))?;
    Ok(Struck { acted, target })
}

/// Refuses a process that was meant by its name and has another one by now. It may still get a new one between this and the signal.
pub(super) fn still_called(
    target: &dyn Opened,
    process: ProcessKey,
    comm: &str,
    named: bool,
) -> Result<(), HostError> {
    // Not read where it does not matter: that takes longer than the signal.
    match named.then(|| target.name()).flatten() {
        Some(found) if found != comm => Err(HostError::Renamed {
            process,
            found,
            meant: comm.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn execute(permit: &Permit, struck: Option<Struck>, host: &dyn Host) -> Executed {
    let struck = match struck.map_or_else(|| strike(permit, host), Ok) {
        Ok(struck) => struck,
        Err(result) => return Executed::nothing(result),
    };
    Executed::at(struck.acted, finish(permit, &struck, host))
}

/// Waits out the grace, but for what is called off meanwhile.
fn left_within(
    target: &dyn Opened,
    grace: Duration,
    called_off: &dyn Fn() -> Option<String>,
) -> Result<bool, HostError> {
    let mut left = grace;
    loop {
        let slice = left.min(SLICE);
        if target.wait(slice)? {
            return Ok(true);
        }
        left = left.saturating_sub(slice);
        if left.is_zero() || called_off().is_some() {
            return Ok(false);
        }
    }
}

fn finish(permit: &Permit, struck: &Struck, host: &dyn Host) -> EffectResult {
    let Plan::KillProcess {
        process,
        comm,
        term_grace,
        named,
    } = permit.plan()
    else {
        return EffectResult::Failed {
            reason: "not a plan to end a process".to_owned(),
        };
    };
    let who = format!("{comm} [{}]", process.pid);
    let result = (|| {
        if !term_grace.is_zero() {
            let called_off = || host.called_off(permit.incident());
            if left_within(struck.target.as_ref(), *term_grace, &called_off)? {
                return Ok(format!("{who} left on SIGTERM"));
            }
            if let Some(why) = called_off() {
                return Err(HostError::CalledOff(why));
            }
            // It may have become another program on SIGTERM, which nobody meant.
            still_called(struck.target.as_ref(), *process, comm, *named)?;
            struck.target.kill()?;
        }
        struck.target.release_memory();
        if struck.target.wait(DYING)? {
            return Ok(format!("{who} ended by SIGKILL"));
        }
        Err(HostError::Undying {
            process: *process,
            within: DYING,
        })
    })();
    match result {
        Ok(detail) => EffectResult::Done { detail },
        // It left between two of our looks: that is what was wanted.
        Err(HostError::Gone(_)) => EffectResult::Done {
            detail: format!("{who} has left"),
        },
        Err(error @ HostError::CalledOff(_)) => refused(&error),
        Err(error) => EffectResult::Failed {
            reason: error.to_string(),
        },
    }
}

fn verify(plan: &Plan, host: &dyn Host) -> Result<String, String> {
    let Plan::KillProcess { process, comm, .. } = plan else {
        return Err("it is not a plan to end a process".to_owned());
    };
    let who = format!("{comm} [{}]", process.pid);
    match host
        .open(*process)
        .and_then(|target| target.wait(Duration::ZERO))
    {
        Ok(false) => Err(format!("{who} is still there")),
        Ok(true) | Err(HostError::Gone(_) | HostError::Reused(_)) => Ok(format!("{who} is gone")),
        Err(error) => Err(format!("it cannot be told whether {who} is gone: {error}")),
    }
}
