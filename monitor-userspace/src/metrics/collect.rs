//! Reads the sources at a scrape and writes every family of the catalogue.
//!
//! The view's lock is held only while the few numbers needed are copied: the hot thread must never wait for a scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use monitor_common::counters::{ProbeCounters, TcpTotals};
use monitor_common::probes::dns_query::{RCODES, REFUSED, rcode_name};
use monitor_common::probes::off_cpu::Wait;
use monitor_common::probes::run_queue_latency::{BUCKETS, upper_bound_ns};
use monitor_common::probes::service_latency::{LatencyTotals, lower_bound_ns};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::catalogue::Metric;
use super::disks;
use super::own::Own;
use super::pace::{Last, Pace};
use super::page::{Family, Page};
use crate::model::ListenQueue;
use crate::model::kernel_view::{CgroupWaits, DnsFigures};
use crate::model::objective::WHOLE;
use crate::model::view::{Counts, Durations, Rate};
use crate::model::{KernelView, Objective, Outcome, ServiceState, State, View};

/// Where the values come from.
pub(super) struct Sources {
    pub(super) view: Arc<Mutex<View>>,
    pub(super) kernel: Arc<dyn KernelView>,
    pub(super) own: Arc<Own>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let core = Core::copy(&self.view.lock().unwrap_or_else(PoisonError::into_inner));
        let page = &mut Page::new(encoder);
        page.family(Metric::Build, |family| {
            family.put(&[self.own.version], true)
        })?;
        core.write(page)?;
        write_kernel(page, &*self.kernel)?;
        write_service_waits(page, &core.services, &*self.kernel)?;
        write_listeners(page, &core.services, &*self.kernel)?;
        write_checks(page, &self.own.checks)?;
        write_own(page, &self.own)
    }
}

/// What the metrics need of the view.
struct Core {
    counts: Counts,
    incidents: Vec<(State, u64)>,
    services: Vec<Service>,
    detectors: Vec<(String, bool)>,
    proposals: u64,
    silences: u64,
    maintenance: u64,
    rates: BTreeMap<String, Rate>,
    dry_run: bool,
    halted: bool,
}

