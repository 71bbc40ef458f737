//! Programs that are run to their end, and how a service is told to read its configuration again.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is to be run, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Program and arguments. The program is an absolute path, or looked up in `PATH`.
    pub command: Vec<String>,
    /// How long it may run before it is ended.
    pub timeout: Duration,
    /// Numeric user and group that it becomes, with no other group, no capability, and no way to any; who the daemon is when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<(u32, u32)>,
    /// What of the file system it is kept to; all of it when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined: Option<Confined>,
    /// It gets a network of its own, with nothing in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_network: bool,
    /// Beside `PATH` and `LANG`, which are the daemon's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// Where it starts; `/` when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

/// What a program can reach, beside the system's own programs and libraries, which it can read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// Files and folders to read, and to execute from.
    pub read: Vec<PathBuf>,
    /// Files and folders to read and change.
    pub write: Vec<PathBuf>,
}

/// How a service is told to read its configuration again: `reload` of a `[[service]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// A signal to its main process.
    Signal(ReloadSignal),
    /// A program, run as the service's user in the service's folder.
    Command(Vec<String>),
    /// As whoever runs it does that.
    Supervisor,
}

/// Signals that programs take as a word to read their configuration, or open their logs, again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReloadSignal {
    /// `SIGHUP`
    #[serde(rename = "SIGHUP")]
    Hup,
    /// `SIGUSR1`
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// `SIGUSR2`
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// `SIGWINCH`
    #[serde(rename = "SIGWINCH")]
    Winch,
}

/// Signals that programs take as a word to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// `SIGTERM`
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// `SIGINT`
    #[serde(rename = "SIGINT")]
    Int,
    /// `SIGQUIT`
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// `SIGHUP`
    #[serde(rename = "SIGHUP")]
    Hup,
    /// `SIGUSR1`
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// `SIGUSR2`
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// `SIGWINCH`
    #[serde(rename = "SIGWINCH")]
    Winch,
    /// `SIGKILL`
    #[serde(rename = "SIGKILL")]
    Kill,
}

impl ReloadSignal {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Winch => "SIGWINCH",
        }
    }
}

impl std::fmt::Display for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(signal) => f.write_str(signal.name()),
            Self::Command(command) => write!(f, "{command:?}"),
            Self::Supervisor => f.write_str("by its supervisor"),
        }
    }
}
