//! Holds a process back with all that belongs to it, and lets it go again. Never anybody else.
//!
//! Cgroups of version 2: by a file of its own cgroup, if nobody else is in that. Of version 1: in a cgroup that is made for it below the one
//! it is in, so that what limits it there still does; its descendants go with it, and go back when it is over. Without either, a freeze is
//! SIGSTOP to the one process. What was changed is known before it is changed, so that it can be written down.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::cgroup::{Cgroup, Hierarchy, failed, place};
use super::signals::Held;
use super::{HostError, clock, procfs, whole};
use crate::model::{Lift, ProcessKey, Restraint, Time, Whole};

mod lift;
pub use lift::{Lifted, is_lifted, lift};

/// How long it may take until all of it is moved, or stands still.
const LONG: Duration = Duration::from_secs(5);
/// Between two looks.
const SOON: Duration = Duration::from_millis(1);
/// What limits are measured in, microseconds: the kernel's own default.
const PERIOD: u32 = 100_000;
const FREEZER: Hierarchy = Hierarchy::V1("freezer");
const CPU: Hierarchy = Hierarchy::V1("cpu");

/// What was changed.
#[derive(Debug)]
pub struct Restrained {
    /// When it began.
    pub acted: Time,
    /// What takes it away again.
    pub lift: Lift,
    /// What was done, in words.
    pub detail: String,
    /// What stopped it before it was through.
    pub stopped: Option<HostError>,
}

/// Writes down what will take it away, before anything is changed.
pub type Will<'a> = &'a mut dyn FnMut(&Lift) -> Result<(), HostError>;

/// Holds it back. An error when nothing was changed.
pub fn restrain(
    whole: &Whole,
    restraint: Restraint,
    protected: &[&str],
    will: Will<'_>,
) -> Result<Restrained, HostError> {
    let held = whole::open(whole)?;
    whole::members(whole, protected)?;
    match restraint {
        Restraint::Freeze { by_signal: true } => stop(&held, whole, will),
        Restraint::Freeze { by_signal: false } => {
            match whole::own_cgroup(whole, Hierarchy::V2, protected) {
                Ok(Some(own)) if own.has("cgroup.freeze") => freeze(&own, whole, will),
                Err(error) if !matches!(error, HostError::Untouched(_)) => Err(error),
                _ => match Cgroup::of(FREEZER, whole.process.pid)? {
                    Some(above) => apart(&above, FREEZER, whole, protected, will),
                    None => stop(&held, whole, will),
                },
            }
        }
        Restraint::Cpu { percent } => match Cgroup::of(CPU, whole.process.pid)? {
            Some(above) => limit_apart(&above, percent, whole, protected, will),
            None => {
                let want = |had: &str| more_than_quota(had, percent).then(|| quota2(percent));
                file(whole, "cpu", "cpu.max", &want, protected, will)
            }
        },
        Restraint::Memory { high } => {
            let want = |had: &str| {
                let more = had.parse::<u64>().map_or(had == "max", |had| had > high);
                more.then(|| high.to_string())
            };
            file(whole, "memory", "memory.high", &want, protected, will)
        }
    }
}

fn who(whole: &Whole) -> String {
    format!("{} [{}]", whole.comm, whole.process.pid)
}

/// What `cpu.max` says for so many hundredths of a CPU.
fn quota2(percent: u32) -> String {
    format!("{} {PERIOD}", quota(percent))
}

fn quota(percent: u32) -> u64 {
    u64::from(percent) * u64::from(PERIOD) / 100
}

/// Whether `cpu.max` (`QUOTA PERIOD`, or `max PERIOD`) gives more than so many hundredths of a CPU.
fn more_than_quota(had: &str, percent: u32) -> bool {
    let mut words = had.split(' ').map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(quota)), Some(Ok(period))) => {
            quota.saturating_mul(100) > period.saturating_mul(u64::from(percent))
        }
        _ => had.starts_with("max"),
    }
}

