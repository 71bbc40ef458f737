//! Priorities of the threads of a process.
//!
//! `setpriority` knows threads by number alone, and `PRIO_PROCESS` means one thread, whatever its name says. Whoever calls holds the process
//! by a pidfd, so that its folder in `/proc` is its own; a thread is looked for in that folder right before it is changed. What is left is
//! a thread that ends in the microsecond between, and whose number is given out again within it: numbers go round before they come again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};

use super::HostError;
use crate::model::ProcessKey;

/// Most threads of a process that are looked at.
pub const THREADS: usize = 4096;
/// Most times that the list of threads is read: a thread that is born while others are changed has the value of the one that made it.
const ROUNDS: usize = 16;

/// What was changed.
#[derive(Debug, Default)]
pub struct Reniced {
    /// The nice values as they were before, by thread id. A thread that was born meanwhile with the value it should have is not in it.
    pub before: Vec<(u32, i32)>,
    /// Threads that were given another.
    pub changed: usize,
    /// Threads that were not looked at, because there are more than [`THREADS`].
    pub beyond: usize,
    /// What stopped it before it was through.
    pub stopped: Option<HostError>,
}

/// A kind of priority that each thread has one of.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// What it is called.
    pub(super) name: &'static str,
    /// Reads that of a thread.
    pub(super) get: fn(Pid) -> Result<i32, Errno>,
    /// Changes that of a thread.
    pub(super) set: fn(Pid, i32) -> Result<(), Errno>,
}

/// Nice values.
pub(super) const CPU: Kind = Kind {
    name: "priority",
    get: |thread| getpriority_process(Some(thread)),
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that changes priorities"
    )]
    set: |thread, nice| setpriority_process(Some(thread), nice),
};

/// See [`super::Opened::renice`].
pub(super) fn change(
    of: &Kind,
    process: ProcessKey,
    want: &dyn Fn(u32, i32) -> i32,
) -> Result<Reniced, HostError> {
    let mut before = BTreeMap::new();
    let mut reniced = Reniced::default();
    for round in 0..ROUNDS {
        let threads = match threads(process) {
            Ok((threads, beyond)) => {
                reniced.beyond = beyond;
                threads
            }
            Err(error) => {
                reniced.stopped = Some(error);
                break;
            }
        };
        let mut changed = 0;
        for thread in threads {
            match one(of, process, thread, want) {
                Ok(Some((had, wanted))) => {
                    if round == 0 || had != wanted {
                        before.entry(thread).or_insert(had);
                    }
                    changed += usize::from(had != wanted);
                }
                Ok(None) => {}
                Err(errno) => {
                    reniced.stopped = Some(HostError::System {
                        what: format!("change the {} of thread {thread} of {process}", of.name),
                        source: errno.into(),
                    });
                    break;
                }
            }
        }
        reniced.changed += changed;
        if changed == 0 || reniced.stopped.is_some() {
            break;
        }
    }
    reniced.before = before.into_iter().collect();
    match reniced.stopped.take_if(|_| reniced.changed == 0) {
        Some(error) => Err(error),
        None => Ok(reniced),
    }
}

/// The value that a thread had and the one that it should have, and has by now; none when the process has no such thread any more.
fn one(
    of: &Kind,
    process: ProcessKey,
    thread: u32,
    want: &dyn Fn(u32, i32) -> i32,
) -> Result<Option<(i32, i32)>, Errno> {
    let Some(number) = i32::try_from(thread).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let had = match (of.get)(number) {
        Ok(had) => had,
        Err(Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let wanted = want(thread, had);
    if wanted == had {
        return Ok(Some((had, wanted)));
    }
    if !folder(process).join(thread.to_string()).exists() {
        return Ok(None);
    }
    match (of.set)(number, wanted) {
        Ok(()) => Ok(Some((had, wanted))),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The ids of the threads of a process, at most [`THREADS`], and how many there are beyond.
fn threads(process: ProcessKey) -> Result<(Vec<u32>, usize), HostError> {
    let failed = |source: io::Error| match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::SRCH) => HostError::Gone(process),
        _ => HostError::System {
            what: format!("list the threads of {process}"),
            source,
        },
    };
    let mut threads = Vec::new();
    let mut beyond = 0;
    for entry in std::fs::read_dir(folder(process)).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if threads.len() < THREADS {
            threads.push(thread);
        } else {
            beyond += 1;
        }
    }
    Ok((threads, beyond))
}

fn folder(process: ProcessKey) -> PathBuf {
    PathBuf::from(format!("/proc/{}/task", process.pid))
}
