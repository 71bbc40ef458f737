//! Memory of services that have a ceiling: the fuller, the more often.
//!
//! A process can fill memory no faster than `FILL`; so the next look is when it could have used up half of what is left below its
//! ceiling, but no more often than `fastest` and no less often than once a second. A service that starts is looked at at once.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::procfs;
use crate::model::{self, ProcessKey, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "service_memory",
    summary: "memory of services with a ceiling, the more often the fuller",
};

/// `[samplers.service_memory]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shortest time between two readings.
    pub fastest: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fastest: Span::millis(10),
        }
    }
}

impl Config {
    /// Whether it can be run without eating the host.
    pub fn resolve(&self) -> Result<(), String> {
        super::not_too_often("fastest", self.fastest, Span::millis(1))
    }
}

/// Bytes a second that a process can touch at most (earlyoom assumes the same, 6 GiB/s).
const FILL: f64 = 6.0 * 1_073_741_824.0;
const SLOWEST: Duration = Duration::from_secs(1);

/// Services with a ceiling: their process and the ceiling in bytes. Shared with who starts them.
#[derive(Clone, Debug)]
pub struct Ceilings {
    services: Arc<Mutex<BTreeMap<String, (ProcessKey, u64)>>>,
    changed: Arc<OwnedFd>,
}

impl Ceilings {
    /// None yet.
    pub fn new() -> std::io::Result<Self> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            services: Arc::default(),
            changed: Arc::new(changed),
        })
    }

    /// A service runs as this process, with this ceiling.
    pub fn set(&self, service: &str, process: ProcessKey, ceiling: u64) {
        let mut all = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(service.to_owned(), (process, ceiling));
        drop(all);
        // Fails only when the counter is full, and then the sampler is awake anyway.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    /// A service runs no longer, or has no ceiling any more.
    pub fn clear(&self, service: &str) {
        self.services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(service);
    }

    fn all(&self) -> Vec<(String, ProcessKey, u64)> {
        let all = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(name, (process, ceiling))| (name.clone(), *process, *ceiling))
            .collect()
    }
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    fastest: Duration,
    ceilings: Ceilings,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            fastest: config.fastest.0.max(Duration::from_millis(1)),
            ceilings: sources.ceilings.clone(),
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.ceilings.changed, &mut counter);
        let mut wait = SLOWEST;
        for (service, process, ceiling) in self.ceilings.all() {
            // Gone, or another process by now: its supervisor says so.
            let Ok(resident) = procfs::resident(process) else {
                continue;
            };
            wait = wait.min(until_next(resident, ceiling, self.fastest));
            out.push((
                now,
                model::Sample::ServiceMemory {
                    service,
                    process,
                    resident,
                },
            ));
        }
        now.after(wait)
    }

    fn nudge(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ceilings.changed.as_fd())
    }
}

fn until_next(resident: u64, ceiling: u64, fastest: Duration) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a wait needs no exact bytes")]
    let headroom = ceiling.saturating_sub(resident) as f64;
    Duration::from_secs_f64(headroom / FILL / 2.0).clamp(fastest, SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_more_often() {
        let fastest = Duration::from_millis(10);
        let wait = |resident: u64, ceiling: u64| until_next(resident << 20, ceiling << 20, fastest);
        assert_eq!(wait(300, 200), fastest, "over the ceiling");
        assert_eq!(wait(199, 200), fastest);
        assert_eq!(wait(0, 1 << 20), SLOWEST);
        assert!(wait(100, 4_096) > wait(3_000, 4_096));
    }
}