/// A limit in a file of its own cgroup. `want` says what is to be written, given what it says now; none where that is as strict already.
fn file(
    whole: &Whole,
    controller: &str,
    name: &str,
    want: &dyn Fn(&str) -> Option<String>,
    protected: &[&str],
    will: Will<'_>,
) -> Result<Restrained, HostError> {
    let Some(own) = whole::own_cgroup(whole, Hierarchy::V2, protected)? else {
        let why = format!("{} has no cgroup (v2) of its own that could be limited", who(whole));
        return Err(HostError::Untouched(why));
    };
    if !own.has(name) && whole.cgroup_id != 0 {
        hand_on(&own, controller);
    }
    if !own.has(name) {
        return Err(HostError::Untouched(format!(
            "the cgroup {} has no {name}: the controller {controller} is not on for it; of a unit, systemd switches it on by CPUAccounting=yes or MemoryAccounting=yes",
            own.path().display()
        )));
    }
    let had = own.get(name)?;
    let Some(set) = want(&had) else {
        let why = format!("{} has {name} {had} already, which is as little", who(whole));
        return Err(HostError::Untouched(why));
    };
    let detail = format!("{} has {name} {set} in {}", who(whole), own.path().display());
    write(&own, (name, had, set), detail, will)
}

/// Switches a controller on for services, in our own folders between the daemon's cgroup and theirs, which hold no processes. Where the daemon's
/// own does not hand it on, nothing changes.
fn hand_on(service: &Cgroup, controller: &str) {
    let above: Vec<_> = service.path().ancestors().skip(1).take(2).collect();
    for folder in above.into_iter().rev() {
        let written = std::fs::write(
            folder.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
        if let Err(error) = written {
            tracing::debug!(folder = %folder.display(), controller, %error, "a controller is not handed on to services");
        }
    }
}

fn write(
    own: &Cgroup,
    (name, had, set): (&str, String, String),
    detail: String,
    will: Will<'_>,
) -> Result<Restrained, HostError> {
    let lift = Lift::File {
        folder: own.path().to_owned(),
        id: own.id(),
        file: name.to_owned(),
        had,
        set: set.clone(),
    };
    will(&lift)?;
    let acted = clock::now();
    own.set(name, &set)?;
    Ok(Restrained {
        acted,
        lift,
        detail,
        stopped: None,
    })
}

fn freeze(own: &Cgroup, whole: &Whole, will: Will<'_>) -> Result<Restrained, HostError> {
    let had = own.get("cgroup.freeze")?;
    if had != "0" {
        let why = format!("{} is frozen already", own.path().display());
        return Err(HostError::Untouched(why));
    }
    let detail = format!("{} is frozen, with all in {}", who(whole), own.path().display());
    let change = ("cgroup.freeze", had, "1".to_owned());
    let mut restrained = write(own, change, detail, will)?;
    let frozen = || {
        let events = own.read("cgroup.events").unwrap_or_default();
        events.lines().any(|line| line == "frozen 1")
    };
    restrained.stopped = until(&frozen).then_some(()).map_or_else(
        || Some(unstill(own)),
        |()| None,
    );
    Ok(restrained)
}

fn unstill(own: &Cgroup) -> HostError {
    let slow = std::io::Error::other(
        "not all of it stands still yet: a process may hang in the kernel (see /proc/PID/stack)",
    );
    failed(own.path(), "freeze it", slow)
}

fn until(is: &dyn Fn() -> bool) -> bool {
    let deadline = Instant::now() + LONG;
    while !is() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(SOON);
    }
    true
}

fn stop(held: &Held, whole: &Whole, will: Will<'_>) -> Result<Restrained, HostError> {
    let stopped = || state(whole.process) == Some('T');
    if stopped() {
        let why = format!("{} is stopped already", who(whole));
        return Err(HostError::Untouched(why));
    }
    will(&Lift::Continue)?;
    let acted = clock::now();
    held.stop()?;
    let stopped = until(&stopped).then_some(()).map_or_else(
        || {
            Some(HostError::Untouched(format!(
                "{} does not stop: it may hang in the kernel",
                who(whole)
            )))
        },
        |()| None,
    );
    Ok(Restrained {
        acted,
        lift: Lift::Continue,
        detail: format!("{} is stopped, it alone, by SIGSTOP", who(whole)),
        stopped,
    })
}

