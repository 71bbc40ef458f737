//! What the command line says, and why the daemon did not start.

use std::path::PathBuf;

use crate::api::BindError;
use crate::config::units::Listen;
use crate::config::{Config, ConfigError};
use crate::kernel::KernelError;
use crate::record::JournalError;

/// What the command line says.
#[derive(Debug, Default)]
pub struct Options {
    /// The configuration; the defaults when none.
    pub config: Option<PathBuf>,
    /// Only say what would have been done.
    pub dry_run: bool,
    /// In place of `[daemon] state_dir`.
    pub state_dir: Option<PathBuf>,
    /// In place of `[daemon] socket`.
    pub socket: Option<PathBuf>,
    /// In place of `[daemon] http`.
    pub http: Option<Listen>,
    /// Record signals into this file.
    pub record: Option<PathBuf>,
}

/// Why the daemon did not start. One message, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration has mistakes.
    #[error("{}", .0.render())]
    Config(#[from] ConfigError),
    /// No rights.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal of an earlier run cannot be read.
    #[error("cannot read the journal in {}: {source}; check its owner", folder.display())]
    Recover {
        /// The state folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Signals cannot be recorded.
    #[error("cannot record: {0}")]
    Recording(String),
    /// The socket cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A file or thread cannot be made.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

pub(super) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DaemonError {
    let what = what.into();
    move |source| DaemonError::System { what, source }
}

/// The command line has the last word.
pub(super) fn apply_options(config: &mut Config, options: &Options) {
    let daemon = &mut config.daemon;
    if let Some(folder) = &options.state_dir {
        daemon.state_dir.clone_from(folder);
    }
    if let Some(socket) = &options.socket {
        daemon.socket.clone_from(socket);
    }
    if let Some(http) = options.http {
        daemon.http = http;
    }
}
