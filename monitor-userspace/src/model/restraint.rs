//! Limits that are put on a process and all that belongs to it for a time, and what takes them away again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ProcessKey;

/// A process and all that belongs to it: what is in its service's own cgroup, or else its descendants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// The process.
    pub process: ProcessKey,
    /// Its name, for people.
    pub comm: String,
    /// The number of the cgroup (v2) that is its service's own; 0 when there is none.
    #[serde(default)]
    pub cgroup_id: u64,
    /// It is meant by its name: a process that has become another program since is not. Not so for a service, which is run by us
    /// whatever its program is called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
    /// Names that the configuration protects: where one of them belongs to it, nothing is done to any of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<String>,
}

/// What holds it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Restraint {
    /// It does not run at all.
    Freeze {
        /// By SIGSTOP to the process alone, whatever cgroups there are.
        by_signal: bool,
    },
    /// It gets so much CPU time.
    Cpu {
        /// Hundredths of one CPU.
        percent: u32,
    },
    /// What it uses beyond this is reclaimed, and it waits for that (`memory.high`).
    Memory {
        /// Bytes.
        high: u64,
    },
}

/// What takes a restraint away again. A cgroup is known by its folder and its number (inode): another one that was made in its place
/// is not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Lift {
    /// A file of a cgroup gets the value back that it had.
    File {
        /// The cgroup.
        folder: PathBuf,
        /// Its number.
        id: u64,
        /// The file's name.
        file: String,
        /// What it said before.
        had: String,
        /// What was written. Where it says something else by now, somebody else has changed it, and it is left alone.
        set: String,
    },
    /// What is in a cgroup that was made for the purpose goes back into the one above it, where it came from, and the cgroup is removed.
    Made {
        /// The cgroup.
        folder: PathBuf,
        /// Its number.
        id: u64,
        /// The name of the file that holds it back.
        file: String,
        /// What was written.
        set: String,
    },
    /// SIGCONT to the process.
    Continue,
}
