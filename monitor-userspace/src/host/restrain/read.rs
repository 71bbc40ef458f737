//! Reads back from the host that a process is held back.

use super::apart::name;
use super::{CPU, FREEZER, PERIOD, quota, quota2, state, until};
use crate::host::cgroup::{Cgroup, Hierarchy, place};
use crate::host::{HostError, whole};
use crate::model::{Restraint, Whole};

/// Reads back whether it is held back: in words how.
pub fn is_restrained(whole: &Whole, restraint: Restraint) -> Result<String, HostError> {
    let held = whole::open(whole)?;
    drop(held);
    let pid = whole.process.pid;
    let no = |why: String| Err(HostError::Untouched(why));
    let of = |tree| Cgroup::of(tree, pid);
    let apart =
        |tree| of(tree).map(|found| found.filter(|it| it.path().ends_with(name(whole.process))));
    match restraint {
        Restraint::Freeze { .. } => {
            if let Some(own) = apart(FREEZER)? {
                all_in(whole, FREEZER, &own)?;
                return match own.get("freezer.state")?.as_str() {
                    "FROZEN" => Ok("the freezer says FROZEN".to_owned()),
                    other => no(format!("the freezer says {other}")),
                };
            }
            let events = of(Hierarchy::V2)?.and_then(|own| own.read("cgroup.events").ok());
            if events.is_some_and(|text| text.lines().any(|line| line == "frozen 1")) {
                return Ok("its cgroup says that it is frozen".to_owned());
            }
            match state(whole.process) {
                Some('T') => Ok("it is stopped".to_owned()),
                other => no(format!("it is neither frozen nor stopped ({other:?})")),
            }
        }
        Restraint::Cpu { percent } => match apart(CPU)? {
            Some(own) => {
                all_in(whole, CPU, &own)?;
                let (read, wanted) = (own.get("cpu.cfs_quota_us")?, quota(percent).to_string());
                if read != wanted {
                    return no(format!("cpu.cfs_quota_us says {read}, not {wanted}"));
                }
                Ok(format!("cpu.cfs_quota_us says {read} of {PERIOD}"))
            }
            None => says(of(Hierarchy::V2)?, "cpu.max", &quota2(percent)),
        },
        Restraint::Memory { high } => says(of(Hierarchy::V2)?, "memory.high", &high.to_string()),
    }
}

fn says(cgroup: Option<Cgroup>, file: &str, wanted: &str) -> Result<String, HostError> {
    let none = || HostError::Untouched("it is in no cgroup that is limited".to_owned());
    let read = cgroup.ok_or_else(none)?.get(file)?;
    if read == wanted {
        return Ok(format!("{file} says {read}"));
    }
    Err(HostError::Untouched(format!(
        "{file} says {read}, not {wanted}"
    )))
}

/// Whether all that belongs to it is in there. A process that is just being born shows in the root until it is: so it is looked again.
fn all_in(whole: &Whole, tree: Hierarchy, own: &Cgroup) -> Result<(), HostError> {
    let above = own.path().parent();
    let outside = || -> Result<usize, HostError> {
        let members = whole::members(whole, &[])?;
        let alive = members.iter().filter(|stat| !stat.exiting);
        let outside = alive.filter(|stat| place(tree, stat.key.pid).as_deref() == above);
        Ok(outside.count())
    };
    if until(&|| outside().is_ok_and(|count| count == 0)) {
        return Ok(());
    }
    match outside()? {
        0 => Ok(()),
        some => Err(HostError::Untouched(format!(
            "{some} that belong to it are not in it"
        ))),
    }
}