/// `T` for a stopped process; none when it is gone.
fn state(process: ProcessKey) -> Option<char> {
    let stat = procfs::stat(process.pid);
    stat.filter(|stat| stat.key == process)
        .map(|stat| stat.state)
}

/// What a cgroup is called that is made for a process: no other process has this name, and two acts on one cannot both make it.
fn name(process: ProcessKey) -> String {
    format!("smart-monitor-{}-{}", process.pid, process.start_ticks)
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
        let why = format!("{} is held back already, in {}", who(whole), above.path().display());
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
fn apart(
    above: &Cgroup,
    tree: Hierarchy,
    whole: &Whole,
    protected: &[&str],
    will: Will<'_>,
) -> Result<Restrained, HostError> {
    let change = ("freezer.state", "FROZEN");
    let (own, lift) = make(above, whole, change, will)?;
    let acted = clock::now();
    let mut gathered = gather(whole, tree, above, &own, protected);
    // Frozen even if not all came in: what did is not left running by halves.
    let frozen = || own.read("freezer.state").is_ok_and(|state| state == "FROZEN");
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
fn limit_apart(
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
        let why = format!("{} has {had} of {period} µs already, which is as little", who(whole));
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
        let left = match self.elsewhere {
            0 => String::new(),
            some => format!("; {some} more are in cgroups of their own, and as they were"),
        };
        Ok(Restrained {
            acted,
            lift,
            detail: format!(
                "{what}, with all that belongs to it ({} in {}){left}",
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
fn enter(process: ProcessKey, cgroup: &Cgroup) -> Result<bool, HostError> {
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

/// Reads back whether it is held back: in words how.
pub fn is_restrained(whole: &Whole, restraint: Restraint) -> Result<String, HostError> {
    let held = whole::open(whole)?;
    drop(held);
    let pid = whole.process.pid;
    let no = |why: String| Err(HostError::Untouched(why));
    let of = |tree| Cgroup::of(tree, pid);
    let apart = |tree| of(tree).map(|found| found.filter(|it| it.path().ends_with(name(whole.process))));
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
        Restraint::Memory { high } => {
            says(of(Hierarchy::V2)?, "memory.high", &high.to_string())
        }
    }
}

fn says(cgroup: Option<Cgroup>, file: &str, wanted: &str) -> Result<String, HostError> {
    let none = || HostError::Untouched("it is in no cgroup that is limited".to_owned());
    let read = cgroup.ok_or_else(none)?.get(file)?;
    if read == wanted {
        return Ok(format!("{file} says {read}"));
    }
    Err(HostError::Untouched(format!("{file} says {read}, not {wanted}")))
}

fn all_in(whole: &Whole, tree: Hierarchy, own: &Cgroup) -> Result<(), HostError> {
    let above = own.path().parent();
    let members = whole::members(whole, &[])?;
    let outside = members.iter().filter(|stat| !stat.exiting);
    match outside.filter(|stat| place(tree, stat.key.pid).as_deref() == above).count() {
        0 => Ok(()),
        some => Err(HostError::Untouched(format!("{some} that belong to it are not in it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_loosened() {
        for (had, more) in [
            ("max 100000", true),
            ("50000 100000", false),
            ("50001 100000", true),
            ("10000 100000", false),
            ("5000 10000", false),
            ("200000 100000", true),
            ("garbage", false),
            ("", false),
        ] {
            assert_eq!(more_than_quota(had, 50), more, "{had}");
        }
        assert_eq!(quota2(50), "50000 100000");
        assert_eq!(quota2(250), "250000 100000");
    }
}
