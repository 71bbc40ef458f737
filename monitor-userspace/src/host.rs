//! The only hands: signals, processes, clocks and files of the host. Nothing else in the crate spawns, signals or ends anything.
//!
//! Actions see the host through [`Host`], so that they are tested on a fake. Identity is checked here, at the last moment: a process
//! is opened as a pidfd first and its start time compared after, so that what is signalled is what was meant, or nothing.

pub mod abilities;
pub mod as_user;
pub mod capture;
pub mod cgroup;
pub mod cgroupfs;
pub mod clean;
pub mod clock;
pub mod command;
pub mod connections;
pub mod containers;
pub mod disks;
pub mod end_cgroup;
pub mod environment_file;
pub mod exec;
pub mod files;
mod glob;
pub mod io_priority;
pub mod limits;
pub mod listeners;
pub mod logs;
pub mod meminfo;
pub mod mounts;
pub mod network;
pub mod notify;
pub mod oom_score;
pub mod own;
pub mod priority;
pub mod procfs;
pub mod redis;
pub mod release;
pub mod restrain;
pub mod rtnetlink;
pub mod secret;
pub mod service_cgroup;
pub mod signals;
pub mod sockets;
mod spawn;
pub mod users;
pub mod whole;

use std::time::Duration;

use crate::model::command::Reload;
use crate::model::connections::{Connection, ConnectionFilter};
use crate::model::way::{Diagnosis, NetworkStep, Primary};
use crate::model::{
    Cleaning, Flush, IncidentId, Lift, Plan, ProcessKey, Releases, Restraint, Time, Whole,
};
pub use end_cgroup::Ended;
pub use priority::Reniced;
pub use restrain::Restrained;

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
    /// Who runs a service did not do what they were asked to, or cannot be asked.
    #[error("{by} and service {service}: {why}")]
    Supervisor {
        /// Who.
        by: &'static str,
        /// Which service.
        service: String,
        /// What they said, and what to do.
        why: String,
    },
    /// The service has another process by now than the one that the act is about.
    #[error("service {service} runs as {found} by now, not as the process this is about")]
    Replaced {
        /// Which.
        service: String,
        /// Its process now.
        found: ProcessKey,
    },
    /// The service was stopped, and is to stay so.
    #[error("service {0} is stopped, and stays so until start_service starts it")]
    Stopped(String),
    /// The service runs, so it is not started.
    #[error("service {service} runs already, as {process}")]
    Runs {
        /// Which.
        service: String,
        /// Its process.
        process: ProcessKey,
    },
    /// What would be started is not what was allowed.
    #[error("the command of service {0} has changed since this was decided")]
    OtherCommand(String),
    /// Another release is in place than the one that the act is about.
    #[error("release {found} of {service} is in place by now, not {meant}")]
    OtherRelease {
        /// Which.
        service: String,
        /// What is in place.
        found: String,
        /// What was.
        meant: String,
    },
    /// Something speaks against it, and it is not begun.
    #[error("{0}")]
    Unfit(String),
    /// The release could not be read or changed.
    #[error("{0}")]
    Release(String),
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
    /// What people or the configuration say has changed since the act began.
    #[error("called off after SIGTERM: {0}")]
    CalledOff(String),
    /// This host has no way to do that.
    #[error("this host cannot {0}")]
    Unable(&'static str),
    /// What would change the host back cannot be written down, so it is not changed.
    #[error("the journal cannot be written, so nothing is changed: {0}")]
    Journal(String),
    /// Another cgroup is where the one was that is meant, or none.
    #[error("the cgroup {} is gone, or is another one by now", .0.display())]
    OtherCgroup(std::path::PathBuf),
    /// What stands in the way of changing it, found before anything was changed.
    #[error("{0}")]
    Untouched(String),
    /// A service's cgroup cannot be used.
    #[error("cannot use the cgroup {}: {why}", folder.display())]
    Cgroup {
        /// Its folder.
        folder: std::path::PathBuf,
        /// What was tried, and the kernel's answer.
        why: String,
    },
    /// There is no `[[network]]` of this name.
    #[error("no network {0} is configured")]
    NoNetwork(String),
    /// What is to be changed of the network is not what was meant.
    #[error("{0}: nothing was changed")]
    OtherNetwork(String),
    /// The daemon lacks a right.
    #[error(
        "cannot {what}: {right} is missing; run as root, or add it to CapabilityBoundingSet= and AmbientCapabilities= of the unit"
    )]
    Right {
        /// What was tried.
        what: String,
        /// The capability.
        right: &'static str,
    },
    /// A command was not started.
    #[error("{program} is not run: {why}")]
    NotRun {
        /// The program.
        program: String,
        /// Why, and what to do.
        why: String,
    },
    /// Nothing is deleted in a folder.
    #[error("nothing is deleted in {}: {why}", path.display())]
    Folder {
        /// Its path.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// Nothing was done to a Redis server.
    #[error("redis at {address}: {why}")]
    Redis {
        /// Where it is.
        address: String,
        /// Why.
        why: String,
    },
    /// A Redis server is not the one that may be changed.
    #[error("redis at {0} is a replica: keys are deleted at its master")]
    Replica(String),
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

    /// Stops a service, which then stays stopped. `process` is the one that it is known to have: refused when it has another one by now.
    /// When this began.
    fn stop_service(
        &self,
        _service: &str,
        _process: Option<ProcessKey>,
        _term_grace: Duration,
    ) -> Result<Time, HostError> {
        Err(HostError::Unable("stop services"))
    }

    /// Starts a service that does not run; `command` is what was allowed to be started.
    fn start_service(&self, _service: &str, _command: &[String]) -> Result<Restarted, HostError> {
        Err(HostError::Unable("start services"))
    }

    /// Has a service read its configuration again; refused when it is another process by now.
    fn reload_service(
        &self,
        _service: &str,
        _process: ProcessKey,
        _how: &Reload,
    ) -> Result<Reloaded, HostError> {
        Err(HostError::Unable("have services reload"))
    }

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

    /// Why what is being done about an incident is not to go on; none while it is. Asked before each further step of an act that waits.
    fn called_off(&self, _incident: IncidentId) -> Option<String> {
        None
    }

    /// Ends everything in the cgroup that is a process's own; nothing where it shares it, or where one of these names belongs to it.
    fn end_cgroup(
        &self,
        _whole: &Whole,
        _term_grace: Duration,
        _protected: &[&str],
    ) -> Result<Ended, HostError> {
        Err(HostError::Unable("end what is in a cgroup"))
    }

    /// Holds a process back, with all that belongs to it; nothing where one of these names does. `will` writes down what takes that away,
    /// before anything is changed. An error when nothing was.
    fn restrain(
        &self,
        _whole: &Whole,
        _restraint: Restraint,
        _protected: &[&str],
        _will: restrain::Will<'_>,
    ) -> Result<Restrained, HostError> {
        Err(HostError::Unable("hold a process back"))
    }

    /// Reads back that it is held back: how, in words.
    fn is_restrained(&self, _whole: &Whole, _restraint: Restraint) -> Result<String, HostError> {
        Err(HostError::Unable("say whether a process is held back"))
    }

    /// Lets a process go again. When that began, and what is now.
    fn lift(&self, _process: ProcessKey, _lift: &Lift) -> Result<restrain::Lifted, HostError> {
        Err(HostError::Unable("let a process go"))
    }

    /// Reads back that it is let go: how, in words.
    fn is_lifted(&self, _process: ProcessKey, _lift: &Lift) -> Result<String, HostError> {
        Err(HostError::Unable("say whether a process is let go"))
    }

    /// Ends TCP connections of a process for which a filter holds, and looks whether they are gone. `tree`: also those of the processes
    /// that came of it. Connections that processes of these names, or the daemon and those above it, have open too are left alone.
    fn drop_connections(
        &self,
        _process: ProcessKey,
        _tree: bool,
        _spare: &[&str],
        _filter: &ConnectionFilter,
    ) -> Result<Dropped, HostError> {
        Err(HostError::Unable("end connections"))
    }

    /// How many connections of a process a filter holds for; see [`Host::drop_connections`].
    fn count_connections(
        &self,
        _process: ProcessKey,
        _tree: bool,
        _spare: &[&str],
        _filter: &ConnectionFilter,
    ) -> Result<usize, HostError> {
        Err(HostError::Unable("list connections"))
    }

    /// A `[[network]]`, to be looked at and changed by nobody else until this is dropped.
    fn network(&self, _name: &str) -> Result<Box<dyn NetworkHand>, HostError> {
        Err(HostError::Unable("change networks"))
    }

    /// Runs a program to its end, with what it started.
    fn run_command(&self, _order: &command::Order) -> Result<command::Finished, HostError> {
        Err(HostError::Unable("run commands"))
    }

    /// The same, for what is done about an incident: it is ended when that is called off.
    fn run_command_about(
        &self,
        _incident: IncidentId,
        order: &command::Order,
    ) -> Result<command::Finished, HostError> {
        self.run_command(order)
    }

    /// The release that is in place.
    fn release(&self, _how: &Releases) -> Result<String, HostError> {
        Err(HostError::Unable("tell releases"))
    }

    /// Whether another release may be put in place: everything that speaks against it is a refusal ([`HostError::Unfit`]).
    fn may_switch_release(&self, _switch: &release::Switch<'_>) -> Result<(), HostError> {
        Err(HostError::Unable("switch releases"))
    }

    /// Puts another release in place. The service is not started anew by this.
    fn switch_release(&self, _switch: &release::Switch<'_>) -> Result<(), HostError> {
        Err(HostError::Unable("switch releases"))
    }

    /// Lists files of a folder, then deletes them.
    fn clean_folder(
        &self,
        _incident: IncidentId,
        _cleaning: &Cleaning,
    ) -> Result<clean::Cleaned, HostError> {
        Err(HostError::Unable("delete files"))
    }

    /// Whether what was deleted last in a folder is gone, in words; an error says what is there.
    fn cleaned(&self, _cleaning: &Cleaning) -> Result<String, String> {
        Err(HostError::Unable("look for deleted files").to_string())
    }

    /// Deletes keys of a Redis database.
    fn flush_redis(&self, _flush: &Flush) -> Result<redis::Flushed, HostError> {
        Err(HostError::Unable("reach a Redis server"))
    }

    /// How many of the keys that were to be deleted are there.
    fn redis_keys(&self, _flush: &Flush) -> Result<u64, HostError> {
        Err(HostError::Unable("reach a Redis server"))
    }

    /// `CLOCK_MONOTONIC`.
    fn now(&self) -> Time;
}