struct Service {
    name: String,
    state: ServiceState,
    up: bool,
    starts: u64,
    cgroup_id: u64,
    listen: Vec<SocketAddr>,
    /// Of each objective: which, the share of bad ones, whether it is missed.
    objectives: Vec<(&'static str, f64, bool)>,
}

impl Core {
    fn copy(view: &View) -> Self {
        let mut incidents: Vec<_> = State::ALL.iter().map(|state| (*state, 0)).collect();
        for incident in view.incidents.values() {
            if let Some((_, count)) = incidents.iter_mut().find(|(at, _)| *at == incident.state) {
                *count += 1;
            }
        }
        let services = view.services.iter().map(|(name, row)| Service {
            name: name.clone(),
            state: row.state,
            up: row.service.process.is_some(),
            starts: row.service.starts,
            cgroup_id: row.service.cgroup_id,
            listen: row.service.listen.clone(),
            objectives: row.service.objectives.iter().filter_map(kept).collect(),
        });
        let detectors = view.detectors.iter();
        let proposed = view.incidents.values().filter(|it| it.proposed.is_some());
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Self {
            counts: view.counts.clone(),
            incidents,
            services: services.collect(),
            detectors: detectors
                .map(|row| (row.name.clone(), row.degraded.is_some()))
                .collect(),
            proposals: count(proposed.count()),
            silences: count(view.silences.len()),
            maintenance: count(view.maintenance.len()),
            rates: view.rates.clone(),
            dry_run: view.dry_run,
            halted: view.halted.is_some(),
        }
    }

    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let counts = &self.counts;
        page.family(Metric::Signals, |family| each(family, &counts.signals))?;
        page.family(Metric::Opened, |family| {
            // Zero too, so that a first incident is an increase and not a new series.
            for (detector, _) in &self.detectors {
                let opened = counts.opened.get(detector).copied().unwrap_or_default();
                family.put(&[detector], opened)?;
            }
            Ok(())
        })?;
        page.single(Metric::Forgotten, counts.forgotten)?;
        page.family(Metric::Incidents, |family| {
            let mut states = self.incidents.iter();
            states.try_for_each(|(state, count)| family.put(&[state.name()], *count))
        })?;
        page.family(Metric::Outcomes, |family| {
            for (action, outcomes) in &counts.outcomes {
                for outcome in Outcome::ALL {
                    let count = outcomes.get(outcome).copied().unwrap_or_default();
                    family.put(&[action, outcome.name()], count)?;
                }
            }
            Ok(())
        })?;
        page.family(Metric::Refusals, |family| each(family, &counts.refusals))?;
        page.family(Metric::Detection, |family| {
            durations(family, &counts.detect)
        })?;
        page.family(Metric::Acting, |family| durations(family, &counts.act))?;
        page.family(Metric::Recovery, |family| {
            durations(family, &counts.recover)
        })?;
        page.single(Metric::Suppressed, counts.suppressed)?;
        page.single(Metric::Proposals, self.proposals)?;
        page.single(Metric::Silences, self.silences)?;
        page.single(Metric::Maintenance, self.maintenance)?;
        page.family(Metric::RuleSuccess, |family| {
            for (way, rate) in &self.rates {
                let (rule, action) = way.rsplit_once('/').unwrap_or((way, ""));
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a rate is made of a few outcomes"
                )]
                family.put(&[rule, action], rate.helped as f64 / rate.of.max(1) as f64)?;
            }
            Ok(())
        })?;
        self.write_recovery(page)?;
        self.write_services(page)?;
        page.family(Metric::DetectorDegraded, |family| {
            let mut detectors = self.detectors.iter();
            detectors.try_for_each(|(name, degraded)| family.put(&[name], *degraded))
        })?;
        page.single(Metric::RingMalformed, counts.malformed)?;
        page.single(Metric::DryRun, self.dry_run)?;
        page.single(Metric::Halted, self.halted)
    }

    fn write_recovery(&self, page: &mut Page<'_>) -> fmt::Result {
        let services = &self.counts.services;
        page.family(Metric::ServiceEnded, |family| {
            let mut services = services.iter();
            services.try_for_each(|(name, counts)| family.put(&[name], counts.ended))
        })?;
        page.family(Metric::ServiceDetect, |family| {
            let mut services = services.iter();
            services.try_for_each(|(name, counts)| family.put(&[name], counts.detect_seconds))
        })?;
        page.family(Metric::ServiceRecover, |family| {
            let mut services = services.iter();
            services.try_for_each(|(name, counts)| family.put(&[name], counts.recover_seconds))
        })
    }

    fn write_services(&self, page: &mut Page<'_>) -> fmt::Result {
        let objectives = || {
            let services = self.services.iter();
            services.flat_map(|service| service.objectives.iter().map(|one| (&service.name, one)))
        };
        page.family(Metric::ObjectiveBad, |family| {
            objectives().try_for_each(|(name, (which, bad, _))| family.put(&[name, which], *bad))
        })?;
        page.family(Metric::ObjectiveMissed, |family| {
            objectives()
                .try_for_each(|(name, (which, _, missed))| family.put(&[name, which], *missed))
        })?;
        page.family(Metric::ServiceState, |family| {
            for service in &self.services {
                for state in ServiceState::ALL.iter().copied() {
                    family.put(&[&service.name, state.name()], state == service.state)?;
                }
            }
            Ok(())
        })?;
        page.family(Metric::ServiceUp, |family| {
            let mut services = self.services.iter();
            services.try_for_each(|service| family.put(&[&service.name], service.up))
        })?;
        page.family(Metric::ServiceStarts, |family| {
            let mut services = self.services.iter();
            services.try_for_each(|service| family.put(&[&service.name], service.starts))
        })
    }
}

/// What is shown of an objective, once something was counted.
fn kept(objective: &Objective) -> Option<(&'static str, f64, bool)> {
    let kept = objective.kept?;
    #[expect(clippy::cast_precision_loss, reason = "parts per million")]
    let bad = kept.bad as f64 / WHOLE as f64;
    Some((objective.promise.name(), bad, kept.missed))
}

