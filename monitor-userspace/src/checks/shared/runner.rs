//! A check that is made again and again.

use std::time::Duration;

use tokio::time::Instant;

use super::{About, Answer, Config, Schedule};
use crate::model::CheckFailure;

/// First wait between checks of a service that has just started; doubles up to the interval.
const EAGER: Duration = Duration::from_millis(1);
/// First wait before a check that failed is made again after an act; doubles up to the interval.
const PROOF: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Runner {
    config: Config,
    about: About,
    schedule: Schedule,
    /// Wait before the next check of a service that has just started, or about which something was done.
    eager: Option<Duration>,
    well: bool,
    /// The last one failed.
    failing: bool,
}

/// What came of a check.
#[derive(Debug)]
pub struct Asked {
    /// How long it took.
    pub took: Duration,
    /// The answer, or what went wrong.
    pub result: Result<Answer, CheckFailure>,
    /// What it did when its time was up, if it says so.
    pub doing: Option<String>,
    /// It is well, as it was before: nobody waits for this news.
    pub as_before: bool,
}

impl Runner {
    /// To be asked from now on.
    pub fn new(config: Config, about: About, now: Instant) -> Self {
        // FNV-1a: spreads names, and is the same everywhere.
        let name = about.service.bytes().chain(about.check.bytes());
        let spread = name.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let common = &config.common;
        let schedule = Schedule::new(common.interval.0, &common.after_release, spread, now);
        Self {
            config,
            about,
            schedule,
            // Nothing has started: a failure is one as any other.
            eager: None,
            well: false,
            failing: false,
        }
    }

    /// The service has started just now.
    pub fn started(&mut self, now: Instant) {
        self.eager = Some(EAGER);
        self.well = false;
        self.failing = false;
        self.schedule.restart(now);
    }

    /// Something was done, perhaps about what this check says: one that failed is asked anew, however long its interval is.
    pub fn acted(&mut self, now: Instant) {
        if self.failing && self.eager.is_none() {
            self.eager = Some(PROOF);
            self.schedule.restart(now + PROOF);
        }
    }

    /// A release was put in place just now.
    pub fn released(&mut self, now: Instant) {
        self.schedule.released(now);
    }

    /// When to ask next.
    pub fn next(&self) -> Instant {
        self.schedule.next()
    }

    /// Time between two that are not hurried.
    pub fn interval(&self) -> Duration {
        self.schedule.interval_at(Instant::now())
    }

    /// Starts that were missed since the beginning.
    pub fn missed(&self) -> u64 {
        self.schedule.missed()
    }

    /// Asks, and once more for each retry.
    pub async fn ask(&mut self) -> Asked {
        let mut tries = self.config.common.retries;
        loop {
            self.config.check.turn(&self.about).await;
            let began = Instant::now();
            let asking = self.config.check.ask(&self.about);
            let result = match tokio::time::timeout(self.config.common.timeout.0, asking).await {
                Ok(result) => result,
                Err(_) => Err(CheckFailure::Timeout),
            };
            let took = began.elapsed();
            if result.is_err() && tries > 0 && self.eager.is_none() {
                tries -= 1;
                continue;
            }
            let as_before = result.is_ok() && self.well;
            self.well = result.is_ok();
            self.failing = result.is_err();
            self.plan(result.is_ok(), Instant::now());
            let timed_out = matches!(&result, Err(failure) if failure.is_timeout());
            return Asked {
                took,
                doing: timed_out.then(|| self.config.check.doing()).flatten(),
                result,
                as_before,
            };
        }
    }

    /// When the next one is.
    fn plan(&mut self, well: bool, now: Instant) {
        if well {
            self.eager = None;
        }
        let interval = self.schedule.interval_at(now);
        match self.eager {
            Some(wait) if wait < interval => {
                // One that waits for news is asked for it at once.
                let waits = self.config.check.notify().is_some();
                self.eager = Some(if waits { wait } else { wait.saturating_mul(2) });
                self.schedule.restart(now + wait);
            }
            _ => self.schedule.made(now),
        }
    }
}
