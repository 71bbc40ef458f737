//! The kernel's own alarm: it wakes us when tasks have stalled for lack of memory for `stall` within `window` (PSI, since 5.2).
//!
//! Without `CAP_SYS_RESOURCE`, newer kernels take only windows that are multiples of 2 s; then `stall` and `window` are stretched alike.
//! No polling: while memory is plentiful, nothing runs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::procfs;
use crate::model::{self, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "memory_pressure",
    summary: "the kernel's alarm when tasks stall for lack of memory (PSI trigger)",
};

/// `[samplers.memory_pressure]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long tasks must have stalled within the window.
    pub stall: Span,
    /// The window: 500ms to 10s.
    pub window: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stall: Span::millis(150),
            window: Span::seconds(1),
        }
    }
}

impl Config {
    /// Whether a kernel can take it (Documentation/accounting/psi.rst).
    pub fn resolve(&self) -> Result<(), String> {
        if !(Duration::from_millis(500)..=Duration::from_secs(10)).contains(&self.window.0) {
            return Err("`window` must be 500ms to 10s".to_owned());
        }
        if self.stall.0.is_zero() || self.stall.0 > self.window.0 {
            return Err("`stall` must be more than 0 and at most `window`".to_owned());
        }
        Ok(())
    }
}

/// Windows that kernels since 6.5 take from everybody.
const UNPRIVILEGED: Duration = Duration::from_secs(2);

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    trigger: Option<File>,
    limitation: Option<String>,
}

impl Sample {
    /// Sets the alarm.
    pub fn new(config: &Config, _: &mut Sources) -> Self {
        match open().and_then(|file| Ok((arm(&file, config)?, file))) {
            Ok((limitation, file)) => Self {
                trigger: Some(file),
                limitation,
            },
            Err(refused) => {
                let why = format!(
                    "no alarm for memory pressure ({refused}): the kernel needs CONFIG_PSI, and psi=1 on its command line where it is off by default"
                );
                Self {
                    trigger: None,
                    limitation: Some(why),
                }
            }
        }
    }
}

fn open() -> std::io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/proc/pressure/memory")
}

/// Sets an alarm on a pressure file, the host's or a cgroup's, for as long as it is open. What is not as configured, if anything.
pub(super) fn arm(file: &File, config: &Config) -> std::io::Result<Option<String>> {
    let (stall, window) = (config.stall.0, config.window.0);
    let Err(refused) = ask(file, stall, window) else {
        return Ok(None);
    };
    let factor = UNPRIVILEGED.as_secs_f64() / window.as_secs_f64().max(0.001);
    // What was refused first says more than what is refused then.
    ask(file, stall.mul_f64(factor.max(0.001)), UNPRIVILEGED).map_err(|_| refused)?;
    Ok(Some(format!(
        "the alarm for memory pressure has a window of {UNPRIVILEGED:?} instead of {window:?}: that needs CAP_SYS_RESOURCE"
    )))
}

/// Source: Documentation/accounting/psi.rst: `some STALL_US WINDOW_US`, written with its NUL.
fn ask(mut file: &File, stall: Duration, window: Duration) -> std::io::Result<()> {
    let line = format!("some {} {}\0", stall.as_micros(), window.as_micros());
    file.write_all(line.as_bytes())
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, pressed: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        if pressed && let Some((some_avg10, full_avg10)) = procfs::memory_pressure() {
            out.push((
                now,
                model::Sample::MemoryPressure {
                    some_avg10,
                    full_avg10,
                },
            ));
        }
        now.after(Duration::from_hours(1))
    }

    fn wants_pressure(&self) -> bool {
        true
    }

    fn trigger(&self) -> Option<BorrowedFd<'_>> {
        self.trigger.as_ref().map(AsFd::as_fd)
    }

    fn limitation(&self) -> Option<String> {
        self.limitation.clone()
    }
}
