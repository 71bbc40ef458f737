//! Waiting for what comes of something that a person asked for.

use std::time::{Duration, Instant};

use super::ask::Daemon;
use crate::api::answers::OneIncident;
use crate::api::client::ClientError;
use crate::config::units::Span;

/// How often the daemon is asked.
const LOOK: Duration = Duration::from_millis(100);

/// How long.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Wait {
    /// How long to wait for the outcome: 30s, 5m; 0s for not at all.
    #[arg(long = "wait", value_name = "TIME", default_value = "30s", value_parser = time)]
    wait: Span,
}

impl Wait {
    pub(super) const fn time(self) -> Duration {
        self.wait.0
    }
}

fn time(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "a time is written 30s, 5m or 1h".to_owned())
}

/// Asks for the incident until that is so, or the time is over: as it was then.
pub(super) fn until(
    daemon: &Daemon,
    mut one: OneIncident,
    wait: Wait,
    so: impl Fn(&OneIncident) -> bool,
) -> Result<OneIncident, ClientError> {
    let begun = Instant::now();
    let path = format!("/api/v1/incidents/{}", one.incident.id);
    while !so(&one) && begun.elapsed() < wait.time() {
        std::thread::sleep(LOOK.min(wait.time()));
        one = daemon.ask(&path)?;
    }
    Ok(one)
}
