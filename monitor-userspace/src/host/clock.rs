//! The clocks. The core never reads one; the pipeline hands it the time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::model::Time;

/// `CLOCK_MONOTONIC`, the clock of kernel events.
pub fn now() -> Time {
    Time::from_nanos(nanos(ClockId::Monotonic))
}

/// `CLOCK_REALTIME`, nanoseconds since 1970.
pub fn unix_nanos() -> i64 {
    nanos(ClockId::Realtime)
}

/// `CLOCK_BOOTTIME`: how long the machine has been up, its sleep included.
pub fn since_boot() -> std::time::Duration {
    std::time::Duration::from_nanos(u64::try_from(nanos(ClockId::Boottime)).unwrap_or(0))
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

/// A file that is readable once somebody has set the wall clock, or the machine has slept (`TFD_TIMER_CANCEL_ON_SET`, 3.0). What
/// `adjtime` and NTP do bit by bit is not told.
#[derive(Debug)]
pub struct SetAlarm {
    timer: OwnedFd,
}

impl SetAlarm {
    /// Armed from now on.
    pub fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let alarm = Self { timer };
        alarm.arm()?;
        Ok(alarm)
    }

    /// A timer that never runs out: only setting the clock ends the wait for it.
    fn arm(&self) -> std::io::Result<()> {
        let never = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.timer, flags, &never)?;
        Ok(())
    }

    /// Whether the clock was set since the last call. The kernel stays armed (`fs/timerfd.c`: the read fails with `ECANCELED` once).
    pub fn take(&self) -> bool {
        let mut expirations = [0; 8];
        match rustix::io::read(&self.timer, &mut expirations) {
            Err(rustix::io::Errno::CANCELED) => true,
            Err(_) => false,
            // Set beyond the end of all times: waits anew.
            Ok(_) => self.arm().is_ok(),
        }
    }

    /// Readable when [`Self::take`] has something to say.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_silent() {
        let alarm = SetAlarm::new().expect("the kernel has timer files");
        assert!(!alarm.take());
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            alarm.fd(),
            rustix::event::PollFlags::IN,
        )];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut fds, Some(&now)), Ok(0));
    }
}
