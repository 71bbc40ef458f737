//! How a command reaches the daemon, and what it says when it cannot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::render;
use crate::api::DEFAULT_SOCKET;
use crate::api::answers::Failure;
use crate::api::client::{self, ClientError};

/// Exit code when there is no such thing.
const MISSING: u8 = 1;

/// Exit code when there was no answer.
const UNREACHABLE: u8 = 2;

/// Which daemon.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Daemon {
    #[expect(clippy::doc_markdown, reason = "shown by --help as it is")]
    /// Socket of the daemon; SMART_MONITOR_SOCKET, or else /run/smart-monitor/smart-monitor.sock.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Daemon {
    /// Where its socket is.
    pub(super) fn socket(&self) -> PathBuf {
        let named = self.socket.clone();
        named
            .or_else(|| std::env::var_os("SMART_MONITOR_SOCKET").map(PathBuf::from))
            .unwrap_or_else(|| Path::new(DEFAULT_SOCKET).to_owned())
    }

    /// Asks for a path of the API.
    pub(super) fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let value = client::get_json_blocking(&self.socket(), path)?;
        serde_json::from_value(value).map_err(|error| ClientError::Bad {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// Writes an answer as JSON.
pub(super) fn show_json(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(answer)?;
    text.push('\n');
    render::show(&text)?;
    Ok(())
}

/// Why a command has nothing to show.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The daemon, or its journal, does not have what was asked for.
    Missing(String),
    /// Neither could be asked.
    Unreachable(String),
}

impl NoAnswer {
    /// Says it; where JSON was asked for, in JSON too.
    pub(super) fn show(self, json: bool) -> anyhow::Result<ExitCode> {
        let (error, code) = match self {
            Self::Missing(error) => (error, MISSING),
            Self::Unreachable(error) => (error, UNREACHABLE),
        };
        eprintln!("smart-monitor: {error}");
        if json {
            show_json(&Failure { error })?;
        }
        Ok(ExitCode::from(code))
    }
}

impl From<ClientError> for NoAnswer {
    fn from(error: ClientError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
