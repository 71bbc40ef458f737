//! What the daemon itself costs. The run time of its kernel programs is not in here: the kernel half knows that.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::Pace;

/// The daemon, since it started.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its version.
    pub version: &'static str,
    /// How well checks keep to their times.
    pub checks: Arc<Pace>,
    began: Instant,
    began_unix: Duration,
}

/// What it costs now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// CPU time of all its threads.
    pub cpu: Duration,
    /// Resident memory, bytes; 0 when `/proc` cannot be read.
    pub resident: u64,
}

impl Own {
    /// To be made as the daemon starts: its up-time counts from here.
    pub fn started_now() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            checks: Arc::default(),
            began: Instant::now(),
            began_unix: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// How long it has run.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it started, since the Unix epoch.
    pub const fn started_unix(&self) -> Duration {
        self.began_unix
    }

    /// What it costs now.
    pub fn usage(&self) -> Usage {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Usage {
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            resident: std::fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|status| resident(&status))
                .unwrap_or_default(),
        }
    }
}

/// `VmRSS` of a `/proc/PID/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"),
            Some(2 << 20)
        );
        assert_eq!(resident("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_costs_something() {
        let usage = Own::started_now().usage();
        assert!(usage.resident > 64 << 10, "{usage:?}");
        assert!(usage.cpu > Duration::ZERO, "{usage:?}");
    }
}
