//! Processes held by pidfd, and the signals sent through it.

#![expect(unsafe_code, reason = "process_mrelease has no wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{
    Disposition, HostError, Opened, Reniced, io_priority, oom_score, priority, procfs, restrain,
};
use crate::model::ProcessKey;
use crate::model::command::{ReloadSignal, StopSignal};

/// A process that cannot be mistaken for another.
#[derive(Debug)]
pub struct Held {
    process: ProcessKey,
    pidfd: OwnedFd,
}

impl Held {
    /// Opens it first and compares its start time after: what was compared is what is held.
    pub fn open(process: ProcessKey) -> Result<Self, HostError> {
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(HostError::Gone(process))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
            // The number lives on as that of a process group or a session, before 6.16: the process is gone.
            rustix::io::Errno::SRCH | rustix::io::Errno::INVAL => HostError::Gone(process),
            other => system("open", process, other),
        })?;
        match procfs::stat(process.pid) {
            Some(stat) if stat.key == process => Ok(Self { process, pidfd }),
            Some(_) => Err(HostError::Reused(process)),
            None => Err(HostError::Gone(process)),
        }
    }

    fn reniced(
        &self,
        of: &priority::Kind,
        want: &dyn Fn(u32, i32) -> i32,
    ) -> Result<Reniced, HostError> {
        let mut reniced = priority::change(of, self.process, want)?;
        // While its pidfd says that it lives, its PID has meant no other process.
        if self.wait(Duration::ZERO)? {
            reniced.stopped = Some(HostError::Gone(self.process));
        }
        Ok(reniced)
    }

    /// Which process it is.
    pub const fn process(&self) -> ProcessKey {
        self.process
    }

    /// Readable once the process has ended.
    pub fn try_clone_fd(&self) -> Result<OwnedFd, HostError> {
        self.pidfd.try_clone().map_err(|source| HostError::System {
            what: format!("watch {}", self.process),
            source,
        })
    }

    /// Tells it to read its configuration again.
    pub fn reload(&self, signal: ReloadSignal) -> Result<(), HostError> {
        self.signal(match signal {
            ReloadSignal::Hup => Signal::HUP,
            ReloadSignal::Usr1 => Signal::USR1,
            ReloadSignal::Usr2 => Signal::USR2,
            ReloadSignal::Winch => Signal::WINCH,
        })
    }

    /// Asks it to end, in its own way.
    pub fn ask_to_end(&self, signal: StopSignal) -> Result<(), HostError> {
        self.signal(match signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
            StopSignal::Hup => Signal::HUP,
            StopSignal::Usr1 => Signal::USR1,
            StopSignal::Usr2 => Signal::USR2,
            StopSignal::Winch => Signal::WINCH,
            StopSignal::Kill => Signal::KILL,
        })
    }

    /// Stops it (SIGSTOP).
    pub(super) fn stop(&self) -> Result<(), HostError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub(super) fn resume(&self) -> Result<(), HostError> {
        self.signal(Signal::CONT)
    }

    /// Sends any signal.
    fn signal(&self, signal: Signal) -> Result<(), HostError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that signals"
        )]
        let sent = pidfd_send_signal(&self.pidfd, signal);
        match sent {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(HostError::Gone(self.process)),
            Err(other) => Err(system("signal", self.process, other)),
        }
    }
}

impl Opened for Held {
    fn name(&self) -> Option<String> {
        procfs::stat(self.process.pid)
            .filter(|stat| stat.key == self.process)
            .map(|stat| stat.comm)
    }

    fn terminate(&self) -> Result<(), HostError> {
        self.signal(Signal::TERM)
    }

    fn kill(&self) -> Result<(), HostError> {
        self.signal(Signal::KILL)
    }

    fn wait(&self, within: Duration) -> Result<bool, HostError> {
        wait_readable(std::os::fd::AsFd::as_fd(&self.pidfd), within).map_err(|source| {
            HostError::System {
                what: format!("wait for {}", self.process),
                source,
            }
        })
    }

    fn release_memory(&self) {
        // Not with the signal: that is sent on the hot thread.
        restrain::let_die(self.process);
        // SAFETY: the call takes a file descriptor and a number, and touches no memory of ours. It fails with ENOSYS before 5.15,
        // and with EINVAL or EBUSY where there is nothing to free (any more): each of them leaves the memory to the dying process.
        unsafe {
            libc::syscall(libc::SYS_process_mrelease, self.pidfd.as_raw_fd(), 0);
        }
    }

    fn renice(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        self.reniced(&priority::CPU, want)
    }

    fn change_io_priority(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        self.reniced(&io_priority::DISKS, want)
    }

    fn oom_score(&self) -> Result<i32, HostError> {
        oom_score::read(self)
    }

    fn set_oom_score(&self, score: i32) -> Result<(), HostError> {
        oom_score::write(self, score)
    }

    fn send(&self, signal: i32) -> Result<(), HostError> {
        let Some(signal) = Signal::from_named_raw(signal) else {
            return Err(HostError::Unable("send a signal of this number"));
        };
        self.signal(signal)
    }

    fn disposition(&self, signal: i32) -> Result<Disposition, HostError> {
        let path = format!("/proc/{}/status", self.process.pid);
        let status = std::fs::read_to_string(path).map_err(|_| HostError::Gone(self.process))?;
        if self.wait(Duration::ZERO)? {
            return Err(HostError::Gone(self.process));
        }
        Ok(disposition(&status, signal))
    }
}

/// From the masks of `/proc/PID/status` (proc(5)): bit 0 is signal 1.
fn disposition(status: &str, signal: i32) -> Disposition {
    let has = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let bit = u32::try_from(signal - 1).unwrap_or(64);
        mask.unwrap_or(0).checked_shr(bit).unwrap_or(0) & 1 == 1
    };
    Disposition {
        caught: has("SigCgt:"),
        pending: has("ShdPnd:"),
    }
}

/// Waits until a file descriptor is readable; false when it is not within that time.
pub fn wait_readable(fd: BorrowedFd<'_>, within: Duration) -> std::io::Result<bool> {
    let deadline = std::time::Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn system(what: &str, process: ProcessKey, error: rustix::io::Errno) -> HostError {
    HostError::System {
        what: format!("{what} {process}"),
        source: error.into(),
    }
}
