//! The kernel half, as the API and the exporter see it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use monitor_common::Kind;
use monitor_common::counters::{ReclaimTotals, TcpTotals};

use super::budget::Estimates;
use super::knowing::Known;
use crate::host::disks;
use crate::host::listeners;
use crate::identity::TableStats;
use crate::kernel::{
    CgroupFigures, CgroupWatch, CounterReader, DnsWatch, Kernel, ProbeState, ProbeStatus, Programs,
};
use crate::model::ListenQueue;
use crate::model::kernel_view::{
    CgroupWaits, DiskFigures, DiskRow, Disks, DnsFigures, KernelView, KnownTable, KnownTables,
    ListenTotals, ProbeCount, ProbeRow, ProgramCost, RunQueue,
};

/// See the module.
pub(super) struct LiveKernel {
    programs: Programs,
    counters: CounterReader,
    cgroups: CgroupWatch,
    dns: DnsWatch,
    estimates: Estimates,
    known: Arc<Known>,
}

impl std::fmt::Debug for LiveKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveKernel").finish_non_exhaustive()
    }
}

impl LiveKernel {
    pub(super) fn new(kernel: &Kernel, estimates: Estimates, known: Arc<Known>) -> Self {
        Self {
            programs: kernel.programs(),
            counters: kernel.counters(),
            cgroups: kernel.cgroups(),
            dns: kernel.dns(),
            estimates,
            known,
        }
    }

    /// A disk with its name; one that is gone is forgotten.
    fn disk(&self, figures: DiskFigures) -> Option<DiskRow> {
        let Some(disk) = disks::disk(figures.major, figures.minor) else {
            self.counters.forget_disk(figures.major, figures.minor);
            return None;
        };
        Some(DiskRow {
            name: disk.name,
            figures,
            in_flight: disk.in_flight,
        })
    }

    fn on(&self) -> Vec<Kind> {
        let probes = self.programs.probes();
        let on = probes.iter().filter(|probe| probe.state.is_on());
        on.map(|probe| probe.kind).collect()
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
        self.programs.probes().iter().map(row).collect()
    }

    fn counters(&self) -> Vec<ProbeCount> {
        let on = self.on();
        let loaded = self
            .counters
            .read()
            .into_iter()
            .filter(move |probe| on.contains(&probe.kind));
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
        let on = self.on().contains(&Kind::RunQueueLatency);
        on.then(|| RunQueue {
            buckets: self.counters.run_queue_histogram(),
        })
    }

    fn reclaim(&self) -> Option<ReclaimTotals> {
        self.on()
            .contains(&Kind::DirectReclaim)
            .then(|| self.counters.reclaim_totals())
    }

    fn tcp(&self) -> Option<TcpTotals> {
        let on = self.on();
        [Kind::TcpConnect, Kind::TcpReset, Kind::TcpRetransmit]
            .iter()
            .any(|kind| on.contains(kind))
            .then(|| self.counters.tcp_totals())
    }

    fn packet_drops(&self) -> Vec<(String, u64)> {
        if !self.on().contains(&Kind::PacketDrop) {
            return Vec::new();
        }
        let drops = self.counters.packet_drops().into_iter();
        drops
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }

    fn socket_overflows(&self) -> Vec<(&'static str, u64)> {
        if !self.on().contains(&Kind::SocketOverflow) {
            return Vec::new();
        }
        let [_, buffer, receive, send] = self.counters.socket_overflows();
        vec![
            ("receive_buffer", buffer),
            ("receive_memory", receive),
            ("send_memory", send),
        ]
    }

    fn listeners(&self) -> Vec<ListenQueue> {
        listeners::listeners().unwrap_or_else(|error| {
            tracing::debug!(%error, "the listeners of this host cannot be read");
            Vec::new()
        })
    }

    fn listen_totals(&self) -> Option<ListenTotals> {
        listeners::totals()
    }

    fn disks(&self) -> Option<Disks> {
        self.on().contains(&Kind::BlockIo).then(|| Disks {
            rows: (self.counters.disks().into_iter())
                .filter_map(|figures| self.disk(figures))
                .collect(),
            left_out: self.counters.disks_left_out(),
        })
    }

    fn dns(&self) -> Option<DnsFigures> {
        self.on()
            .contains(&Kind::DnsQuery)
            .then(|| self.dns.figures())
    }

    fn costs(&self) -> Vec<ProgramCost> {
        let estimates = self
            .estimates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let costs = estimates.iter().map(|(name, estimate)| ProgramCost {
            name: name.clone(),
            cpus: estimate.cpus,
            run_seconds: estimate.seconds,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, never below 0"
            )]
            runs: estimate.runs as u64,
        });
        costs.collect()
    }

    fn cgroups(&self) -> BTreeMap<u64, CgroupWaits> {
        let figures = self.cgroups.read().into_iter();
        let waits = |(id, figures): (u64, CgroupFigures)| {
            let waits = CgroupWaits {
                run_queue: figures.run_queue,
                waits: figures.waits.waits,
                wait_ns: figures.waits.wait_ns,
                latency: figures.latency,
            };
            (id, waits)
        };
        figures.map(waits).collect()
    }

    fn known(&self) -> KnownTables {
        let stats = self.known.stats();
        let table = |of: TableStats| KnownTable {
            entries: u64::try_from(of.entries).unwrap_or(u64::MAX),
            evicted: of.evicted,
        };
        KnownTables {
            cgroups: table(stats.cgroups),
            processes: table(stats.processes),
            missed: self.known.missed(),
            logs_unread: self.known.logs_unread(),
        }
    }
}
