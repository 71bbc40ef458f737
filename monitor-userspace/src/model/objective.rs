//! What a service is meant to keep towards those who use it, and whether it does.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Time;

/// All of something, in parts per million.
pub const WHOLE: u64 = 1_000_000;
/// Parts that a window is counted in.
const PARTS: u32 = 60;
/// The recent end of a window is so many times shorter.
const RECENT: u32 = 12;
/// Fewer bad ones miss nothing, however few there were in all; and fewer in all say nothing about how it is now.
const FEW: u64 = 3;

/// What is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// So many of 100 requests are answered within a time.
    Latency {
        /// 50, 90 or 99.
        percentile: u8,
        /// The time.
        most: Duration,
    },
    /// At most so many requests fail.
    Errors {
        /// Parts per million.
        most: u64,
    },
}

impl Promise {
    /// Key in the configuration, and value of a label.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Errors { .. } => "errors",
        }
    }

    /// How many may be bad, parts per million.
    pub fn allowed(&self) -> u64 {
        match self {
            Self::Latency { percentile, .. } => {
                WHOLE / 100 * u64::from(100_u8.saturating_sub(*percentile))
            }
            Self::Errors { most } => *most,
        }
    }

    /// Whether that many bad ones are too many. How many requests were slow is known from quantiles, at least: just as many as allowed
    /// is what is counted of a quantile that is over.
    fn is_over(&self, bad: u64) -> bool {
        match self {
            Self::Latency { .. } => bad >= self.allowed(),
            Self::Errors { .. } => bad > self.allowed(),
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency { percentile, most } => {
                write!(f, "{percentile} % of answers within {most:?}")
            }
            Self::Errors { most } => write!(f, "at most {} of requests fail", percent(*most)),
        }
    }
}

/// A share in words.
pub fn percent(share: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let percent = share as f64 * 100.0 / WHOLE as f64;
    let rounded = format!("{percent:.2}");
    let short = rounded.trim_end_matches('0').trim_end_matches('.');
    format!("{short} %")
}

/// A promise, over which time it is looked at, and how it was kept in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// What is to be kept.
    pub promise: Promise,
    /// How long the window is.
    pub over: Duration,
    /// How it was kept; none before anything was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// How a promise was kept in its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Requests, or checks, that were counted.
    pub counted: u64,
    /// How many of them were bad, parts per million.
    pub bad: u64,
    /// Counted by health checks, for want of requests that the kernel saw.
    pub by_checks: bool,
    /// Not kept, and not of late either.
    pub missed: bool,
}

impl Kept {
    /// Whether there were more than a few bad ones.
    pub const fn is_many(&self) -> bool {
        self.counted.saturating_mul(self.bad) >= FEW * WHOLE
    }
}

/// What was counted in the last while, in parts of it.
#[derive(Clone, Debug)]
pub struct Window {
    over: Duration,
    /// When each part began, how many there were, and how many of them bad, in millionths; at most [`PARTS`] and one.
    parts: VecDeque<(Time, u64, u64)>,
    /// What was before says nothing about how it is now.
    anew: Time,
}

/// How many, and how many of them bad, in millionths.
#[derive(Clone, Copy, Default)]
struct Sum {
    all: u64,
    bad: u64,
}

impl Sum {
    fn share(self) -> u64 {
        self.bad.checked_div(self.all).unwrap_or(0)
    }
}

impl Window {
    /// An empty one.
    pub fn new(over: Duration) -> Self {
        Self {
            over,
            parts: VecDeque::new(),
            anew: Time::default(),
        }
    }

    /// Counts `all`, of which `bad` parts per million were bad.
    pub fn add(&mut self, at: Time, all: u64, bad: u64) {
        let width = self.over / PARTS;
        let open = self.parts.back_mut();
        let open = open.filter(|(began, ..)| *began > self.anew && at.since(*began) < width);
        let bad = all.saturating_mul(bad.min(WHOLE));
        if let Some((_, counted, of_them)) = open {
            *counted = counted.saturating_add(all);
            *of_them = of_them.saturating_add(bad);
        } else {
            self.parts.push_back((at, all, bad));
        }
        self.pass(at);
    }

    /// Forgets what is older than the window.
    pub fn pass(&mut self, at: Time) {
        let over = self.over;
        let stale = |part: &(Time, u64, u64)| at.since(part.0) > over;
        while self.parts.front().is_some_and(stale) || self.parts.len() > PARTS as usize + 1 {
            self.parts.pop_front();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.parts.clear();
    }

    /// It runs anew: what it did before does not tell how it is now.
    pub fn begin_anew(&mut self, at: Time) {
        self.anew = at;
    }

    /// How many were counted.
    pub fn counted(&self) -> u64 {
        self.parts.iter().map(|part| part.1).sum()
    }

    /// How a promise is kept, that was missed before or not.
    pub fn judge(&self, promise: &Promise, missed: bool, now: Time) -> Option<Kept> {
        let long = self.sum(|_, _| true);
        if long.all == 0 {
            return None;
        }
        let recent = self.over / RECENT;
        let short = self
            .sum(|began, so_far| began > self.anew && (now.since(began) < recent || so_far < FEW));
        let tells = short.all >= FEW;
        let missed = if missed {
            // Of one that was started meanwhile, its first answer tells.
            let anew = self.parts.front().is_some_and(|part| part.0 < self.anew);
            let tells = tells || (anew && short.all > 0);
            !(tells && short.share() <= promise.allowed() / 2)
        } else {
            let many = long.bad >= FEW * WHOLE;
            tells && many && promise.is_over(long.share()) && promise.is_over(short.share())
        };
        Some(Kept {
            counted: long.all,
            bad: long.share(),
            by_checks: false,
            missed,
        })
    }

    /// From the newest part back, as long as one is meant.
    fn sum(&self, meant: impl Fn(Time, u64) -> bool) -> Sum {
        let mut sum = Sum::default();
        for (began, all, bad) in self.parts.iter().rev() {
            if !meant(*began, sum.all) {
                break;
            }
            sum.all = sum.all.saturating_add(*all);
            sum.bad = sum.bad.saturating_add(*bad);
        }
        sum
    }
}

#[cfg(test)]
mod tests;
