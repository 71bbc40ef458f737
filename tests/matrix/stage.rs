//! The loaded kernel half, and waiting for what must come through its rings.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use monitor_common::Event;
use smart_monitor::kernel::{Kernel, Options, Rings};

/// Events of a probe and cgroup in a second beyond which they are held back: few, so that it is soon seen.
pub(crate) const SHARE: u32 = 100;
/// Forks of a cgroup in a second that are a storm.
pub(crate) const FORKS: u32 = 40;

/// How long an event may take that must come; machines that are emulated are slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long, what must be seen is done once more: its event may have been held back, or another's turn may have come first.
const AGAIN: Duration = Duration::from_secs(2);

/// The loaded kernel half with its rings.
pub(crate) struct Stage {
    pub(crate) kernel: Kernel,
    /// Whether the whole machine may run out of memory.
    pub(crate) may_oom: bool,
    rings: Rings,
}

impl Stage {
    /// With thresholds so low that little is enough to be told.
    pub(crate) fn new(may_oom: bool) -> Result<Self> {
        let mut kernel = Kernel::load(&Options {
            run_queue_threshold: Duration::ZERO,
            reclaim_threshold: Duration::ZERO,
            block_threshold: Duration::ZERO,
            slow_request: Duration::ZERO,
            cgroup_events_per_second: SHARE,
            forks_per_second: FORKS,
            bench: true,
            stats: true,
            ..Options::default()
        })?;
        let rings = kernel.take_rings().context("the rings are taken")?;
        Ok(Self {
            kernel,
            may_oom,
            rings,
        })
    }

    /// Does something until one of the events that came of it is the one that is looked for. What was done is handed to `is` and kept
    /// until the end of the wait.
    pub(crate) fn see<T>(
        &mut self,
        mut act: impl FnMut(&mut Kernel) -> Result<T>,
        is: impl Fn(&T, &Event) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let (mut times, mut events) = (0, 0);
        while Instant::now() < end {
            let done = act(&mut self.kernel)?;
            times += 1;
            let again = Instant::now() + AGAIN;
            while Instant::now() < again {
                let mut found = false;
                let mut malformed = 0;
                for ring in [&mut self.rings.urgent, &mut self.rings.bulk] {
                    let drained = ring.drain(100_000, |event| found |= is(&done, &event));
                    events += drained.count;
                    malformed += drained.malformed;
                }
                if malformed > 0 {
                    bail!("{malformed} malformed records");
                }
                if found {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        bail!("no such event among {events} after {times} tries in {PATIENCE:?}")
    }
}
