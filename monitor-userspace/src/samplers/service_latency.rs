//! How long services took to answer in the last interval, from what the kernel counts.

use std::collections::BTreeMap;

use monitor_common::probes::service_latency::LatencyTotals;
use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::kernel::CgroupWatch;
use crate::model::{self, Answers, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "service_latency",
    summary: "how long services take to answer: rate and quantiles of the last interval",
};

/// `[samplers.service_latency]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings, of which the figures are.
    pub interval: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::seconds(5),
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
    interval: Span,
    cgroups: Option<CgroupWatch>,
    /// What was counted at the last reading, by cgroup.
    before: BTreeMap<u64, LatencyTotals>,
    read: Time,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            interval: config.interval,
            cgroups: sources.cgroups.take(),
            before: BTreeMap::new(),
            read: Time::default(),
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        let counted = self.cgroups.as_ref().map(CgroupWatch::read);
        let before = std::mem::take(&mut self.before);
        for (cgroup_id, figures) in counted.unwrap_or_default() {
            let Some(totals) = figures.latency else {
                continue;
            };
            self.before.insert(cgroup_id, totals);
            // The first reading is of no interval; and of one that nobody ever asked, there is nothing to say.
            if let Some(before) = before.get(&cgroup_id).filter(|_| totals.requests > 0) {
                let answers = Answers::of(&totals.since(before), now.since(self.read));
                out.push((now, model::Sample::ServiceLatency { cgroup_id, answers }));
            }
        }
        self.read = now;
        now.after(self.interval.0)
    }
}
