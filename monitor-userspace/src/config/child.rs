//! What a program that the daemon starts is given: user, limits, environment, how it is ended, how much of what it writes is kept.

use std::path::Path;

use serde::Deserialize;

use super::raw;
use super::resolve::Mistakes;
use super::units::Bytes;
use crate::host::capture;
use crate::host::exec::Program;
use crate::host::limits::{self, Resource};
use crate::host::users;

/// `limits = { ... }`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Numbers of open files.
    pub open_files: Option<u64>,
    /// Processes and threads of its user.
    pub processes: Option<u64>,
    /// Size of a core file.
    pub core: Option<Bytes>,
    /// Size of the stack.
    pub stack: Option<Bytes>,
    /// Memory that is kept from being swapped.
    pub locked_memory: Option<Bytes>,
    /// Size of a file that it writes.
    pub file_size: Option<Bytes>,
    /// Address space.
    pub address_space: Option<Bytes>,
    /// Niceness, -20 to 19.
    pub nice: Option<i32>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// `log = { ... }`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A file over this size becomes an old one.
    pub max_size: Option<Bytes>,
    /// So many old ones are kept.
    pub keep: Option<u32>,
}

/// The least size of a file that takes what a service writes.
const LEAST_LOG: u64 = 64 << 10;

/// All of it, in a program without the rest.
pub(super) fn resolve(raw: &raw::Service, mistakes: &mut Mistakes) -> Program {
    let mut program = Program::default();
    user(raw, &mut program, mistakes);
    if let Some(umask) = &raw.umask {
        match u32::from_str_radix(umask.get_ref(), 8) {
            Ok(mask) if mask <= 0o777 => program.umask = Some(mask),
            _ => {
                let help = Some("for example `umask = \"027\"`".to_owned());
                mistakes.add(umask, "`umask` is octal, at most \"777\"".to_owned(), help);
            }
        }
    }
    if let Some(file) = &raw.environment_file {
        if !file.get_ref().is_absolute() {
            let message = "`environment_file` is an absolute path".to_owned();
            mistakes.add(file, message, None);
        }
        program.environment_file = Some(Path::to_owned(file.get_ref()));
    }
    if let Some(limits) = &raw.limits {
        match limited(limits.get_ref()) {
            Ok(limits) => program.limits = limits,
            Err(why) => mistakes.add(limits, format!("`limits`: {why}"), None),
        }
    }
    program.stop_signal = raw.stop_signal.as_ref().map(|signal| *signal.get_ref());
    program.stop_timeout = raw.stop_timeout.map(|time| time.0);
    if let Some(log) = &raw.log {
        let Log { max_size, keep } = log.get_ref();
        let usual = capture::Bounds::default();
        program.log = capture::Bounds {
            max_size: max_size.map_or(usual.max_size, |size| size.0),
            keep: keep.unwrap_or(usual.keep),
        };
        if program.log.max_size < LEAST_LOG || program.log.keep > capture::MOST {
            let message = format!(
                "`log`: `max_size` is at least 64KiB, and `keep` at most {}",
                capture::MOST
            );
            mistakes.add(log, message, None);
        }
    }
    program
}

fn user(raw: &raw::Service, program: &mut Program, mistakes: &mut Mistakes) {
    let Some(name) = &raw.user else {
        if let Some(group) = &raw.group {
            mistakes.add(group, "`group` needs `user`".to_owned(), None);
        }
        return;
    };
    if raw.uid.is_some() || raw.gid.is_some() {
        let message = "`user` and `group`, or `uid` and `gid`: not both".to_owned();
        mistakes.add(name, message, None);
        return;
    }
    let user = match users::user(name.get_ref()) {
        Ok(user) => user,
        Err(why) => return mistakes.add(name, why, None),
    };
    let group = match &raw.group {
        None => user.group,
        Some(group) => match users::group(group.get_ref()) {
            Ok(id) => id,
            Err(why) => return mistakes.add(group, why, None),
        },
    };
    program.user = Some((user.id, group));
    program.groups = user.groups;
}

fn limited(raw: &Limits) -> Result<limits::Limits, String> {
    let bytes = |size: Option<Bytes>| size.map(|size| size.0);
    let all = [
        (Resource::OpenFiles, raw.open_files),
        (Resource::Processes, raw.processes),
        (Resource::Core, bytes(raw.core)),
        (Resource::Stack, bytes(raw.stack)),
        (Resource::LockedMemory, bytes(raw.locked_memory)),
        (Resource::FileSize, bytes(raw.file_size)),
        (Resource::AddressSpace, bytes(raw.address_space)),
    ];
    let can_be_none = [Resource::Core, Resource::LockedMemory];
    let set: Vec<(Resource, u64)> = all
        .into_iter()
        .filter_map(|(resource, value)| Some((resource, value?)))
        .collect();
    if let Some((resource, _)) = set
        .iter()
        .find(|(resource, value)| *value == 0 && !can_be_none.contains(resource))
    {
        let name = resource.name();
        return Err(format!("with `{name}` of 0 it could not run"));
    }
    if raw.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
        return Err("`nice` is -20 to 19".to_owned());
    }
    let score = raw.oom_score_adj;
    if score.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err("`oom_score_adj` is -1000 to 1000".to_owned());
    }
    Ok(limits::Limits {
        set,
        nice: raw.nice,
        oom_score_adj: score,
    })
}
