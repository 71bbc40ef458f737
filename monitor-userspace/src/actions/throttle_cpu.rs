//! Limits the CPU time of a process and all that belongs to it: `cpu.max` of cgroup v2, `cpu.cfs_quota_us` of v1. A limit that is as strict
//! already is left as it is.

use super::restraining;
use super::{Executed, Settings, Spec, Struck, Target, check, settings};
use crate::host::Host;
use crate::model::abilities::Abilities;
use crate::model::action::Risk;
use crate::model::{Incident, Plan, Restraint, World};
use crate::policy::{Permit, Rung};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "throttle_cpu",
    summary: "limits the CPU time of a process and all that belongs to it (`cpu.max`, `cpu.cfs_quota_us`)",
    risk: Risk::Restrains,
    reversible: true,
    on: &[Target::Service, Target::Process],
    needs: "root, and the cpu controller of cgroup v1 or v2",
    able,
    check: check::<ThrottleCpu>,
    plan,
    strike: None,
    execute,
    verify: restraining::verify,
};

/// Most that can be said: a hundred CPUs.
const MOST: u32 = 10_000;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ThrottleCpu {
    /// Of one CPU.
    #[serde(default = "half")]
    percent: u32,
}

const fn half() -> u32 {
    50
}

impl Settings for ThrottleCpu {
    fn sensible(&self) -> Result<(), String> {
        if (1..=MOST).contains(&self.percent) {
            return Ok(());
        }
        Err(format!(
            "`percent` is {}, and must be 1 to {MOST}: 100 is one CPU",
            self.percent
        ))
    }
}

fn able(abilities: &Abilities) -> Result<(), String> {
    if !abilities.controllers1.contains("cpu") && !abilities.controllers2.contains("cpu") {
        return Err(
            "no cgroup hierarchy here has the cpu controller: mount one, or boot without cgroup_disable=cpu"
                .to_owned(),
        );
    }
    restraining::writes_cgroups(abilities)
}

fn plan(incident: &Incident, world: &World, rung: &Rung) -> Result<Plan, String> {
    let ThrottleCpu { percent } = settings(&rung.with)?;
    Ok(Plan::Restrain {
        whole: restraining::whole(incident, world)?,
        restraint: Restraint::Cpu { percent },
    })
}

fn execute(permit: &Permit, _: Option<Struck>, host: &dyn Host) -> Executed {
    restraining::execute(permit, host)
}
