//! What is to be done, what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::{Order, Reload};
use super::connections::ConnectionFilter;
use super::way::{NetworkStep, NetworkTry, Primary};
use super::{Cleaning, Flush, IncidentId, Lift, ProcessKey, Releases, Restraint, Time, Whole};

/// How much an action can destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Brings back what has already failed; a wrong one costs little.
    Restores,
    /// Holds back what is running, and lets it go again when asked to: a wrong one costs time, and no work is lost.
    Restrains,
    /// Ends something that is running; work in memory is lost.
    Destructive,
}

impl Risk {
    /// The word that stands in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restores => "restores",
            Self::Restrains => "restrains",
            Self::Destructive => "destructive",
        }
    }
}

/// What exactly is to be done, with the identity of its target: pure data, made without touching the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "snake_case")]
pub enum Plan {
    /// End a process: SIGTERM, and SIGKILL when it has not left within the grace.
    KillProcess {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// Time between SIGTERM and SIGKILL; zero sends SIGKILL at once.
        term_grace: Duration,
        /// It is meant by its name: a process that has become another program since is not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        named: bool,
    },
    /// Start a service anew, ending what is left of it first.
    RestartService {
        /// Which.
        service: String,
        /// The process it is known to have had, if any; a different one running by now is a reason to refuse.
        process: Option<ProcessKey>,
        /// Time between SIGTERM and SIGKILL for a process that still runs.
        term_grace: Duration,
        /// What is started: program and arguments.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
    },
    /// Stop a service, which then stays stopped.
    StopService {
        /// Which.
        service: String,
        /// The process it has, if any; a different one running by now is a reason to refuse.
        process: Option<ProcessKey>,
        /// Time between SIGTERM and SIGKILL.
        term_grace: Duration,
        /// What would be started again: program and arguments.
        command: Vec<String>,
    },
    /// Start a service that does not run.
    StartService {
        /// Which.
        service: String,
        /// What is started: program and arguments.
        command: Vec<String>,
    },
    /// Have a service read its configuration again.
    ReloadService {
        /// Which.
        service: String,
        /// Its process.
        process: ProcessKey,
        /// By what.
        how: Reload,
    },
    /// Run a program to its end.
    RunCommand {
        /// What, and how.
        order: Box<Order>,
        /// Exit statuses that are good.
        accept_exit: Vec<u8>,
        /// What it is about, for its environment.
        subject: String,
    },
    /// Let a process wait behind the others for the CPU (`nice`, every thread of it).
    LowerPriority {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// The nice value it gets, 1 to 19.
        nice: i32,
    },
    /// Give a process the nice values back that it had.
    RestorePriority {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// The nice value of each thread, by its id; any other thread gets the lowest of them.
        nice: Vec<(u32, i32)>,
    },
    /// End everything in the cgroup of a process: SIGTERM, and SIGKILL to what has not left within the grace.
    KillCgroup {
        /// The process, and what belongs to it.
        whole: Whole,
        /// Time between SIGTERM and SIGKILL; zero sends SIGKILL at once.
        term_grace: Duration,
    },
    /// Hold a process back, with all that belongs to it.
    Restrain {
        /// The process, and what belongs to it.
        whole: Whole,
        /// By what.
        restraint: Restraint,
    },
    /// Let a process go again that was held back.
    Release {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// How.
        lift: Box<Lift>,
    },
    /// Let a process wait behind the others for disks (every thread of it).
    LowerIoPriority {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// The priority it gets, as `ioprio_set(2)` has it: class times 8192, plus the level.
        ioprio: i32,
    },
    /// Give a process the priorities for disks back that it had.
    RestoreIoPriority {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// The priority that was given. A thread that has another by now was changed by somebody else, and is left alone.
        set: i32,
        /// The priority of each thread before, by its id; any other thread gets that of the process's first.
        ioprio: Vec<(u32, i32)>,
    },
    /// Make a process a likelier or a less likely victim of the kernel when memory runs out.
    SetOomScore {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// Its `oom_score_adj`, -1000 to 1000.
        score: i32,
    },
    /// Give a process the `oom_score_adj` back that it had.
    RestoreOomScore {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// What it had.
        had: i32,
        /// What was written. Where it is another by now, somebody else has changed it, and it is left alone.
        set: i32,
    },
    /// Send a process a signal that it handles.
    SendSignal {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// The signal's name without `SIG`.
        signal: String,
        /// It is meant by its name: a process that has become another program since is not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        named: bool,
    },
    /// Repair a network: each try's steps, until one of them has packets get through; what did not help is changed back.
    RepairNetwork {
        /// Which.
        network: String,
        /// In this order.
        tries: Vec<NetworkTry>,
        /// How long a try has to show that it helped.
        confirm_within: Duration,
    },
    /// Change a network back.
    RevertNetwork {
        /// Which.
        network: String,
        /// In this order.
        steps: Vec<NetworkStep>,
        /// Only when this answers again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only_if: Option<Primary>,
    },
    /// End TCP connections of a process.
    DropConnections {
        /// Which.
        process: ProcessKey,
        /// Its name, for people.
        comm: String,
        /// Which connections.
        filter: Box<ConnectionFilter>,
        /// Those that processes of these names have open too are left alone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spare: Vec<String>,
        /// It is meant by its name: a process that has become another program since is not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        named: bool,
    },
    /// Have a service run another release, and start it anew.
    SwitchRelease {
        /// Which.
        service: String,
        /// The release that must be in place.
        from: String,
        /// The release that it gets.
        to: String,
        /// It goes forward again, to the release that was rolled back from.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        forward: bool,
        /// How, and what is asked first.
        how: Box<Releases>,
        /// The process it is known to have had, if any; a different one running by now is a reason to refuse.
        process: Option<ProcessKey>,
        /// The process that ran the release that it gets, before that was left: while it still runs, it is not started anew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran: Option<ProcessKey>,
        /// Time between SIGTERM and SIGKILL for a process that still runs.
        term_grace: Duration,
        /// What is started: program and arguments.
        command: Vec<String>,
    },
    /// Delete files of a folder, the oldest first, after they have been listed.
    CleanFolder {
        /// Which, by what rules, how far.
        cleaning: Box<Cleaning>,
    },
    /// Delete keys of a Redis database.
    FlushRedis {
        /// The service that it belongs to.
        service: String,
        /// Where, and which.
        flush: Box<Flush>,
    },
}

