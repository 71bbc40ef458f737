//! Holds a process back with all that belongs to it, and lets it go again. Never anybody else.
//!
//! Cgroups of version 2: by a file of its own cgroup, if nobody else is in that. Of version 1: in a cgroup that is made for it below the one
//! it is in, so that what limits it there still does; its descendants go with it, and go back when it is over. Without either, a freeze is
//! SIGSTOP to the one process. What was changed is known before it is changed, so that it can be written down.

use std::time::{Duration, Instant};

use super::cgroup::{Cgroup, Hierarchy, failed};
use super::signals::Held;
use super::{HostError, clock, procfs, whole};
use crate::model::{Lift, ProcessKey, Restraint, Time, Whole};

mod apart;
mod lift;
mod read;
use apart::{freeze_apart, limit_apart};
pub use lift::{Lifted, is_lifted, lift};
pub use read::is_restrained;

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
                    Some(above) => freeze_apart(&above, whole, protected, will),
                    None => stop(&held, whole, will),
                },
            }
        }
        Restraint::Cpu { percent } => {
            if let Some(above) = Cgroup::of(CPU, whole.process.pid)? {
                return limit_apart(&above, percent, whole, protected, will);
            }
            let want = |had: &str| more_than_quota(had, percent).then(|| quota2(percent));
            file(whole, "cpu", "cpu.max", &want, protected, will)
        }
        Restraint::Memory { high } => {
            let want = |had: &str| {
                let more = had.parse::<u64>().map_or(had == "max", |had| had > high);
                more.then(|| high.to_string())
            };
            file(whole, "memory", "memory.high", &want, protected, will)
        }
    }
}

/// What was sent SIGKILL cannot die while it is frozen by cgroup v1: what we froze is let go, with all that was frozen with it.
pub fn let_die(process: ProcessKey) {
    let Ok(Some(cgroup)) = Cgroup::of(FREEZER, process.pid) else {
        return;
    };
    let name = cgroup.path().file_name();
    let ours = name.is_some_and(|name| {
        name.as_encoded_bytes()
            .starts_with(apart::PREFIX.as_bytes())
    });
    if ours && let Err(error) = cgroup.set("freezer.state", "THAWED") {
        tracing::warn!(%process, %error, "it was sent SIGKILL and is frozen: it ends when that is undone");
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
        let why = format!(
            "{} has no cgroup (v2) of its own that could be limited",
            who(whole)
        );
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
        let why = format!(
            "{} has {name} {had} already, which is as little",
            who(whole)
        );
        return Err(HostError::Untouched(why));
    };
    let detail = format!(
        "{} has {name} {set} in {}",
        who(whole),
        own.path().display()
    );
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
    let detail = format!(
        "{} is frozen, with all in {}",
        who(whole),
        own.path().display()
    );
    let change = ("cgroup.freeze", had, "1".to_owned());
    let mut restrained = write(own, change, detail, will)?;
    let frozen = || {
        let events = own.read("cgroup.events").unwrap_or_default();
        events.lines().any(|line| line == "frozen 1")
    };
    restrained.stopped = until(&frozen)
        .then_some(())
        .map_or_else(|| Some(unstill(own)), |()| None);
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
