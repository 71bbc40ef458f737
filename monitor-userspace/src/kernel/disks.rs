//! What the programs count of each disk: how long its requests took and were held back, bytes, failures.
//!
//! As with the other counters, what cannot be read counts as nothing rather than as an error.

use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{MapData, MapError, PerCpuArray, PerCpuHashMap};
use monitor_common::probes::block_io::{self, FIGURES_WORDS};
use monitor_common::probes::run_queue_latency::HISTOGRAM;

use super::counters::{per_cpu, take_array, take_map};
use crate::model::kernel_view::DiskFigures;

type Words = [u64; FIGURES_WORDS];

pub(super) struct Maps {
    figures: Mutex<PerCpuHashMap<MapData, u32, Words>>,
    left_out: PerCpuArray<MapData, u64>,
}

impl Maps {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            figures: Mutex::new(take_map(object, "DISK_FIGURES")?.try_into()?),
            left_out: take_array(object, "DISKS_LEFT_OUT")?,
        })
    }

    pub(super) fn read(&self) -> Vec<DiskFigures> {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let each = figures.iter().filter_map(|entry| {
            let (device, cpus) = entry
                .inspect_err(|error| tracing::debug!(%error, "figures of a disk cannot be read"))
                .ok()?;
            let mut disk = DiskFigures::default();
            (disk.major, disk.minor) = block_io::major_minor(device);
            cpus.iter().for_each(|words| add_cpu(&mut disk, words));
            Some(disk)
        });
        let mut disks: Vec<_> = each.collect();
        disks.sort_by_key(|disk| (disk.major, disk.minor));
        disks
    }

    pub(super) fn forget(&self, major: u32, minor: u32) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        // Another reader may have been faster.
        let _ = figures.remove(&block_io::device(major, minor));
    }

    pub(super) fn left_out(&self) -> u64 {
        per_cpu(&self.left_out, 0).iter().sum()
    }
}

/// Adds what one CPU has counted, in the order of `block_io::DiskFigures`.
fn add_cpu(disk: &mut DiskFigures, words: &Words) {
    let mut words = words.iter().copied();
    add(&mut disk.device_ns, words.by_ref().take(4));
    add(&mut disk.bytes, words.by_ref().take(4));
    add(
        std::slice::from_mut(&mut disk.queued_ns),
        words.by_ref().take(1),
    );
    for histogram in std::iter::once(&mut disk.queued).chain(&mut disk.device) {
        let buckets: Vec<u64> = words.by_ref().take(HISTOGRAM).collect();
        add(histogram, buckets);
    }
    add(&mut disk.errors, words.by_ref().take(4));
    let rest = [&mut disk.untimed, &mut disk.unqueued];
    for (sum, value) in rest.into_iter().zip(words) {
        *sum = sum.wrapping_add(value);
    }
}

fn add(sums: &mut [u64], values: impl IntoIterator<Item = u64>) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = sum.wrapping_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let mut words = [0; FIGURES_WORDS];
        for (at, word) in (0..).zip(words.iter_mut()) {
            *word = at;
        }
        let mut disk = DiskFigures::default();
        add_cpu(&mut disk, &words);
        add_cpu(&mut disk, &words);
        let device = std::mem::offset_of!(block_io::DiskFigures, device) / 8;
        let bytes = std::mem::offset_of!(block_io::DiskFigures, bytes) / 8;
        let queued = std::mem::offset_of!(block_io::DiskFigures, queued) / 8;
        let queued_ns = std::mem::offset_of!(block_io::DiskFigures, queued_ns) / 8;
        let errors = std::mem::offset_of!(block_io::DiskFigures, errors) / 8;
        let untimed = std::mem::offset_of!(block_io::DiskFigures, untimed) / 8;
        let twice = |at: usize| u64::try_from(at * 2).expect("small");
        assert_eq!(disk.device[3][25], twice(device + 3 * HISTOGRAM + 25));
        assert_eq!(disk.queued[1], twice(queued + 1));
        assert_eq!(disk.bytes[3], twice(bytes + 3));
        assert_eq!(
            (disk.queued_ns, disk.errors[1]),
            (twice(queued_ns), twice(errors + 1))
        );
        assert_eq!(
            (disk.untimed, disk.unqueued),
            (twice(untimed), twice(untimed + 1))
        );
    }
}