/// What became of connections that were to be ended.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Those that were ended.
    pub ended: Vec<Connection>,
    /// Those that are still there.
    pub left: usize,
    /// What stopped it, after those.
    pub stopped: Option<HostError>,
}

/// One's turn to change a `[[network]]`.
pub trait NetworkHand: Send + std::fmt::Debug {
    /// Looks at all of it, once.
    fn look(&self) -> Result<Diagnosis, HostError>;

    /// Looks until all is well, or the time is over: what was seen last.
    fn confirm(&self, within: Duration) -> Result<Diagnosis, HostError>;

    /// Carries out a step, where what it is done to is what was meant; false when it was so already.
    fn apply(&self, step: &NetworkStep) -> Result<bool, HostError>;

    /// Whether it is as a step makes it.
    fn has(&self, step: &NetworkStep) -> Result<bool, HostError>;

    /// What of a file's step is left to a person where somebody else has changed the file since; none where nobody has.
    fn left_alone(&self, step: &NetworkStep) -> Option<String>;

    /// Whether that which a stopgap stands for answers again.
    fn answers(&self, primary: &Primary) -> Result<bool, HostError>;
}

/// A service that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// Its new process.
    pub process: ProcessKey,
    /// When the first thing about the old one was changed, or the new one was started.
    pub acted: Time,
}

