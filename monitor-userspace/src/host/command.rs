//! Runs one program to its end: for the action `run_command`, and for hooks of other actions.
//!
//! No shell, a clean environment, nothing of ours open, no input. Its output is read as fast as it comes and kept in part. What it starts
//! stays in a cgroup of its own, whatever session or parent it gives itself, and is ended with it: when it ends, at its time limit, and
//! when it becomes too many processes. When the daemon dies, the kernel ends the program, and the daemon's next start what that left.

mod child;
mod confine;
mod executable;
mod kept;
mod leftover;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::service_cgroup::{Cgroups, ServiceCgroup};
use super::signals::Held;
use super::{HostError, Opened, clock, own, procfs};
use crate::model::Time;
pub use crate::model::command::{Confined, Order};
pub use kept::Kept;
use leftover::Leftover;

/// Between SIGTERM at the time limit, and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// More processes than this at a time are ended with the program.
pub const PROCESSES: usize = 512;
/// How often the number of its processes is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process may take to die of SIGKILL.
const DYING: Duration = Duration::from_secs(10);

/// What came of a program that was started.
#[derive(Debug)]
pub struct Finished {
    /// How it ended, as `wait` gives it.
    pub status: u32,
    /// Why it was ended by us, if it was.
    pub ended: Option<Ended>,
    /// When it was started.
    pub started: Time,
    /// How long it ran.
    pub took: Duration,
    /// What it wrote to its standard output.
    pub output: Kept,
    /// What it wrote to its standard error.
    pub errors: Kept,
    /// It left processes behind, which were ended.
    pub left: bool,
    /// Why processes that it left behind may still be there.
    pub limitation: Option<String>,
}

/// Why a program was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time was up.
    Time,
    /// It was more than [`PROCESSES`] processes.
    Processes,
    /// It was not to go on, and why.
    CalledOff(String),
}

/// Runs programs, several at a time where several ask.
#[derive(Debug)]
pub struct Runner {
    instance: PathBuf,
    next: AtomicU64,
}

impl Runner {
    /// For a daemon with this state folder. Ends what the commands of an earlier run of it have left.
    pub fn new(instance: &Path) -> Self {
        leftover::end_all(instance);
        Self {
            instance: instance.to_owned(),
            next: AtomicU64::new(0),
        }
    }

    /// Runs a program to its end. An error is one that kept it from being started, or from being ended.
    pub fn run(&self, order: &Order) -> Result<Finished, HostError> {
        self.run_unless(order, &|| None)
    }

    /// The same; it is ended when it is called off: `called_off` is asked now and then why.
    pub fn run_unless(
        &self,
        order: &Order,
        called_off: &dyn Fn() -> Option<String>,
    ) -> Result<Finished, HostError> {
        self.go(order, called_off, false)
    }

    /// The same for one that puts a service into the background and ends: what it leaves lives on in the daemon's own cgroup, if it ended with
    /// exit code 0 and in time, and is ended with it otherwise. What it leaves cannot write to its outputs: nobody reads them any more.
    pub fn launch(&self, order: &Order) -> Result<Finished, HostError> {
        self.go(order, &|| None, true)
    }

    fn go(
        &self,
        order: &Order,
        called_off: &dyn Fn() -> Option<String>,
        leaves: bool,
    ) -> Result<Finished, HostError> {
        let program = order.command.first().cloned().unwrap_or_default();
        let not_run = |why: String| HostError::NotRun {
            program: program.clone(),
            why,
        };
        let executable = executable::open(order).map_err(not_run)?;
        let fence = order.confined.as_ref();
        let fence = fence.map(|confined| confine::fence(confined, &executable.file));
        let fence = fence.transpose().map_err(not_run)?;
        let (cgroup, limitation) = match self.cgroup() {
            Ok((cgroup, note)) => (Some((cgroup, note)), None),
            Err(error) => {
                let limitation =
                    format!("a process of it that left its process group is not ended: {error}");
                (None, Some(limitation))
            }
        };
        let folder = cgroup.as_ref().and_then(|(cgroup, _)| cgroup.fresh());
        let started = clock::now();
        let began = Instant::now();
        let child = child::start(order, &executable, fence.as_ref(), folder).map_err(not_run)?;
        own::expose(child.pid);
        // It is not reaped yet: its PID is its own.
        let gone = || not_run("its process cannot be read in /proc".to_owned());
        let held = Held::open(procfs::stat(child.pid).ok_or_else(gone)?.key)?;
        let cgroup = cgroup.as_ref().map(|(cgroup, _)| cgroup);
        let mut run = Run {
            held,
            cgroup,
            streams: [
                (Some(child.output), Kept::default()),
                (Some(child.errors), Kept::default()),
            ],
        };
        let ended = run.watch(began + order.timeout, called_off);
        let took = began.elapsed();
        let lives_on = leaves && ended.is_none();
        let (status, left) = run.end(lives_on)?;
        // Those who could write more are gone: what is left is what the pipes hold.
        run.read(AT_ONCE);
        let [(_, output), (_, errors)] = run.streams;
        Ok(Finished {
            status,
            ended,
            started,
            took,
            output,
            errors,
            left,
            limitation,
        })
    }