fn each(family: &mut Family<'_>, counts: &BTreeMap<String, u64>) -> fmt::Result {
    let mut counts = counts.iter();
    counts.try_for_each(|(label, count)| family.put(&[label], *count))
}

fn durations(family: &mut Family<'_>, all: &BTreeMap<String, Durations>) -> fmt::Result {
    let bounds = Durations::BOUNDS.iter().copied().chain([f64::INFINITY]);
    for (label, durations) in all {
        let buckets: Vec<_> = bounds.clone().zip(durations.buckets).collect();
        family.histogram(&[label], durations.sum, &buckets)?;
    }
    Ok(())
}

fn write_checks(page: &mut Page<'_>, checks: &Pace) -> fmt::Result {
    let counted = checks.counted();
    let each = |family: &mut Family<'_>, value: fn(&Last) -> f64| {
        let mut last = counted.last.iter();
        last.try_for_each(|((service, check), last)| family.put(&[service, check], value(last)))
    };
    page.family(Metric::CheckWell, |family| {
        each(family, |last| f64::from(u8::from(last.well)))
    })?;
    page.family(Metric::CheckTook, |family| {
        each(family, |last| last.took.as_secs_f64())
    })?;
    page.family(Metric::CheckFigure, |family| {
        for ((service, check), last) in &counted.last {
            for figure in &last.figures {
                family.put(&[service, check, &figure.name], figure.value())?;
            }
        }
        Ok(())
    })?;
    page.family(Metric::CheckLate, |family| {
        let bounds = Durations::BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counted.late.buckets).collect();
        family.histogram(&[], counted.late.sum, &buckets)
    })?;
    page.single(Metric::CheckMissed, counted.missed)
}

fn write_kernel(page: &mut Page<'_>, kernel: &dyn KernelView) -> fmt::Result {
    page.family(Metric::ProbeOn, |family| {
        let probes = kernel.probes();
        let mut probes = probes.iter();
        probes.try_for_each(|probe| family.put(&[&probe.name], probe.on))
    })?;
    let counters = kernel.counters();
    page.family(Metric::ProbeLost, |family| {
        let mut counters = counters.iter();
        counters
            .try_for_each(|row| family.put(&[row.probe, &row.cpu.to_string()], row.counters.lost))
    })?;
    let mut sums: BTreeMap<&str, ProbeCounters> = BTreeMap::new();
    for row in &counters {
        let sum = sums.entry(row.probe).or_default();
        sum.emitted += row.counters.emitted;
        sum.suppressed += row.counters.suppressed;
        sum.implausible += row.counters.implausible;
    }
    let mut write = |metric, value: fn(&ProbeCounters) -> u64| {
        page.family(metric, |family| {
            let mut sums = sums.iter();
            sums.try_for_each(|(probe, sum)| family.put(&[probe], value(sum)))
        })
    };
    write(Metric::ProbeEvents, |sum| sum.emitted)?;
    write(Metric::ProbeSuppressed, |sum| sum.suppressed)?;
    write(Metric::ProbeImplausible, |sum| sum.implausible)?;
    page.family(Metric::RunQueue, |family| {
        let run_queue = kernel.run_queue();
        run_queue.map_or(Ok(()), |waits| write_histogram(family, &[], &waits.buckets))
    })?;
    if let Some(totals) = kernel.reclaim() {
        page.single(Metric::ReclaimStalls, totals.stalls)?;
        page.single(Metric::ReclaimSeconds, seconds(totals.stall_ns))?;
    }
    if let Some(totals) = kernel.tcp() {
        write_tcp(page, &totals)?;
    }
    let drops = kernel.packet_drops();
    page.family(Metric::PacketDrops, |family| {
        let mut drops = drops.iter();
        drops.try_for_each(|(reason, count)| family.put(&[reason], *count))
    })?;
    let overflows = kernel.socket_overflows();
    page.family(Metric::SocketOverflows, |family| {
        let mut overflows = overflows.iter();
        overflows.try_for_each(|(limit, count)| family.put(&[limit], *count))
    })?;
    if let Some(disks) = kernel.disks() {
        disks::write(page, &disks)?;
    }
    if let Some(dns) = kernel.dns() {
        write_dns(page, &dns)?;
    }
    let costs = kernel.costs();
    page.family(Metric::BpfSeconds, |family| {
        let mut costs = costs.iter();
        costs.try_for_each(|cost| family.put(&[&cost.name], cost.run_seconds))
    })?;
    page.family(Metric::BpfRuns, |family| {
        let mut costs = costs.iter();
        costs.try_for_each(|cost| family.put(&[&cost.name], cost.runs))
    })?;
    page.family(Metric::BpfCpus, |family| {
        let mut costs = costs.iter();
        costs.try_for_each(|cost| family.put(&[&cost.name], cost.cpus))
    })?;
    let known = kernel.known();
    let tables = [("process", known.processes), ("cgroup", known.cgroups)];
    page.family(Metric::KnownEntries, |family| {
        let mut tables = tables.iter();
        tables.try_for_each(|(name, table)| family.put(&[name], table.entries))
    })?;
    page.single(Metric::KnownMissed, known.missed)?;
    page.single(Metric::LogsUnread, known.logs_unread)?;
    page.family(Metric::KnownEvicted, |family| {
        let mut tables = tables.iter();
        tables.try_for_each(|(name, table)| family.put(&[name], table.evicted))
    })
}

