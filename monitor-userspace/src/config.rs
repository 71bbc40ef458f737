//! Configuration: TOML, every table owned by the component it configures; unknown keys refused, with the nearest known one.
//!
//! Parse, don't validate: what stands in the file ([`raw::Root`]) becomes [`Config`], in which every name is known to exist. A
//! mistake is reported with file, line, column and what to do, all of them at once where that is possible.

pub mod child;
pub mod error;
pub mod folder;
pub mod guard;
pub mod network;
pub mod objective;
mod paths;
pub mod raw;
pub mod release;
mod resolve;
pub mod response;
mod service;
mod settings;
pub mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checks;
use crate::host::exec::Program;
use crate::model::way::Way;
use crate::model::{Folder, Named, Service};
use crate::policy::{ConditionRule, Remedy};
use crate::record::journal;
use crate::supervisors::Outside;
use crate::{detectors, policy, samplers};
pub use error::{ConfigError, Mistake};

/// Where the configuration is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/smart-monitor/smart-monitor.toml";

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from; none for the defaults.
    pub file: Option<PathBuf>,
    /// What stands in it: a recording carries it.
    pub text: Option<String>,
    /// The daemon itself.
    pub daemon: raw::Daemon,
    /// The audit journal.
    pub journal: journal::Config,
    /// Kernel programs.
    pub kernel: raw::Kernel,
    /// Samplers.
    pub samplers: samplers::Config,
    /// Detectors.
    pub detectors: detectors::Config,
    /// Limits.
    pub policy: policy::Config,
    /// Consent.
    pub remedies: Vec<Remedy>,
    /// Services, for the core.
    pub services: Vec<Service>,
    /// Services that the daemon runs.
    pub programs: BTreeMap<String, Program>,
    /// Services, for their checks.
    pub checks: BTreeMap<String, Vec<checks::Config>>,
    /// Services that somebody else runs.
    pub outside: BTreeMap<String, Outside>,
    /// When findings become incidents.
    pub conditions: Vec<ConditionRule>,
    /// What the file says of each name besides what it is.
    pub named: BTreeMap<String, Named>,
    /// Limits that the kernel enforces.
    pub guards: Vec<guard::GuardRule>,
    /// `[[process]]`: process name to the entry's name.
    pub groups: BTreeMap<String, String>,
    /// Ways out of this host.
    pub networks: Vec<Way>,
    /// `[[folder]]`
    pub folders: Vec<Folder>,
}

/// Largest file that is read, bytes: a thousand services with a rule each take a tenth of it.
const SIZE: u64 = 4 << 20;

/// Reads a file that a person wrote. What is no file may never end, or never begin, and is not even opened.
pub fn read(path: &Path) -> std::io::Result<String> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if std::io::Read::read_to_string(&mut std::io::Read::take(file, SIZE + 1), &mut text)? as u64
        > SIZE
    {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

impl Config {
    /// Observes everything, acts on nothing: what runs without a configuration.
    pub fn defaults() -> Self {
        resolve::resolve(raw::Root::default(), None).0
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads a text; `path` stands in messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let root: raw::Root =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
        let (mut config, mistakes) = resolve::resolve(root, Some(path.to_owned()));
        if mistakes.is_empty() {
            config.text = Some(text.to_owned());
            Ok(config)
        } else {
            Err(ConfigError::new(mistakes, text, path))
        }
    }
}
