//! The kernel half, as the API and the exporter see it.

use monitor_common::Kind;
use monitor_common::counters::ReclaimTotals;

use crate::kernel::{CounterReader, ProbeState, ProbeStatus};
use crate::model::kernel_view::{KernelView, ProbeCount, ProbeRow, ProgramCost, RunQueue};

/// See the module.
pub(super) struct LiveKernel {
    rows: Vec<ProbeRow>,
    on: Vec<Kind>,
    counters: CounterReader,
}

impl std::fmt::Debug for LiveKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveKernel")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}

impl LiveKernel {
    pub(super) fn new(probes: &[ProbeStatus], counters: CounterReader) -> Self {
        let on = probes
            .iter()
            .filter(|probe| probe.state.is_on())
            .map(|probe| probe.kind);
        Self {
            rows: probes.iter().map(row).collect(),
            on: on.collect(),
            counters,
        }
    }
}

/// A probe in words.
pub(super) fn row(probe: &ProbeStatus) -> ProbeRow {
    let spec = probe.kind.spec();
    let blank = ProbeRow {
        name: spec.name.to_owned(),
        summary: spec.summary.to_owned(),
        ..ProbeRow::default()
    };
    match &probe.state {
        ProbeState::On { attached } => {
            let without = probe.without.join(", ");
            let poorer = format!("this kernel has no {without}: they read as 0");
            let reason = (!probe.without.is_empty()).then_some(poorer);
            ProbeRow {
                on: true,
                attached: attached.clone(),
                reason,
                ..blank
            }
        }
        ProbeState::Off { reason, fix } => ProbeRow {
            reason: Some(reason.clone()),
            fix: Some(fix.clone()),
            ..blank
        },
    }
}

impl KernelView for LiveKernel {
    fn probes(&self) -> Vec<ProbeRow> {
        self.rows.clone()
    }

    fn counters(&self) -> Vec<ProbeCount> {
        let loaded = self
            .counters
            .read()
            .into_iter()
            .filter(|probe| self.on.contains(&probe.kind));
        let each = loaded.flat_map(|probe| {
            let name = probe.kind.name();
            (0_u32..)
                .zip(probe.per_cpu)
                .map(move |(cpu, counters)| ProbeCount {
                    probe: name,
                    cpu,
                    counters,
                })
        });
        each.collect()
    }

    fn run_queue(&self) -> Option<RunQueue> {
        let on = self.on.contains(&Kind::RunQueueLatency);
        on.then(|| RunQueue {
            buckets: self.counters.run_queue_histogram(),
        })
    }

    fn reclaim(&self) -> Option<ReclaimTotals> {
        self.on
            .contains(&Kind::DirectReclaim)
            .then(|| self.counters.reclaim_totals())
    }

    fn costs(&self) -> Vec<ProgramCost> {
        let seconds = |nanos: u64| std::time::Duration::from_nanos(nanos).as_secs_f64();
        let costs = self
            .counters
            .program_costs()
            .into_iter()
            .map(|cost| ProgramCost {
                name: cost.name,
                run_seconds: seconds(cost.run_time_ns),
                runs: cost.run_count,
            });
        costs.collect()
    }
}
