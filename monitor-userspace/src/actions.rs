//! Actions: ways to change the host. A file each; adding one is a file and a line in `actions!` below.
//!
//! `plan` is pure and says exactly what would be done to whom. `execute` needs a [`Permit`] and uses it up. An action that must be
//! fast has a `strike`: the part that never waits, done on the hot thread; `execute` then finishes it elsewhere. An action counts
//! as done when `execute` says so, and as a success only when the signal that raised the incident says so.

use crate::host::{Host, Opened};
use crate::model::action::Risk;
use crate::model::{Effect, EffectResult, Incident, Plan, Time, World};
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
    /// What exactly it would do about an incident; a reason when it cannot do anything about it.
    pub plan: fn(&Incident, &World, &Rung) -> Result<Plan, String>,
    /// The part that never waits, for the hot thread.
    pub strike: Option<Strike>,
    /// All of it, or what is left after the strike. May wait.
    pub execute: Execute,
}

/// See [`Spec::strike`]. `Err` is an effect that is already final.
pub type Strike = fn(&Permit, &dyn Host) -> Result<Struck, EffectResult>;
/// See [`Spec::execute`]. When the host was changed, if it was, and how it went.
pub type Execute = fn(&Permit, Option<Struck>, &dyn Host) -> (Option<Time>, EffectResult);

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
    restart_service,
}

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
        Err(result) => Err(Box::new(effect(permit, None, result, host.now()))),
    }
}

/// Carries out a permit, which is used up.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the permit must not be used a second time"
)]
pub fn execute(permit: Permit, struck: Option<Struck>, host: &dyn Host) -> Effect {
    let (acted, result) = match find(permit.action()) {
        Some(spec) => (spec.execute)(&permit, struck, host),
        None => (
            None,
            EffectResult::Failed {
                reason: format!("no action {}", permit.action()),
            },
        ),
    };
    effect(&permit, acted, result, host.now())
}

fn effect(permit: &Permit, acted: Option<Time>, result: EffectResult, finished: Time) -> Effect {
    Effect {
        incident: permit.incident(),
        action: permit.action().to_owned(),
        acted,
        finished,
        result,
        undo: None,
    }
}
