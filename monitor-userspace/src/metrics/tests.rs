use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::model::kernel_view::{NoKernel, ProbeRow};
use crate::model::view::{DetectorView, Durations, ServiceView};
use crate::model::{Outcome, Service, ServiceState};

fn page(view: View, format: Format) -> String {
    let view = Arc::new(Mutex::new(view));
    let own = Arc::new(Own::started_now());
    Exporter::new(view, Arc::new(NoKernel), own)
        .page(format)
        .unwrap()
}

fn view() -> View {
    let mut view = View::default();
    let mut durations = Durations::default();
    durations.add(Duration::from_micros(40));
    durations.add(Duration::from_millis(3));
    view.counts
        .detect
        .insert("service_down".to_owned(), durations);
    let outcomes = BTreeMap::from([(Outcome::Fixed, 2)]);
    view.counts
        .outcomes
        .insert("restart_service".to_owned(), outcomes);
    view.detectors.push(DetectorView {
        name: "service_down".to_owned(),
        summary: String::new(),
        degraded: Some("process_exit is off".to_owned()),
    });
    let row = ServiceView {
        service: Service::new("a\"b"),
        state: ServiceState::Down,
    };
    view.services.insert("a\"b".to_owned(), row);
    view
}

#[test]
fn buckets_are_cumulative_and_end_at_infinity() {
    let page = page(view(), Format::Classic);
    for line in [
        "smart_monitor_detection_seconds_bucket{le=\"0.00005\",detector=\"service_down\"} 1",
        "smart_monitor_detection_seconds_bucket{le=\"0.0025\",detector=\"service_down\"} 1",
        "smart_monitor_detection_seconds_bucket{le=\"0.005\",detector=\"service_down\"} 2",
        "smart_monitor_detection_seconds_bucket{le=\"+Inf\",detector=\"service_down\"} 2",
        "smart_monitor_detection_seconds_count{detector=\"service_down\"} 2",
    ] {
        assert!(
            page.lines().any(|have| have == line),
            "no {line} in\n{page}"
        );
    }
}

#[test]
fn what_has_not_happened_is_zero_and_what_is_so_is_one() {
    let page = page(view(), Format::Classic);
    for line in [
        "smart_monitor_incidents_opened_total{detector=\"service_down\"} 0",
        "smart_monitor_action_outcomes_total{action=\"restart_service\",outcome=\"fixed\"} 2",
        "smart_monitor_action_outcomes_total{action=\"restart_service\",outcome=\"worse\"} 0",
        "smart_monitor_service_state{service=\"a\\\"b\",state=\"DOWN\"} 1",
        "smart_monitor_service_state{service=\"a\\\"b\",state=\"HEALTHY\"} 0",
        "smart_monitor_service_up{service=\"a\\\"b\"} 0",
        "smart_monitor_detector_degraded{detector=\"service_down\"} 1",
        "smart_monitor_dry_run 0",
    ] {
        assert!(
            page.lines().any(|have| have == line),
            "no {line} in\n{page}"
        );
    }
}

#[test]
fn every_family_of_the_page_is_in_the_catalogue() {
    for format in [Format::Classic, Format::OpenMetrics] {
        let page = page(view(), format);
        let described: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, _)| name)
            .collect();
        assert!(described.len() > 10, "{page}");
        for name in described {
            let known = Metric::ALL.iter().any(|metric| {
                let full = metric.spec().name();
                let family = full.trim_end_matches("_total").trim_end_matches("_info");
                name == if format == Format::Classic {
                    &full
                } else {
                    family
                }
            });
            assert!(known, "{name} is not in the catalogue");
        }
    }
}

#[test]
fn an_open_metrics_page_ends_with_its_mark_and_a_classic_one_has_none() {
    assert!(page(view(), Format::OpenMetrics).ends_with("# EOF\n"));
    let classic = page(view(), Format::Classic);
    assert!(
        !classic.contains("# EOF") && !classic.contains("# UNIT"),
        "{classic}"
    );
}

#[derive(Debug)]
struct OneProbe;

impl KernelView for OneProbe {
    fn probes(&self) -> Vec<ProbeRow> {
        vec![ProbeRow {
            name: "process_exit".to_owned(),
            on: true,
            ..ProbeRow::default()
        }]
    }
    fn counters(&self) -> Vec<crate::model::kernel_view::ProbeCount> {
        let counters = monitor_common::counters::ProbeCounters {
            emitted: 5,
            lost: 1,
            ..Default::default()
        };
        [0, 1]
            .map(|cpu| crate::model::kernel_view::ProbeCount {
                probe: "process_exit",
                cpu,
                counters,
            })
            .into()
    }
    fn run_queue(&self) -> Option<crate::model::kernel_view::RunQueue> {
        let mut waits = crate::model::kernel_view::RunQueue::default();
        waits.buckets[1] = 4;
        Some(waits)
    }
    fn reclaim(&self) -> Option<monitor_common::counters::ReclaimTotals> {
        None
    }
    fn costs(&self) -> Vec<crate::model::kernel_view::ProgramCost> {
        Vec::new()
    }
    fn disks(&self) -> Option<crate::model::kernel_view::Disks> {
        let mut disk = crate::model::kernel_view::DiskRow {
            name: "sda".to_owned(),
            in_flight: 3,
            ..Default::default()
        };
        let figures = &mut disk.figures;
        (figures.device[1][2], figures.device_ns[1]) = (2, 5_000);
        (figures.queued[0], figures.errors[2], figures.bytes[0]) = (2, 1, 4_096);
        Some(crate::model::kernel_view::Disks {
            rows: vec![disk],
            left_out: 9,
        })
    }
}

#[test]
fn losses_are_told_per_cpu_and_events_per_probe() {
    let exporter = Exporter::new(
        Arc::default(),
        Arc::new(OneProbe),
        Arc::new(Own::started_now()),
    );
    let page = exporter.page(Format::Classic).unwrap();
    for line in [
        "smart_monitor_probe_on{probe=\"process_exit\"} 1",
        "smart_monitor_probe_events_total{probe=\"process_exit\"} 10",
        "smart_monitor_probe_lost_events_total{probe=\"process_exit\",cpu=\"0\"} 1",
        "smart_monitor_probe_lost_events_total{probe=\"process_exit\",cpu=\"1\"} 1",
        "smart_monitor_run_queue_latency_seconds_bucket{le=\"0.000001\"} 0",
        "smart_monitor_run_queue_latency_seconds_bucket{le=\"0.000002\"} 4",
        "smart_monitor_run_queue_latency_seconds_count 4",
        "smart_monitor_block_latency_seconds_bucket{le=\"0.000004\",device=\"sda\",operation=\"write\"} 2",
        "smart_monitor_block_latency_seconds_sum{device=\"sda\",operation=\"write\"} 0.000005",
        "smart_monitor_block_latency_seconds_count{device=\"sda\",operation=\"read\"} 0",
        "smart_monitor_block_queued_seconds_count{device=\"sda\"} 2",
        "smart_monitor_block_bytes_total{device=\"sda\",operation=\"read\"} 4096",
        "smart_monitor_block_errors_total{device=\"sda\",operation=\"flush\"} 1",
        "smart_monitor_block_in_flight{device=\"sda\"} 3",
        "smart_monitor_block_left_out_total 9",
    ] {
        assert!(
            page.lines().any(|have| have == line),
            "no {line} in\n{page}"
        );
    }
}
