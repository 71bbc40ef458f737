//! `[[guard]]`: limits that the kernel enforces by itself, at the crossing.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::units::Bytes;

/// What a guard limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardKind {
    /// Memory: resident memory of a service's main process, or what a cgroup of the memory controller is charged.
    MemoryCeiling,
    /// Processes and threads made in a second, by all processes of a service or of a cgroup v2.
    ForkStorm,
}

impl GuardKind {
    /// Its name in the file: also the probe and the word in the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryCeiling => "memory_ceiling",
            Self::ForkStorm => "fork_storm",
        }
    }
}

/// As it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// What it limits.
    pub kind: Spanned<GuardKind>,
    /// Names of services; `*` for every one that the file names.
    #[serde(default)]
    pub on: Vec<Spanned<String>>,
    /// A cgroup instead of services: its path below the hierarchy (of the memory controller, or v2 for forks), or its whole folder.
    pub cgroup: Option<Spanned<PathBuf>>,
    /// The ceiling of `memory_ceiling`; a service's `memory_max` when it is not given.
    pub limit: Option<Bytes>,
    /// The limit of `fork_storm`.
    pub per_second: Option<u32>,
}

/// What is guarded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A service by name.
    Service(String),
    /// A cgroup by path.
    Cgroup(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
        }
    }
}

/// As it is meant: one limit on one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRule {
    /// What it limits.
    pub kind: GuardKind,
    /// What is guarded.
    pub target: Target,
    /// Bytes, or processes and threads a second.
    pub limit: u64,
}
