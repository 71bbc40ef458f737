//! Stops a process with all that belongs to it for a while: nothing of it runs, and nothing is lost. It goes on when that is undone, which must
//! have a time (`undo_after`): nothing is frozen for ever.

use super::restraining;
use super::{Executed, Settings, Spec, Struck, Target, check, settings};
use crate::host::Host;
use crate::model::abilities::{Abilities, KILL};
use crate::model::action::Risk;
use crate::model::{Incident, Plan, Restraint, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "freeze",
    summary: "stops a process and all that belongs to it for a while (freezer, or SIGSTOP); it goes on when undone",
    risk: Risk::Restrains,
    reversible: true,
    on: &[Target::Service, Target::Process],
    needs: "root, to write to cgroups; CAP_KILL for `by = \"signal\"`",
    able,
    check: check::<Freeze>,
    plan,
    strike: None,
    execute,
    verify: restraining::verify,
};

#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    #[default]
    Cgroup,
    Signal,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Freeze {
    #[serde(default)]
    by: By,
}

impl Settings for Freeze {}

fn able(abilities: &Abilities) -> Result<(), String> {
    if abilities.cgroup2.is_some() || abilities.controllers1.contains("freezer") {
        restraining::writes_cgroups(abilities)
    } else {
        abilities.has(KILL)
    }
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let Freeze { by } = settings(&rung.with)?;
    Ok(Plan::Restrain {
        whole: restraining::whole(incident, world)?,
        restraint: Restraint::Freeze {
            by_signal: matches!(by, By::Signal),
        },
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    restraining::execute(permit, host)
}
