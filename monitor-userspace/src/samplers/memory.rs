//! Memory of the host, from `/proc/meminfo`: the less is left and the faster it goes, the more often. And who has it, once it is low.
//!
//! A host can fill its memory no faster than `FILL`, or than twice what was seen; the next look is when it could have reached the next
//! level (see [`Shortage`]), at most once a `fastest` and at least once an `interval`. Asleep otherwise. On a thread of its own.

mod claims;
mod pace;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::{Level, Span};
use crate::host::meminfo::Meminfo;
use crate::model::{self, ProcessKey, Time};
use claims::Table;
use pace::Pace;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory",
    summary: "memory of the host, the more often the less is left, and who has it",
};

/// `[samplers.memory]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two readings while there is plenty.
    pub interval: Span,
    /// Shortest time between two readings.
    pub fastest: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::seconds(1),
            fastest: Span::millis(1),
        }
    }
}

impl Config {
    /// Whether it can be run without eating the host.
    pub fn resolve(&self) -> Result<(), String> {
        super::not_too_often("interval", self.interval, Span::millis(50))?;
        super::not_too_often("fastest", self.fastest, Span::millis(1))?;
        if self.fastest > self.interval {
            return Err("`fastest` must be at most `interval`".to_owned());
        }
        Ok(())
    }
}

/// What is little memory, as configured for the detector; and who has most of it, for whoever looks closer. Shared.
#[derive(Clone, Debug)]
pub struct Shortage {
    shared: Arc<Mutex<Shared>>,
    news: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct Shared {
    levels: Option<(Level, Level)>,
    largest: Vec<ProcessKey>,
}

/// Most processes that are looked at closer.
const LARGEST: usize = 8;

impl Shortage {
    /// Nothing is little yet.
    pub fn new() -> std::io::Result<Self> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            shared: Arc::default(),
            news: Arc::new(news),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Held for a few moves only.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Below the first it is low, below the second it is an emergency; none where nobody asks.
    pub fn set(&self, levels: Option<(Level, Level)>) {
        self.lock().levels = levels;
    }

    fn levels(&self, total: u64) -> (u64, u64) {
        let levels = self.lock().levels;
        levels.map_or((0, 0), |(low, least)| {
            let low = low.of(total);
            (low, least.of(total).min(low))
        })
    }

    fn tell(&self, largest: impl Iterator<Item = ProcessKey>) {
        let mut shared = self.lock();
        shared.largest.clear();
        shared.largest.extend(largest.take(LARGEST));
        drop(shared);
        // Fails only when the counter is full, and then the reader is awake anyway.
        let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
    }

    /// Those that were told of since this was last asked.
    pub(super) fn take_largest(&self) -> Vec<ProcessKey> {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.news, &mut counter);
        std::mem::take(&mut self.lock().largest)
    }

    /// Readable when there is something to take.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    file: Option<Meminfo>,
    pace: Pace,
    shortage: Shortage,
    table: Table,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            file: Meminfo::open().ok(),
            pace: Pace::new(config.interval.0, config.fastest.0),
            shortage: sources.shortage.clone(),
            table: Table::new(sources.claims.take()),
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        let Some(read) = self.file.as_ref().and_then(Meminfo::read) else {
            return now.after(self.pace.interval());
        };
        let levels = self.shortage.levels(read.total);
        let look = self.pace.look(now, read.available, levels);
        if look.claims
            && let Some(claims) = self.table.read()
        {
            if read.available >= levels.1 {
                self.shortage
                    .tell(claims.processes.iter().map(|claim| claim.process));
            }
            out.push((now, model::Sample::MemoryClaims { claims }));
        }
        if look.tell {
            out.push((
                now,
                model::Sample::Memory {
                    total: read.total,
                    available: read.available,
                    swap_total: read.swap_total,
                    swap_free: read.swap_free,
                },
            ));
        }
        now.after(look.wait)
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn limitation(&self) -> Option<String> {
        let unread = "the host's memory is not watched: /proc/meminfo cannot be opened";
        self.file.is_none().then(|| unread.to_owned())
    }
}
