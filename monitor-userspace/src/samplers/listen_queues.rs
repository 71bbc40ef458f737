//! Listeners of the daemon's network namespace whose accept queue is full: the kernel tells when one fills up, and then drops
//! connections without a word, so that one that stays full must be looked for.

use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::listeners::listeners;
use crate::model::{self, ListenQueue, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "listen_queues",
    summary: "listeners whose queue of connections that wait for accept is full (sock_diag)",
};

/// `[samplers.listen_queues]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings.
    pub interval: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::seconds(1),
        }
    }
}

impl Config {
    /// Whether it can be run without eating the host.
    pub fn resolve(&self) -> Result<(), String> {
        super::not_too_often("interval", self.interval, Span::millis(100))
    }
}

/// Most full listeners that a sample has.
const FULL: usize = 256;

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    interval: Span,
    limitation: Option<String>,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, _: &mut Sources) -> Self {
        Self {
            interval: config.interval,
            limitation: None,
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        match listeners() {
            Ok(all) => {
                let full = all.into_iter().filter(ListenQueue::is_full);
                let full: Vec<ListenQueue> = full.take(FULL).collect();
                if !full.is_empty() {
                    out.push((now, model::Sample::ListenQueues { full }));
                }
                self.limitation = None;
            }
            Err(error) => {
                if self.limitation.is_none() {
                    tracing::warn!(%error, "the listeners of this host cannot be read");
                }
                self.limitation = Some(format!(
                    "listeners cannot be read ({error}): the kernel needs CONFIG_INET_DIAG"
                ));
            }
        }
        now.after(self.interval.0)
    }

    fn limitation(&self) -> Option<String> {
        self.limitation.clone()
    }
}
