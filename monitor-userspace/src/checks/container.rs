//! `container = "web"`: what the health check that a container has itself says, as Docker and podman run it.
//!
//! Reads at most 1 MiB of the engine's answer. The engine runs that check at its own interval: this one asks for its last result.

use std::path::PathBuf;

use serde::Deserialize;

use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::host::containers::{self, Container, Health};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "container",
    summary: "the health check of a container of Docker or podman says that it is healthy",
    serving: true,
    short: "name",
    example: "container = \"web\"",
    read: read::<Healthy>,
};

/// Longest part of what a health check wrote that is told on, characters.
const SAID: usize = 200;

/// `container = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Healthy {
    /// The container.
    name: String,
    /// The engine's socket; Docker's when none, or else podman's.
    socket: Option<PathBuf>,
}

impl Settings for Healthy {
    fn sensible(self) -> Result<Self, String> {
        if !containers::is_name(&self.name) {
            let name = &self.name;
            return Err(format!(
                "no container can be called {name:?}: write one as `docker ps` shows it"
            ));
        }
        if self
            .socket
            .as_ref()
            .is_some_and(|socket| !socket.is_absolute())
        {
            return Err("`socket` must be an absolute path".to_owned());
        }
        Ok(self)
    }
}

impl Check for Healthy {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(async {
            let socket =
                containers::socket(self.socket.as_deref()).map_err(CheckFailure::Connect)?;
            let asked = containers::inspect(&socket, &self.name).await;
            let (container, _) = asked.map_err(CheckFailure::Connect)?;
            let missing = || {
                let at = socket.display();
                format!("the engine at {at} has no container called {}", self.name)
            };
            let container = container.ok_or_else(|| CheckFailure::Answer(missing()))?;
            judge(&self.name, &container).map_err(CheckFailure::Answer)
        })
    }
}

fn judge(name: &str, container: &Container) -> Result<Answer, String> {
    let state = container.state.as_ref();
    let status = state
        .and_then(|state| state.status.as_deref())
        .unwrap_or("in no state");
    if status != "running" {
        return Err(format!("container {name} is {status}, not running"));
    }
    let health = state.and_then(|state| state.health.as_ref());
    let says = health
        .and_then(|health| health.status.as_deref())
        .unwrap_or_default();
    match (says, health) {
        ("healthy", _) => Ok(Answer::well().saying("healthy")),
        ("starting" | "unhealthy", Some(health)) => {
            Err(format!("container {name} is {says}{}", last(health)))
        }
        ("" | "none", _) => Err(format!(
            "container {name} has no health check: give it a HEALTHCHECK (or `--health-cmd`), or check it in another way"
        )),
        (other, _) => Err(format!(
            "container {name} says {:?} of its health",
            clipped(other)
        )),
    }
}

/// What the last run of the container's own check came to.
fn last(health: &Health) -> String {
    let Some(run) = health.log.as_ref().and_then(|log| log.last()) else {
        return ": its own check has not been run yet".to_owned();
    };
    let streak = health.failing_streak.unwrap_or(0);
    let code = run.exit_code.unwrap_or(0);
    let output = run.output.as_deref().unwrap_or_default();
    let line = output.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.map_or_else(
        || "and wrote nothing".to_owned(),
        |line| format!("saying {:?}", clipped(line.trim())),
    );
    format!(
        ": its own check failed {streak} times in a row, the last time with exit code {code}, {line}"
    )
}

fn clipped(text: &str) -> String {
    text.chars().take(SAID).collect()
}

#[cfg(test)]
#[path = "container/tests.rs"]
mod tests;