impl Plan {
    /// The process it is done to and the name that it goes by, where it is done to one: what is protected is compared with them.
    pub fn protects(&self) -> Option<(ProcessKey, &str)> {
        match self {
            Self::KillProcess { process, comm, .. }
            | Self::LowerPriority { process, comm, .. }
            | Self::RestorePriority { process, comm, .. }
            | Self::Release { process, comm, .. }
            | Self::LowerIoPriority { process, comm, .. }
            | Self::RestoreIoPriority { process, comm, .. }
            | Self::SetOomScore { process, comm, .. }
            | Self::RestoreOomScore { process, comm, .. }
            | Self::SendSignal { process, comm, .. }
            | Self::DropConnections { process, comm, .. } => Some((*process, comm)),
            Self::KillCgroup { whole, .. } | Self::Restrain { whole, .. } => {
                Some((whole.process, &whole.comm))
            }
            Self::RestartService {
                service, process, ..
            }
            | Self::SwitchRelease {
                service, process, ..
            }
            | Self::StopService {
                service, process, ..
            } => process.map(|process| (process, service.as_str())),
            Self::ReloadService {
                service, process, ..
            } => Some((*process, service)),
            Self::StartService { .. }
            | Self::RunCommand { .. }
            | Self::RepairNetwork { .. }
            | Self::RevertNetwork { .. }
            | Self::CleanFolder { .. }
            | Self::FlushRedis { .. } => None,
        }
    }

    /// The process it is done to, where it names one.
    pub const fn process(&self) -> Option<ProcessKey> {
        match self {
            Self::KillProcess { process, .. }
            | Self::LowerPriority { process, .. }
            | Self::RestorePriority { process, .. }
            | Self::Release { process, .. }
            | Self::LowerIoPriority { process, .. }
            | Self::RestoreIoPriority { process, .. }
            | Self::SetOomScore { process, .. }
            | Self::RestoreOomScore { process, .. }
            | Self::SendSignal { process, .. }
            | Self::DropConnections { process, .. }
            | Self::ReloadService { process, .. } => Some(*process),
            Self::KillCgroup { whole, .. } | Self::Restrain { whole, .. } => Some(whole.process),
            Self::RestartService { process, .. }
            | Self::SwitchRelease { process, .. }
            | Self::StopService { process, .. } => *process,
            Self::RepairNetwork { .. }
            | Self::RevertNetwork { .. }
            | Self::StartService { .. }
            | Self::RunCommand { .. }
            | Self::CleanFolder { .. }
            | Self::FlushRedis { .. } => None,
        }
    }
}

/// A guard's reason not to act. Data, not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The guard that refused.
    pub guard: String,
    /// Why, in words.
    pub reason: String,
    /// When to ask again; none when time alone changes nothing.
    pub retry_at: Option<Time>,
}

/// What an execution did to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The incident it was for.
    pub incident: IncidentId,
    /// The action's name.
    pub action: String,
    /// When it began to change the host; none when it did not.
    pub acted: Option<Time>,
    /// When it was through.
    pub finished: Time,
    /// How it went.
    pub result: EffectResult,
    /// What was read back from the host when it was done: that it is as planned. Not yet that it helped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
    /// What would change the host back, where that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Plan>,
}

/// How an execution went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum EffectResult {
    /// The host was changed as planned.
    Done {
        /// What was done, in words.
        detail: String,
    },
    /// It was not carried out, or only in part.
    Failed {
        /// What, why, what to do.
        reason: String,
    },
    /// The target was not the one the permit names (gone, or its PID used again), or it was called off: nothing more was done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What an action was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The signal that raised the incident says that the condition is gone.
    Fixed,
    /// The action was carried out, and the condition did not go away within its time.
    NoEffect,
    /// The condition grew worse after the action.
    Worse,
    /// The action could not be carried out.
    Failed,
    /// A guard or a changed identity stopped it.
    Refused,
    /// Dry run: it would have been done.
    WouldHave,
    /// The daemon ended before the outcome was known.
    Unknown,
}

impl Outcome {
    /// The word that stands in listings and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NoEffect => "no_effect",
            Self::Worse => "worse",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::WouldHave => "would_have",
            Self::Unknown => "unknown",
        }
    }

    /// All of them, for a bounded set of labels.
    pub const ALL: &'static [Outcome] = &[
        Self::Fixed,
        Self::NoEffect,
        Self::Worse,
        Self::Failed,
        Self::Refused,
        Self::WouldHave,
        Self::Unknown,
    ];
}
