//! Takes a restraint away again, unless somebody else has changed it since: then it is theirs, and left alone.

use std::time::Instant;

use super::apart::enter;
use super::{LONG, SOON, state};
use crate::host::cgroup::{Cgroup, failed};
use crate::host::signals::Held;
use crate::host::{HostError, clock, procfs};
use crate::model::{Lift, ProcessKey, Time};

/// When it was taken away, and what is now, in words; no time where nothing was changed.
pub type Lifted = (Option<Time>, String);

/// Takes it away. [`HostError::OtherCgroup`] and [`HostError::Gone`] when there is nothing to take it from any more.
pub fn lift(process: ProcessKey, lift: &Lift) -> Result<Lifted, HostError> {
    match lift {
        Lift::File {
            folder,
            id,
            file,
            had,
            set,
        } => {
            let own = Cgroup::at(folder, *id)?;
            let now = own.get(file)?;
            if now == *had {
                return Ok((None, format!("{file} says {had}, as before")));
            }
            if now != *set {
                return Ok((None, others(file, &now, set)));
            }
            let acted = clock::now();
            own.set(file, had)?;
            Ok((Some(acted), format!("{file} says {had} again")))
        }
        Lift::Made {
            folder,
            id,
            file,
            set,
        } => {
            let own = Cgroup::at(folder, *id)?;
            let now = own.get(file)?;
            let freezes = file == "freezer.state";
            if !freezes && now != *set && !own.processes()?.is_empty() {
                return Ok((None, others(file, &now, set)));
            }
            let acted = clock::now();
            if freezes {
                own.set(file, "THAWED")?;
            }
            let moved = empty(&own)?;
            own.remove()?;
            let back = format!(
                "{moved} are back where they were, and {} is removed",
                folder.display()
            );
            Ok((Some(acted), back))
        }
        Lift::Continue => {
            let held = Held::open(process)?;
            if state(process) != Some('T') {
                return Ok((None, "it runs, and is left alone".to_owned()));
            }
            let acted = clock::now();
            held.resume()?;
            Ok((Some(acted), "it goes on (SIGCONT)".to_owned()))
        }
    }
}

fn others(file: &str, now: &str, set: &str) -> String {
    format!(
        "{file} says {now} and not {set}: somebody else has changed it since, so it is left alone"
    )
}

/// Moves all that is in it into the one above, until nothing is: what is born of what is out is out, too.
fn empty(own: &Cgroup) -> Result<usize, HostError> {
    let above = own.path().parent().unwrap_or(own.path());
    let above = Cgroup::open(above)?;
    let deadline = Instant::now() + LONG;
    let mut moved = 0;
    loop {
        let left = own.processes()?;
        if left.is_empty() {
            return Ok(moved);
        }
        if Instant::now() > deadline {
            let many = std::io::Error::other(format!("{} are still in it", left.len()));
            return Err(failed(own.path(), "empty it", many));
        }
        for stat in left.into_iter().filter_map(procfs::stat) {
            moved += usize::from(enter(stat.key, &above)?);
        }
        std::thread::sleep(SOON);
    }
}

/// Reads back whether it is not in force any more.
pub fn is_lifted(process: ProcessKey, lift: &Lift) -> Result<String, HostError> {
    let (folder, id, file, set) = match lift {
        Lift::File {
            folder,
            id,
            file,
            set,
            ..
        }
        | Lift::Made {
            folder,
            id,
            file,
            set,
        } => (folder, *id, file, set),
        Lift::Continue if state(process) == Some('T') => {
            return Err(HostError::Untouched("it is stopped".to_owned()));
        }
        Lift::Continue => return Ok("it is not stopped".to_owned()),
    };
    match Cgroup::at(folder, id) {
        Err(HostError::OtherCgroup(_)) => Ok(format!("{} is gone", folder.display())),
        Err(error) => Err(error),
        Ok(own) => match own.get(file)? {
            now if now == *set => Err(HostError::Untouched(format!("{file} still says {now}"))),
            now => Ok(format!("{file} says {now}")),
        },
    }
}
