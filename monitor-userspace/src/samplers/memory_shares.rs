//! What of the largest processes would come back if they ended: what they share with others stays.
//!
//! Walks page tables, so it is read ahead of an emergency, at most once a second while memory is low, and not in the midst of one.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory::Shortage;
use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::meminfo;
use crate::model::{self, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory_shares",
    summary: "what the largest processes share, while memory is low",
};

/// `[samplers.memory_shares]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings while memory is low.
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
        super::not_too_often("interval", self.interval, Span::millis(200))
    }
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    interval: Duration,
    shortage: Shortage,
    last: Option<Time>,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            interval: config.interval.0,
            shortage: sources.shortage.clone(),
            last: None,
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        // Without news of who is large there is nothing to read.
        let idle = now.after(Duration::from_hours(1));
        if let Some(due) = self.last.map(|last| last.after(self.interval))
            && now < due
        {
            return due;
        }
        let largest = self.shortage.take_largest();
        if largest.is_empty() {
            return idle;
        }
        self.last = Some(now);
        let shares: Vec<_> = largest.into_iter().filter_map(meminfo::share).collect();
        if !shares.is_empty() {
            out.push((now, model::Sample::MemoryShares { shares }));
        }
        idle
    }

    fn nudge(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shortage.news())
    }
}
