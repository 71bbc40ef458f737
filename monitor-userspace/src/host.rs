//! The only hands: signals, processes, clocks and files of the host. Nothing else in the crate spawns, signals or ends anything.
//!
//! Actions see the host through [`Host`], so that they are tested on a fake. Identity is checked here, at the last moment: a process
//! is opened as a pidfd first and its start time compared after, so that what is signalled is what was meant, or nothing.

pub mod abilities;
pub mod capture;
pub mod cgroupfs;
pub mod clock;
pub mod disks;
pub mod exec;
pub mod listeners;
pub mod logs;
pub mod meminfo;
pub mod own;
pub mod priority;
pub mod procfs;
pub mod rtnetlink;
pub mod service_cgroup;
pub mod signals;
mod spawn;

use std::time::Duration;

use crate::model::{IncidentId, Plan, ProcessKey, Time};
pub use priority::Reniced;

/// Why the host could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The process has ended.
    #[error("{0} has ended already")]
    Gone(ProcessKey),
    /// The PID belongs to another process by now.
    #[error("{0} is not the process that was meant: its PID has been used again")]
    Reused(ProcessKey),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried, on what.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}; check `command` of this service")]
    Spawn {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The configuration has no such service, or it is no longer wanted.
    #[error("no service {0} is managed here")]
    NoService(String),
    /// The service has another process by now than the one that the act is about.
    #[error("service {service} runs as {found} by now, not as the process this is about")]
    Replaced {
        /// Which.
        service: String,
        /// Its process now.
        found: ProcessKey,
    },
    /// What would be started is not what was allowed.
    #[error("the command of service {0} has changed since this was decided")]
    OtherCommand(String),
    /// The process has become another program.
    #[error("{process} is {found} by now, not {meant}: it has become another program")]
    Renamed {
        /// Which.
        process: ProcessKey,
        /// What it is called by now.
        found: String,
        /// What it was called.
        meant: String,
    },
    /// This host has no way to do that.
    #[error("this host cannot {0}")]
    Unable(&'static str),
    /// What would change the host back cannot be written down, so it is not changed.
    #[error("the journal cannot be written, so nothing is changed: {0}")]
    Journal(String),
    /// A service's cgroup cannot be used.
    #[error("cannot use the cgroup {}: {why}", folder.display())]
    Cgroup {
        /// Its folder.
        folder: std::path::PathBuf,
        /// What was tried, and the kernel's answer.
        why: String,
    },
    /// It would not end.
    #[error("{process} did not end within {within:?} after SIGKILL; it may hang in the kernel (see /proc/{}/stack)", process.pid)]
    Undying {
        /// Which.
        process: ProcessKey,
        /// How long was waited.
        within: Duration,
    },
}

/// What an action may do to the host.
pub trait Host: Send + Sync + std::fmt::Debug {
    /// Opens a process for signalling; refuses one that is not the same any more.
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError>;

    /// Ends what is left of a service and starts it anew. Returns its new process. `process` is the one it is known to have had,
    /// `command` what was allowed to be started: refused when it is another one by now.
    fn restart_service(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
        command: &[String],
    ) -> Result<Restarted, HostError>;

    /// The main process of a service, as its supervisor says; none when it does not run.
    fn running(&self, _service: &str) -> Result<Option<ProcessKey>, HostError> {
        Err(HostError::Unable("say what a service runs as"))
    }

    /// Writes down what will change the host back, before it is changed, so that it is known whatever becomes of the daemon. An action
    /// that gets an error must change nothing.
    fn will_change(
        &self,
        _incident: IncidentId,
        _action: &str,
        _undo: &Plan,
    ) -> Result<(), HostError> {
        Err(HostError::Unable("write down what would change it back"))
    }

    /// `CLOCK_MONOTONIC`.
    fn now(&self) -> Time;
}

/// A service that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// Its new process.
    pub process: ProcessKey,
    /// When the first thing about the old one was changed, or the new one was started.
    pub acted: Time,
}

/// A process held by a pidfd: it can end, but its PID cannot come to mean another one.
pub trait Opened: Send + std::fmt::Debug {
    /// What it is called now; none when that cannot be read any more.
    fn name(&self) -> Option<String> {
        None
    }

    /// Asks it to leave (SIGTERM).
    fn terminate(&self) -> Result<(), HostError>;

    /// Ends it (SIGKILL).
    fn kill(&self) -> Result<(), HostError>;

    /// Waits until it has ended and its memory is free; false when it has not within that time.
    fn wait(&self, within: Duration) -> Result<bool, HostError>;

    /// Frees the memory of a process that is dying, without waiting for it to do so. Does nothing on kernels that cannot (before 5.15).
    fn release_memory(&self);

    /// Gives each of its threads the nice value that `want` says, given the thread's id and the value it has; those that are born
    /// meanwhile too. Bounded by [`priority::THREADS`]. Threads that end meanwhile are passed over. An error when nothing could be read
    /// or changed; what stops it later stands in [`Reniced::stopped`].
    fn renice(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError>;
}
