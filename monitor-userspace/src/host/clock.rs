//! The clocks. The core never reads one; the pipeline hands it the time.

use rustix::time::{ClockId, clock_gettime};

use crate::model::Time;

/// `CLOCK_MONOTONIC`, the clock of kernel events.
pub fn now() -> Time {
    Time::from_nanos(nanos(ClockId::Monotonic))
}

/// `CLOCK_REALTIME`, nanoseconds since 1970.
pub fn unix_nanos() -> i64 {
    nanos(ClockId::Realtime)
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}
