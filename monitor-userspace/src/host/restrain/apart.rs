//! Holds a process back in a cgroup of version 1 that is made for it below the one it is in, with all that belongs to it.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{
    CPU, FREEZER, LONG, PERIOD, Restrained, Will, more_than_quota, quota, unstill, until, who,
};
use crate::host::cgroup::{Cgroup, Hierarchy, failed, place};
use crate::host::signals::Held;
use crate::host::{HostError, clock, whole};
use crate::model::{Lift, ProcessKey, Time, Whole};

/// How the names of cgroups begin that are made here.
pub(super) const PREFIX: &str = "smart-monitor-";

/// What a cgroup is called that is made for a process: no other process has this name, and two acts on one cannot both make it.
pub(super) fn name(process: ProcessKey) -> String {
    format!("{PREFIX}{}-{}", process.pid, process.start_ticks)
}

fn made(own: &Cgroup, (file, set): (&str, &str)) -> Lift {
    Lift::Made {
        folder: own.path().to_owned(),
        id: own.id(),
        file: file.to_owned(),
        set: set.to_owned(),
    }
}

/// Makes a cgroup and writes down what takes it away.
fn make(
    above: &Cgroup,
    whole: &Whole,
    change: (&str, &str),
    will: Will<'_>,
) -> Result<(Cgroup, Lift), HostError> {
    let name = name(whole.process);
    if above.path().ends_with(&name) {
        let why = format!(
            "{} is held back already, in {}",
            who(whole),
            above.path().display()
        );
        return Err(HostError::Untouched(why));
    }
    let own = above.make_below(&name)?;
    let lift = made(&own, change);
    if let Err(error) = will(&lift) {
        let _empty = own.remove();
        return Err(error);
    }
    Ok((own, lift))
}

/// Freezes it in a cgroup of version 1.
pub(super) fn freeze_apart(
    above: &Cgroup,
    whole: &Whole,
    protected: &[&str],
    will: Will<'_>,
) -> Result<Restrained, HostError> {
    let change = ("freezer.state", "FROZEN");
    let (own, lift) = make(above, whole, change, will)?;
    let acted = clock::now();
    let mut gathered = gather(whole, FREEZER, above, &own, protected);
    // Frozen even if not all came in: what did is not left running by halves.
    let frozen = || {
        own.read("freezer.state")
            .is_ok_and(|state| state == "FROZEN")
    };
    if gathered.stopped.is_none() {
        gathered.stopped = match own.set("freezer.state", "FROZEN") {
            Ok(()) if until(&frozen) => None,
            Ok(()) => Some(unstill(&own)),
            Err(error) => Some(error),
        };
    }
    let what = format!("{} is frozen", who(whole));
    gathered.through(acted, lift, &own, &what)
}

/// Limits its CPU time in a cgroup of version 1.
pub(super) fn limit_apart(
    above: &Cgroup,
    percent: u32,
    whole: &Whole,
    protected: &[&str],
    will: Will<'_>,
) -> Result<Restrained, HostError> {
    let had = above.read("cpu.cfs_quota_us").unwrap_or_default();
    let period = above.read("cpu.cfs_period_us").unwrap_or_default();
    let limited = had.parse::<u64>().is_ok();
    if limited && !more_than_quota(&format!("{had} {period}"), percent) {
        let why = format!(
            "{} has {had} of {period} µs already, which is as little",
            who(whole)
        );
        return Err(HostError::Untouched(why));
    }
    let set = quota(percent).to_string();
    let (own, lift) = make(above, whole, ("cpu.cfs_quota_us", &set), will)?;
    let acted = clock::now();
    let limits = own
        .set("cpu.cfs_period_us", &PERIOD.to_string())
        .and_then(|()| own.set("cpu.cfs_quota_us", &set));
    if let Err(error) = limits {
        let _empty = own.remove();
        return Err(error);
    }
    let gathered = gather(whole, CPU, above, &own, protected);
    let what = format!("{} has {percent} % of a CPU", who(whole));
    gathered.through(acted, lift, &own, &what)
}

#[derive(Debug, Default)]
struct Gathered {
    moved: usize,
    /// Processes that belong to it and are in another cgroup of their own.
    elsewhere: usize,
    stopped: Option<HostError>,
}

impl Gathered {
    fn through(
        mut self,
        acted: Time,
        lift: Lift,
        own: &Cgroup,
        what: &str,
    ) -> Result<Restrained, HostError> {
        if self.moved == 0 {
            let _empty = own.remove();
            let nobody = || HostError::Untouched("nothing could be moved".to_owned());
            return Err(self.stopped.take().unwrap_or_else(nobody));
        }
        let others = match self.elsewhere {
            0 => String::new(),
            some => format!("; {some} more are in cgroups of their own, and as they were"),
        };
        Ok(Restrained {
            acted,
            lift,
            detail: format!(
                "{what}, with all that belongs to it ({} in {}){others}",
                self.moved,
                own.path().display()
            ),
            stopped: self.stopped,
        })
    }
}

/// Moves it and all that belongs to it, until nothing that belongs to it is left in the one above: what is born of what is in is in, too.
fn gather(
    whole: &Whole,
    tree: Hierarchy,
    above: &Cgroup,
    own: &Cgroup,
    protected: &[&str],
) -> Gathered {
    let mut gathered = Gathered::default();
    let mut moved = BTreeSet::new();
    let deadline = Instant::now() + LONG;
    loop {
        let members = match whole::members(whole, protected) {
            Ok(members) => members,
            Err(error) => {
                gathered.stopped = Some(error);
                break;
            }
        };
        let (mut outside, mut elsewhere) = (Vec::new(), 0);
        for stat in members.into_iter().filter(|stat| !stat.exiting) {
            match place(tree, stat.key.pid) {
                Some(path) if path == above.path() => outside.push(stat.key),
                Some(path) if path != own.path() => elsewhere += 1,
                _ => {}
            }
        }
        gathered.elsewhere = elsewhere;
        if outside.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            gathered.stopped = Some(HostError::Untouched(format!(
                "{} are born faster than they are moved",
                outside.len()
            )));
            break;
        }
        for process in outside {
            match enter(process, own) {
                Ok(true) => {
                    moved.insert(process);
                }
                Ok(false) => {}
                Err(error) => {
                    gathered.stopped = Some(error);
                    break;
                }
            }
        }
        if gathered.stopped.is_some() {
            break;
        }
    }
    gathered.moved = moved.len();
    gathered
}

/// Moves a process into a cgroup. False when it has ended. While its pidfd says that it lives, its PID has meant no other process; what is left
/// is one that ends in this moment, and whose number is given out again within it: numbers go round before they come again.
pub(super) fn enter(process: ProcessKey, cgroup: &Cgroup) -> Result<bool, HostError> {
    match Held::open(process) {
        Ok(_) => {}
        Err(HostError::Gone(_) | HostError::Reused(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    match cgroup.write("cgroup.procs", &process.pid.to_string()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(failed(cgroup.path(), &format!("move {process}"), error)),
    }
}
