//! What stands in a line of the journal.

use serde::{Deserialize, Serialize};

use crate::model::release::Known;
use crate::model::{Effect, Incident, IncidentId, Plan, Request};

/// What stands in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The daemon started.
    Started {
        /// Its version.
        version: String,
        /// Its process id.
        pid: u32,
        /// Which boot of the machine this is: monotonic times mean something only within one.
        boot: String,
    },
    /// The daemon ended in an orderly way.
    Ended,
    /// An incident began, or its state changed.
    Incident {
        /// As it is now. What was frozen stands in the first such line, and again in one that has the last lines of a log too.
        incident: Box<Incident>,
    },
    /// An action is about to be done.
    Intent {
        /// The incident it is for, with its evidence but for what was frozen.
        incident: Box<Incident>,
        /// The action.
        action: String,
        /// What exactly.
        plan: Plan,
        /// The `[[remedy]]` that allows it.
        #[serde(default)]
        rule: String,
        /// The person who allowed it, where one was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// It changes back what an action before it changed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
    },
    /// An action is about to change the host, and this is what will change it back. Written by the action itself, after its intent.
    WillChange {
        /// The incident it is for.
        incident: IncidentId,
        /// The action.
        action: String,
        /// What changes it back.
        undo: Plan,
    },
    /// A person asked for something.
    Person {
        /// Who.
        by: String,
        /// What.
        request: Request,
    },
    /// An action was done, or could not be.
    Effect {
        /// What it did.
        effect: Effect,
    },
    /// The journal can be written again.
    Resumed,
    /// A fork storm is about to be ended with all of its cgroup, as the guard's arming announced.
    StormEnding {
        /// The service, or the path of the cgroup.
        target: String,
        /// The cgroup.
        cgroup_id: u64,
    },
    /// A guard is armed in the kernel, which acts on it by itself from now on: the intent of all it will do.
    Guarded {
        /// What it limits: `memory_ceiling` or `fork_storm`.
        guard: String,
        /// The service, or the path of the cgroup.
        target: String,
        /// Bytes, or processes and threads a second.
        limit: u64,
        /// Whether the kernel kills whoever crosses it; otherwise it only reports.
        enforce: bool,
    },
    /// The daemon is about to start a service of its own accord: at its own start, or because the configuration names it anew.
    ServiceStarted {
        /// The service.
        service: String,
        /// Program and arguments.
        command: Vec<String>,
    },
    /// What is known of the releases of a service has changed.
    Releases {
        /// The service.
        service: String,
        /// What is known, with times on this line's monotonic clock.
        known: Known,
    },
    /// The configuration was loaded anew.
    Reloaded {
        /// The file.
        file: String,
    },
    /// The first line of a generation: here the chain of sums goes on from the generation before, which may be gone by now.
    Continued {
        /// How many generations there were before this one, over the whole life of the state folder.
        generation: u64,
        /// The sum of the last line before.
        after: String,
    },
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub unix_ns: i64,
    /// `CLOCK_MONOTONIC`, nanoseconds: the clock of the times within the entry.
    pub monotonic_ns: i64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}
