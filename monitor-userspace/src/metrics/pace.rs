//! What health checks said last, and how well they keep to their times.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::view::Durations;
use crate::model::{CheckResult, Figure};

/// See the module.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Counted>);

/// What was counted since the daemon started.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// How late checks were begun.
    pub late: Durations,
    /// Starts that were left out, since the one before was still under way or the daemon had no time.
    pub missed: u64,
    /// What each said last, by service and check: bounded by the configuration.
    pub last: BTreeMap<(String, String), Last>,
}

/// What a check said last.
#[derive(Clone, Debug, Default)]
pub struct Last {
    /// Whether all was well.
    pub well: bool,
    /// How long it took.
    pub took: Duration,
    /// What it measured.
    pub figures: Vec<Figure>,
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A check was begun, so late.
    pub fn began(&self, late: Duration) {
        self.lock().late.add(late);
    }

    /// So many were left out.
    pub fn missed(&self, count: u64) {
        if count > 0 {
            self.lock().missed += count;
        }
    }

    /// Other checks are made from now on.
    pub fn anew(&self) {
        self.lock().last.clear();
    }

    /// A check has come back.
    pub fn said(&self, result: &CheckResult) {
        let mut counted = self.lock();
        let key = (result.service.clone(), result.check.clone());
        let last = counted.last.entry(key).or_default();
        last.well = result.failure.is_none();
        last.took = result.latency;
        last.figures.clone_from(&result.figures);
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        self.lock().clone()
    }
}
