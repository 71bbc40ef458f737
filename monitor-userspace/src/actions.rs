//! Actions: ways to change the host. A file each; adding one is a file and a line in `actions!` below.
//!
//! `plan` is pure and says exactly what would be done to whom. `execute` needs a [`Permit`] and uses it up. An action that must be
//! fast has a `strike`: the part that never waits, done on the hot thread; `execute` then finishes it elsewhere. An action counts
//! as done when `execute` says so, and as a success only when the signal that raised the incident says so.

use serde::de::DeserializeOwned;

use crate::host::{Host, HostError, Opened};
use crate::model::abilities::{Abilities, ActionRow};
use crate::model::action::Risk;
use crate::model::{
    Effect, EffectResult, Incident, Plan, ProcessKey, Service, Subject, Time, World,
};
use crate::policy::{Permit, Rung};

/// What an action declares of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// File stem, configuration value and metric label.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// How much it can destroy.
    pub risk: Risk,
    /// Whether what it does can be undone.
    pub reversible: bool,
    /// What it can be done to.
    pub on: &'static [Target],
    /// The rights and tools that it needs, in words.
    pub needs: &'static str,
    /// Whether a host can do it; why not, and what to do about that.
    pub able: fn(&Abilities) -> Result<(), String>,
    /// Whether what a rung says to it alone (`with`) makes sense: [`check`] of its settings.
    pub check: fn(&toml::Table) -> Result<(), String>,
    /// What exactly it would do about an incident; a reason when it cannot do anything about it.
    pub plan: fn(&Incident, &World, &Rung) -> Result<Plan, String>,
    /// The part that never waits, for the hot thread.
    pub strike: Option<Strike>,
    /// All of it, or what is left after the strike. May wait. The plan it is given is one that [`Spec::plan`] made, or one that an
    /// execution of this action before left as [`Executed::undo`]: then it changes the host back.
    pub execute: Execute,
    /// Reads back from the host whether it is as the plan says, when the execution says that it is done: what was read, or what is not
    /// as it should be.
    pub verify: Verify,
}

/// What an action can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A `[[service]]`.
    Service,
    /// A process that a `[[process]]` entry names.
    Process,
    /// A `[[folder]]`.
    Folder,
    /// A `[[network]]`.
    Network,
}

impl Target {
    /// The word that stands in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Process => "process",
            Self::Folder => "folder",
            Self::Network => "network",
        }
    }
}

/// What a rung can say to an action alone.
pub trait Settings: DeserializeOwned {
    /// Whether the values make sense.
    fn sensible(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Of an action that takes no settings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl Settings for NoSettings {}

/// What a rung says to an action alone.
pub fn settings<T: Settings>(with: &toml::Table) -> Result<T, String> {
    let read = T::deserialize(with.clone());
    let settings = read.map_err(|error| format!("`with`: {}", error.message()))?;
    settings.sensible()?;
    Ok(settings)
}

/// See [`Spec::check`].
pub fn check<T: Settings>(with: &toml::Table) -> Result<(), String> {
    settings::<T>(with).map(|_| ())
}

/// Of an action that needs nothing but what every Linux host has.
pub fn anywhere(_: &Abilities) -> Result<(), String> {
    Ok(())
}

/// See [`Spec::verify`].
pub type Verify = fn(&Plan, &dyn Host) -> Result<String, String>;

/// See [`Spec::strike`]. `Err` is an effect that is already final.
pub type Strike = fn(&Permit, &dyn Host) -> Result<Struck, EffectResult>;
/// See [`Spec::execute`].
pub type Execute = fn(&Permit, Option<Struck>, &dyn Host) -> Executed;

/// What an execution did.
#[derive(Debug)]
pub struct Executed {
    /// When it began to change the host; none when it did not.
    pub acted: Option<Time>,
    /// How it went.
    pub result: EffectResult,
    /// What would change the host back; none where that is not possible, and for what did so itself.
    pub undo: Option<Plan>,
}

impl Executed {
    /// The host was changed, for good.
    pub const fn at(acted: Time, result: EffectResult) -> Self {
        Self {
            acted: Some(acted),
            result,
            undo: None,
        }
    }

    /// The host was not changed.
    pub const fn nothing(result: EffectResult) -> Self {
        Self {
            acted: None,
            result,
            undo: None,
        }
    }

    /// The permit's plan is none of this action's.
    fn not_mine(action: &str) -> Self {
        Self::nothing(EffectResult::Failed {
            reason: format!("the plan is not one of {action}"),
        })
    }
}

/// A strike that was carried out.
#[derive(Debug)]
pub struct Struck {
    /// When the host was changed.
    pub acted: Time,
    /// The process it was done to, held.
    pub target: Box<dyn Opened>,
}

macro_rules! actions {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Every action.
        pub const ALL: &[Spec] = &[$($name::SPEC,)*];
    };
}

actions! {
    kill_process,
    kill_cgroup,
    freeze,
    throttle_cpu,
    throttle_memory,
    lower_priority,
    lower_io_priority,
    set_oom_score,
    send_signal,
    drop_connections,
    repair_network,
    reload_service,
    restart_service,
    rollback_release,
    run_command,
    start_service,
    stop_service,
}

/// Every action, and whether a host with these abilities can do it.
pub fn rows(abilities: &Abilities) -> Vec<ActionRow> {
    let row = |spec: &Spec| ActionRow {
        name: spec.name.to_owned(),
        summary: spec.summary.to_owned(),
        risk: spec.risk,
        on: spec.on.iter().map(|on| on.name().to_owned()).collect(),
        reversible: spec.reversible,
        needs: spec.needs.to_owned(),
        unable: (spec.able)(abilities).err(),
    };
    ALL.iter().map(row).collect()
}
#[path = "actions/shared/restraining.rs"]
mod restraining;

/// Actions that must have an end: a rung that has one of them needs `undo_after`.
pub const PASSING: &[&str] = &[freeze::SPEC.name];

/// The action of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    ALL.iter().find(|spec| spec.name == name)
}