fn write_tcp(page: &mut Page<'_>, totals: &TcpTotals) -> fmt::Result {
    let made = totals.made.get(..BUCKETS).unwrap_or_default();
    page.family(Metric::TcpConnect, |family| {
        write_histogram(family, &[], made)
    })?;
    page.single(Metric::TcpConnectFailures, totals.failed)?;
    page.family(Metric::TcpResets, |family| {
        family.put(&["received"], totals.resets_received)?;
        family.put(&["sent"], totals.resets_sent)
    })?;
    page.single(Metric::TcpRetransmits, totals.retransmits)?;
    page.single(Metric::TcpAnswerRetransmits, totals.answers_retransmitted)
}

fn write_dns(page: &mut Page<'_>, dns: &DnsFigures) -> fmt::Result {
    let answered = &dns.answered;
    page.family(Metric::DnsLatency, |family| {
        let counts = answered.latency.iter().take(BUCKETS).enumerate();
        let bound = |at| upper_bound_ns(at).map_or(f64::INFINITY, seconds);
        let buckets: Vec<_> = counts.map(|(at, count)| (bound(at), *count)).collect();
        family.histogram(&[], seconds(answered.latency_ns), &buckets)
    })?;
    page.family(Metric::DnsAnswers, |family| {
        for (rcode, count) in (0..RCODES).zip(answered.rcodes) {
            // The common ones at 0 too, so that a first failure is an increase and not a new series.
            if let Some(name) = rcode_name(rcode).filter(|_| rcode <= REFUSED || count > 0) {
                family.put(&[name], count)?;
            }
        }
        Ok(())
    })?;
    page.single(Metric::DnsTimeouts, dns.unanswered)
}

/// Queues of the services' listeners in the daemon's network namespace, and what the kernel counts of all listeners.
fn write_listeners(
    page: &mut Page<'_>,
    services: &[Service],
    kernel: &dyn KernelView,
) -> fmt::Result {
    let all = kernel.listeners();
    let mut found = Vec::new();
    for service in services {
        for own in &service.listen {
            let takes = |listener: &&ListenQueue| {
                let ip = listener.address.ip();
                listener.address.port() == own.port() && (ip == own.ip() || ip.is_unspecified())
            };
            if let Some(listener) = all.iter().find(takes) {
                found.push((&service.name, own.to_string(), listener));
            }
        }
    }
    let mut write = |metric, value: fn(&ListenQueue) -> u32| {
        page.family(metric, |family| {
            let mut found = found.iter();
            found.try_for_each(|(service, own, listener)| {
                family.put(&[service, own], u64::from(value(listener)))
            })
        })
    };
    write(Metric::ListenQueue, |listener| listener.queue)?;
    write(Metric::ListenQueueLimit, |listener| listener.limit)?;
    if let Some(totals) = kernel.listen_totals() {
        page.single(Metric::ListenOverflows, totals.overflows)?;
        page.single(Metric::ListenDrops, totals.drops)?;
    }
    Ok(())
}