    /// A cgroup for one program, and the note that lets the next start of the daemon find it.
    fn cgroup(&self) -> Result<(ServiceCgroup, Leftover), HostError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let cgroup = Cgroups::of_commands(&self.instance)?.make(&name, None)?;
        let note = Leftover::note(&self.instance, &name, &cgroup)?;
        Ok((cgroup, note))
    }
}

/// A program that was started.
struct Run<'a> {
    held: Held,
    cgroup: Option<&'a ServiceCgroup>,
    /// Until they are at their end.
    streams: [(Option<OwnedFd>, Kept); 2],
}

impl Run<'_> {
    /// Reads what it writes until it has ended or has to be. Why it has to be, if so.
    fn watch(
        &mut self,
        deadline: Instant,
        called_off: &dyn Fn() -> Option<String>,
    ) -> Option<Ended> {
        // Since when it has been asked to leave, and why.
        let mut told: Option<(Instant, Ended)> = None;
        let mut looked = Instant::now();
        loop {
            // A program that writes without end does not keep us from its time limit.
            self.read(AT_ONCE);
            let now = Instant::now();
            if self.held.wait(Duration::ZERO).unwrap_or(true) {
                return told.map(|(_, why)| why);
            }
            if let Some((since, why)) = &told {
                if now.duration_since(*since) >= GRACE {
                    return Some(why.clone());
                }
            } else if let Some(why) = (now >= deadline)
                .then_some(Ended::Time)
                .or_else(|| called_off().map(Ended::CalledOff))
            {
                let _ended_just_now = self.held.terminate();
                told = Some((now, why));
            }
            if now.duration_since(looked) >= LOOK {
                looked = now;
                let count = |cgroup: &ServiceCgroup| cgroup.count(PROCESSES + 1);
                if self.cgroup.map_or(0, count) > PROCESSES {
                    return Some(Ended::Processes);
                }
            }
            let next = told.as_ref().map_or(deadline, |(since, _)| *since + GRACE);
            self.wait(next.saturating_duration_since(now).min(LOOK));
        }
    }

    /// Until it writes or ends, or this time is over.
    fn wait(&self, within: Duration) {
        let Ok(pidfd) = self.held.try_clone_fd() else {
            return;
        };
        let open = self.streams.iter().filter_map(|(file, _)| file.as_ref());
        let mut files: Vec<PollFd<'_>> = open
            .chain([&pidfd])
            .map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(within).unwrap_or_default();
        let _interrupted = poll(&mut files, Some(&timeout));
    }

    /// What is there to be read, of each stream at most so many bytes and a buffer more.
    fn read(&mut self, most: usize) {
        let mut buffer = [0; BUFFER];
        for (stream, kept) in &mut self.streams {
            let mut read = 0;
            while let Some(file) = stream.as_ref().filter(|_| read < most) {
                match rustix::io::read(file, &mut buffer) {
                    Ok(0) => *stream = None,
                    Ok(length) => {
                        kept.take(buffer.get(..length).unwrap_or_default());
                        read = read.saturating_add(length);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_nothing_now) => break,
                }
            }
        }
    }

    /// Ends what is left of it, unless that is to live on after an exit code of 0. How it ended itself, and whether more was ended.
    fn end(&mut self, lives_on: bool) -> Result<(u32, bool), HostError> {
        if !self.held.wait(Duration::ZERO)? {
            // At once with the others: what starts processes without end is not outrun one by one.
            if let Some(cgroup) = self.cgroup {
                cgroup.end()?;
            }
            match self.held.kill() {
                Ok(()) | Err(HostError::Gone(_)) => {}
                Err(error) => return Err(error),
            }
            if !self.held.wait(DYING)? {
                return Err(HostError::Undying {
                    process: self.held.process(),
                    within: DYING,
                });
            }
        }
        let status = Held::peek_fd(&self.held.try_clone_fd()?).unwrap_or(0);
        let left = match self.cgroup {
            Some(cgroup) if lives_on && status == 0 => {
                cgroup.let_go()?;
                false
            }
            Some(cgroup) => cgroup.end()?,
            None => false,
        };
        self.held.bury();
        Ok((status, left))
    }
}

/// Bytes that are read before anything else is looked at.
const AT_ONCE: usize = 1 << 20;
/// Bytes that are read at a time: what a pipe holds is 64 KiB, and a hand's stack is 256 KiB.
const BUFFER: usize = 16 << 10;