/// A service that was told to read its configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// When.
    pub acted: Time,
    /// What went wrong: it ended of that, or its command failed.
    pub refused: Option<String>,
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

    /// For a process that was sent SIGKILL: lets it die where cgroup v1 has frozen it, and frees its memory without waiting for it to
    /// do so, which kernels before 5.15 cannot.
    fn release_memory(&self);

    /// Gives each of its threads the nice value that `want` says, given the thread's id and the value it has; those that are born
    /// meanwhile too. Bounded by [`priority::THREADS`]. Threads that end meanwhile are passed over. An error when nothing could be read
    /// or changed; what stops it later stands in [`Reniced::stopped`].
    fn renice(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError>;

    /// The same with priorities for disks, as `ioprio_set(2)` has them.
    fn change_io_priority(&self, _want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        Err(HostError::Unable("change priorities for disks"))
    }

    /// Its `oom_score_adj`.
    fn oom_score(&self) -> Result<i32, HostError> {
        Err(HostError::Unable("read an oom_score_adj"))
    }

    /// Changes its `oom_score_adj`.
    fn set_oom_score(&self, _score: i32) -> Result<(), HostError> {
        Err(HostError::Unable("change an oom_score_adj"))
    }

    /// Sends a signal of this number.
    fn send(&self, _signal: i32) -> Result<(), HostError> {
        Err(HostError::Unable("send a signal"))
    }

    /// What it does about a signal of this number.
    fn disposition(&self, _signal: i32) -> Result<Disposition, HostError> {
        Err(HostError::Unable("say what a process does about a signal"))
    }
}

/// What a process does about a signal (`/proc/PID/status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// It has a handler for it.
    pub caught: bool,
    /// It was sent, and not taken yet.
    pub pending: bool,
}
