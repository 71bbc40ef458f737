//! What is told of disks.

use std::fmt;

use monitor_common::probes::block_io::Operation;
use monitor_common::probes::run_queue_latency::upper_bound_ns;

use super::catalogue::Metric;
use super::collect::seconds;
use super::page::{Family, Page};
use crate::model::kernel_view::{DiskRow, Disks};

/// Every family that is about disks.
pub(super) fn write(page: &mut Page<'_>, disks: &Disks) -> fmt::Result {
    let bounds = |at| upper_bound_ns(at).map_or(f64::INFINITY, seconds);
    let histogram = |family: &mut Family<'_>, labels: &[&str], nanos, counts: &[u64]| {
        let buckets = counts.iter().enumerate();
        let buckets: Vec<_> = buckets.map(|(at, count)| (bounds(at), *count)).collect();
        family.histogram(labels, seconds(nanos), &buckets)
    };
    page.family(Metric::BlockLatency, |family| {
        for disk in &disks.rows {
            for (operation, counts) in Operation::ALL.iter().zip(&disk.figures.device) {
                let nanos = disk.figures.device_ns.get(*operation as usize);
                let labels = [&*disk.name, operation.name()];
                histogram(family, &labels, nanos.copied().unwrap_or(0), counts)?;
            }
        }
        Ok(())
    })?;
    page.family(Metric::BlockQueued, |family| {
        let mut rows = disks.rows.iter();
        rows.try_for_each(|disk| {
            histogram(
                family,
                &[&disk.name],
                disk.figures.queued_ns,
                &disk.figures.queued,
            )
        })
    })?;
    let by_operation = |page: &mut Page<'_>, metric, values: fn(&DiskRow) -> [u64; 4]| {
        page.family(metric, |family| {
            for disk in &disks.rows {
                for (operation, value) in Operation::ALL.iter().zip(values(disk)) {
                    family.put(&[&disk.name, operation.name()], value)?;
                }
            }
            Ok(())
        })
    };
    by_operation(page, Metric::BlockBytes, |disk| disk.figures.bytes)?;
    by_operation(page, Metric::BlockErrors, |disk| disk.figures.errors)?;
    let single = |page: &mut Page<'_>, metric, value: fn(&DiskRow) -> u64| {
        page.family(metric, |family| {
            let mut rows = disks.rows.iter();
            rows.try_for_each(|disk| family.put(&[&disk.name], value(disk)))
        })
    };
    single(page, Metric::BlockInFlight, |disk| disk.in_flight)?;
    single(page, Metric::BlockUntimed, |disk| disk.figures.untimed)?;
    page.single(Metric::BlockLeftOut, disks.left_out)
}
