//! Time as the core sees it: always an argument, never read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds: the clock of kernel events. Negative for what is remembered from before
/// the machine started.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// From nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From a kernel event's clock.
    pub fn from_kernel(nanos: u64) -> Self {
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it was not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This instant, so much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// This instant, so much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}
