//! How a command reaches the daemon, and what it says when it cannot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::render;
use crate::api::DEFAULT_SOCKET;
use crate::api::answers::Failure;
use crate::api::client::{self, ClientError};

/// Exit code when there is no such thing, or it is not done.
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
        parse(client::get_json_blocking(&self.socket(), path)?, path)
    }

    /// Asks for something to be done.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(Method::POST, path, body)
    }

    /// Asks for something to be ended.
    pub(super) fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(Method::DELETE, path, body)
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_value(body).map_err(|error| ClientError::Bad {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let answer = client::send_json_blocking(&self.socket(), method, path, &body)?;
        parse(answer, path)
    }
}

fn parse<T: DeserializeOwned>(value: Value, path: &str) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|error| ClientError::Bad {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Whom root speaks for, as sudo says: anybody who is root can say so.
pub(super) fn on_behalf() -> Option<String> {
    let name = std::env::var("SUDO_USER").ok()?;
    let root = rustix::process::geteuid().is_root();
    (root && !name.is_empty() && name != "root").then_some(name)
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
    /// The daemon does not do what was asked for, as things are.
    Refused(String),
    /// Neither could be asked.
    Unreachable(String),
}

impl NoAnswer {
    /// Why something was not changed.
    pub(super) fn to_change(error: ClientError) -> Self {
        match error {
            ClientError::NotFound { message } => Self::Missing(message),
            ClientError::Refused {
                code: 400..500,
                message,
                ..
            } => Self::Refused(message),
            other => other.into(),
        }
    }

    /// Says it; where JSON was asked for, in JSON too.
    pub(super) fn show(self, json: bool) -> anyhow::Result<ExitCode> {
        let (error, code) = match self {
            Self::Missing(error) | Self::Refused(error) => (error, MISSING),
            Self::Unreachable(error) => (error, UNREACHABLE),
        };
        render::remark(format_args!("smart-monitor: {error}"));
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
