//! Limits the memory of a process and all that belongs to it without killing any of it: what is beyond `memory.high` is reclaimed, and who
//! takes it waits for that. There is no such thing in cgroup v1, whose limit kills; that one is not put in its place.

use super::restraining;
use super::{Executed, Settings, Spec, Struck, Target, check, settings};
use crate::config::units::Bytes;
use crate::host::Host;
use crate::model::abilities::Abilities;
use crate::model::action::Risk;
use crate::model::{Incident, Plan, Restraint, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "throttle_memory",
    summary: "limits the memory of a process and all that belongs to it, which waits but is not killed (`memory.high`)",
    risk: Risk::Restrains,
    reversible: true,
    on: &[Target::Service, Target::Process],
    needs: "root, and the memory controller of cgroup v2",
    able,
    check: check::<ThrottleMemory>,
    plan,
    strike: None,
    execute,
    verify: restraining::verify,
};

/// Less than this stops every program.
const LEAST: Bytes = Bytes::mib(1);
/// `memory.high` is kept in pages: what is written is what will be read, on pages of up to this many bytes.
const PAGE: u64 = 65_536;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ThrottleMemory {
    high: Bytes,
}

impl Settings for ThrottleMemory {
    fn sensible(&self) -> Result<(), String> {
        if self.high.0 >= LEAST.0 {
            return Ok(());
        }
        Err(format!(
            "`high` is {}, and must be {LEAST} or more",
            self.high
        ))
    }
}

fn able(abilities: &Abilities) -> Result<(), String> {
    if abilities.controllers2.contains("memory") {
        return restraining::writes_cgroups(abilities);
    }
    if abilities.controllers1.contains("memory") {
        return Err(
            "the memory controller is that of cgroup v1, which has no memory.high: boot with systemd.unified_cgroup_hierarchy=1 or cgroup_no_v1=memory"
                .to_owned(),
        );
    }
    Err(
        "no cgroup hierarchy here has the memory controller: boot with cgroup_enable=memory"
            .to_owned(),
    )
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let ThrottleMemory { high } = settings(&rung.with)?;
    Ok(Plan::Restrain {
        whole: restraining::whole(incident, world)?,
        restraint: Restraint::Memory {
            high: high.0 / PAGE * PAGE,
        },
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    restraining::execute(permit, host)
}
