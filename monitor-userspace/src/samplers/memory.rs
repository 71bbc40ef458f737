//! Memory of the host, from `/proc/meminfo`.

use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::procfs;
use crate::model::{self, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory",
    summary: "memory of the host: total and available",
};

/// `[samplers.memory]`
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
        super::not_too_often("interval", self.interval, Span::millis(50))
    }
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    interval: Span,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, _: &mut Sources) -> Self {
        Self {
            interval: config.interval,
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        if let Some((total, available)) = procfs::memory() {
            out.push((now, model::Sample::Memory { total, available }));
        }
        now.after(self.interval.0)
    }

    fn wants_pressure(&self) -> bool {
        true
    }
}
