//! Measures what the kernel programs cost, in windows, and detaches the costliest when that is over the budget.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::host::clock;
use crate::kernel::{Estimate, Meter, Programs, Verdict};

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);
/// Time between two windows.
const PAUSE: Duration = Duration::from_secs(9);

/// What each program costs, by its name; empty while nothing was measured.
pub(super) type Estimates = Arc<Mutex<BTreeMap<String, Estimate>>>;

/// What is kept within what.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) programs: Programs,
    /// CPUs that all programs may take together.
    pub(super) cpus: f64,
    pub(super) shown: Estimates,
}

/// Runs as long as the daemon. `changed` hears of probes that were taken away or given back.
pub(super) async fn keep(budget: Budget, changed: Sender<()>) {
    let Budget {
        programs,
        cpus: budget,
        shown,
    } = budget;
    let mut meter = Meter::new(budget);
    loop {
        if let Err(error) = programs.set_stats(true) {
            tracing::warn!(%error, "the kernel programs' own cost is not known, and not kept within its budget");
            return;
        }
        meter.open(clock::now(), &programs.costs());
        tokio::time::sleep(WINDOW).await;
        let costs = programs.costs();
        let now = clock::now();
        // Closing the last handle on the measuring; another program of the host may still hold one.
        let _ = programs.set_stats(false);
        if costs.is_empty() {
            return;
        }
        let probes = programs.probes();
        let state = |kind| {
            let of = probes.iter().find(|probe| probe.kind == kind);
            of.map(|probe| probe.state.clone())
        };
        let verdict = meter.close(now, &costs, state);
        shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(meter.estimates());
        if carry_out(&programs, verdict, budget) && changed.send(()).await.is_err() {
            return;
        }
        if !meter.is_over() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether anything changed.
fn carry_out(programs: &Programs, verdict: Verdict, budget: f64) -> bool {
    match verdict {
        Verdict::Keep => false,
        Verdict::Shed { probe, cpus, total } => {
            let reason = format!(
                "detached to save CPU: the kernel programs took {:.2} % of a CPU, of {:.2} % they may, and this one took {:.2} %",
                total * 100.0,
                budget * 100.0,
                cpus * 100.0
            );
            tracing::warn!(probe = probe.name(), "{reason}");
            let fix =
                "it comes back by itself when there is room; or raise `cpu_budget` in [kernel]";
            programs.shed(probe, &reason, fix);
            true
        }
        Verdict::Restore { probe, state } => {
            match programs.restore(probe, state) {
                Ok(()) => tracing::info!(
                    probe = probe.name(),
                    "attached again: there is room in the budget"
                ),
                Err(error) => tracing::warn!(%error, "a probe does not come back"),
            }
            true
        }
    }
}
