//! Links, default routes and neighbours of the daemon's network namespace: nothing is asked, the kernel tells (rtnetlink).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::host::rtnetlink::Watch;
use crate::model::{self, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "network",
    summary: "links, default routes and neighbours, as the kernel tells of their changes (rtnetlink)",
};

/// `[samplers.network]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the daemon listens at all.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Config {
    /// Nothing to get wrong.
    pub fn resolve(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Bytes of news that may wait: some hundred links.
const ROOM: usize = 1 << 20;
/// Longest time between two calls while nothing changes.
const IDLE: Duration = Duration::from_hours(1);
/// Time until the next attempt after a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    watch: Option<Watch>,
    limitation: Option<String>,
}

impl Sample {
    /// Begins to listen.
    pub fn new(config: &Config, _: &mut Sources) -> Self {
        let mut sampler = Self {
            watch: None,
            limitation: None,
        };
        if config.enabled {
            match Watch::open(ROOM) {
                Ok(watch) => sampler.watch = Some(watch),
                Err(error) => sampler.limitation = Some(blind(&error)),
            }
        }
        sampler
    }
}

fn blind(error: &io::Error) -> String {
    format!("changes of links, routes and neighbours are not seen ({error}): rtnetlink is refused")
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        let Some(watch) = &mut self.watch else {
            return now.after(IDLE);
        };
        let mut changes = Vec::new();
        let next = match watch.read(now, &mut changes) {
            Ok(next) => {
                self.limitation = None;
                next.unwrap_or(now.after(IDLE))
            }
            Err(error) => {
                if self.limitation.is_none() {
                    tracing::warn!(%error, "the network's changes cannot be read");
                }
                self.limitation = Some(blind(&error));
                now.after(AGAIN)
            }
        };
        for change in changes {
            tracing::debug!(?change, "the network has changed");
            out.push((now, model::Sample::Network { change }));
        }
        next
    }

    fn nudge(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    fn limitation(&self) -> Option<String> {
        self.limitation.clone()
    }
}