fn write_histogram(family: &mut Family<'_>, labels: &[&str], counts: &[u64]) -> fmt::Result {
    let mut buckets = Vec::with_capacity(counts.len());
    let (mut sum, mut below) = (0.0, 0.0);
    for (at, count) in counts.iter().enumerate() {
        let bound = upper_bound_ns(at).map_or(f64::INFINITY, seconds);
        // The kernel keeps no sum: it would cost a second counter at every switch. The middle of each bucket stands in;
        // the last has no middle, its lower bound does.
        let middle = if bound.is_finite() {
            f64::midpoint(below, bound)
        } else {
            below
        };
        sum += middle * float(*count);
        below = bound;
        buckets.push((bound, *count));
    }
    family.histogram(labels, sum, &buckets)
}

/// What the kernel counts of services that have a cgroup of their own.
fn write_service_waits(
    page: &mut Page<'_>,
    services: &[Service],
    kernel: &dyn KernelView,
) -> fmt::Result {
    let cgroups = kernel.cgroups();
    let known: Vec<_> = services
        .iter()
        .filter_map(|service| Some((&*service.name, cgroups.get(&service.cgroup_id)?)))
        .collect();
    page.family(Metric::ServiceRunQueue, |family| {
        let mut known = known.iter();
        known.try_for_each(|(name, waits)| write_histogram(family, &[name], &waits.run_queue))
    })?;
    let by_kind = |page: &mut Page<'_>, metric, value: fn(&CgroupWaits) -> [f64; 4]| {
        page.family(metric, |family| {
            known.iter().try_for_each(|(name, waits)| {
                let mut kinds = Wait::ALL.iter().zip(value(waits));
                kinds.try_for_each(|(kind, value)| family.put(&[name, kind.name()], value))
            })
        })
    };
    by_kind(page, Metric::ServiceWaits, |waits| waits.waits.map(float))?;
    by_kind(page, Metric::ServiceWaitSeconds, |waits| {
        waits.wait_ns.map(seconds)
    })?;
    let asked: Vec<_> = known
        .iter()
        .filter_map(|(name, figures)| Some((*name, figures.latency.as_ref()?)))
        .collect();
    page.family(Metric::ServiceLatency, |family| {
        let mut asked = asked.iter();
        asked.try_for_each(|(name, totals)| write_latency(family, name, totals))
    })?;
    let mut count = |metric, value: fn(&LatencyTotals) -> u64| {
        page.family(metric, |family| {
            let mut asked = asked.iter();
            asked.try_for_each(|(name, totals)| family.put(&[name], value(totals)))
        })
    };
    count(Metric::ServiceRequests, |totals| totals.requests)?;
    count(Metric::ServiceOverlapping, |totals| totals.overlapping)?;
    count(Metric::ServiceDisplaced, |totals| totals.displaced)
}

/// A bound at each power of two that the kernel's buckets begin at, of which it has eight to each: 1 us to 69 s.
fn write_latency(family: &mut Family<'_>, name: &str, totals: &LatencyTotals) -> fmt::Result {
    let (below, rest) = totals.buckets.split_at(1);
    let (powers, beyond) = rest.split_at(rest.len() - 1);
    let groups = [below].into_iter().chain(powers.chunks(8));
    let mut at = 0;
    let mut buckets: Vec<(f64, u64)> = groups
        .map(|group| {
            at += group.len();
            (seconds(lower_bound_ns(at)), group.iter().sum())
        })
        .collect();
    buckets.push((f64::INFINITY, beyond.iter().sum()));
    family.histogram(&[name], seconds(totals.sum_ns), &buckets)
}

fn write_own(page: &mut Page<'_>, own: &Own) -> fmt::Result {
    let usage = own.usage();
    page.single(Metric::ProcessCpu, usage.cpu.as_secs_f64())?;
    page.single(Metric::ProcessResident, usage.resident)?;
    page.single(Metric::ProcessStart, own.started_unix().as_secs_f64())
}

pub(super) fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are floats")]
fn float(count: u64) -> f64 {
    count as f64
}