/// Does the part that never waits, if the action has one. `Err` is an effect that is already final.
pub fn strike(permit: &Permit, host: &dyn Host) -> Result<Option<Struck>, Box<Effect>> {
    let Some(strike) = find(permit.action()).and_then(|spec| spec.strike) else {
        return Ok(None);
    };
    match strike(permit, host) {
        Ok(struck) => Ok(Some(struck)),
        Err(result) => Err(Box::new(effect(
            permit,
            Executed::nothing(result),
            host.now(),
        ))),
    }
}

/// Carries out a permit, which is used up.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the permit must not be used a second time"
)]
pub fn execute(permit: Permit, struck: Option<Struck>, host: &dyn Host) -> Effect {
    let Some(spec) = find(permit.action()) else {
        let reason = format!("no action {}", permit.action());
        let nothing = Executed::nothing(EffectResult::Failed { reason });
        return effect(&permit, nothing, host.now());
    };
    let mut executed = (spec.execute)(&permit, struck, host);
    let mut verified = None;
    if let EffectResult::Done { detail } = &executed.result {
        match (spec.verify)(permit.plan(), host) {
            Ok(read) => verified = Some(read),
            Err(why) => {
                let reason = format!("{detail}; but {why}");
                executed.result = EffectResult::Failed { reason };
            }
        }
    }
    Effect {
        verified,
        ..effect(&permit, executed, host.now())
    }
}

fn effect(permit: &Permit, executed: Executed, finished: Time) -> Effect {
    Effect {
        incident: permit.incident(),
        action: permit.action().to_owned(),
        acted: executed.acted,
        finished,
        result: executed.result,
        verified: None,
        undo: executed.undo,
    }
}

/// The process that an incident is about, and its name. It is the subject's own, never one that the evidence merely mentions: a
/// refused connection also names its caller.
fn process_of(incident: &Incident, world: &World) -> Result<(ProcessKey, String), String> {
    match &incident.subject {
        Subject::Process { process, comm, .. } => Ok((*process, comm.clone())),
        Subject::Service { name } => {
            let service = world.services.get(name);
            let running = service.and_then(|service| Some((service.process?, service.started?)));
            let (process, started) =
                running.ok_or_else(|| format!("service {name} does not run"))?;
            if started > incident.evidence.seen {
                return Err(format!("service {name} has been started anew since"));
            }
            Ok((process, name.clone()))
        }
        Subject::Host
        | Subject::Peer { .. }
        | Subject::Device { .. }
        | Subject::Folder { .. }
        | Subject::Network { .. } => Err(format!("{} is no process", incident.subject)),
    }
}

/// The service that an incident is about.
fn service_of<'a>(incident: &Incident, world: &'a World) -> Result<&'a Service, String> {
    let Subject::Service { name } = &incident.subject else {
        return Err(format!("{} is not a service", incident.subject));
    };
    let service = world.services.get(name);
    service.ok_or_else(|| format!("no service {name}"))
}

/// A target that is not the one that was meant is a refusal; anything else is a failure.
fn refused(error: &HostError) -> EffectResult {
    let reason = error.to_string();
    match error {
        HostError::Gone(_)
        | HostError::Reused(_)
        | HostError::Replaced { .. }
        | HostError::Renamed { .. }
        | HostError::OtherCgroup(_)
        | HostError::Runs { .. }
        | HostError::Stopped(_)
        | HostError::OtherRelease { .. }
        | HostError::Unfit(_)
        | HostError::OtherCommand(_)
        | HostError::OtherNetwork(_)
        | HostError::CalledOff(_) => EffectResult::Refused { reason },
        _ => EffectResult::Failed { reason },
    }
}
