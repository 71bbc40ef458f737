//! What is added to a read of a disk.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use monitor_common::Kind;
use smart_monitor::kernel::Options;

use super::grid::Grid;
use super::loads::Load;
use super::tools::{Tool, Tools};
use super::variant::{Attached, Variant, load, only};
use super::worker::Worker;
use crate::daemon::program;
use crate::report::{Goal, Report, Values, progress};

const BCC: Variant = Variant::Other(Tool::BioLatency);
/// What is divided by, or is small, has two turns a round.
const TURNS: [Variant; 5] = [
    Variant::None,
    Variant::Disks,
    BCC,
    Variant::None,
    Variant::Disks,
];

pub(super) fn measure(rounds: usize, tools: &Tools, report: &mut Report) -> Result<()> {
    let mut worker = Worker::start(Load::Reads)?;
    worker.run()?;
    report.section_of_values("A read of 4 KiB from a loop device over a file in memory");
    let grid = Grid::run("reads", rounds, &TURNS, tools, report, || worker.first())?;
    for variant in grid.variants() {
        let micros = grid.each(|row| Some(row.of(variant)? / 1e3));
        report.values(variant.name(), &micros, "us", None);
    }
    for variant in [Variant::Disks, BCC] {
        let name = format!("added: {}", variant.name());
        report.values(&name, &grid.each(|row| row.added(variant)), "ns", None);
    }
    for variant in [Variant::Disks, BCC] {
        let goal = (variant == Variant::Disks).then_some(Goal::AtMost(1.02));
        let name = format!("{} / none", variant.name());
        report.values(&name, &grid.each(|row| row.times(variant)), "times", goal);
    }
    let beside = grid.each(|row| Some(row.of(Variant::Disks)? / row.of(BCC)?));
    let name = format!("ours, disks only / {}", BCC.name());
    report.values(&name, &beside, "times", Some(Goal::AtMost(1.0)));
    each_program(rounds.div_ceil(5), &mut worker, report)
}

/// What the kernel itself says of each program; measuring that costs too, so these runs are not among the others.
fn each_program(rounds: usize, worker: &mut Worker, report: &mut Report) -> Result<()> {
    progress(&format!(
        "kernel: reads with the kernel's own statistics, {rounds} runs"
    ));
    let options = Options {
        stats: true,
        ..only(&[Kind::BlockIo])
    };
    let attached = Attached::with(load(&options)?)?;
    let counters = attached.counters().context("no counters")?;
    for _ in 0..rounds {
        worker.run()?;
    }
    for cost in counters.program_costs() {
        if cost.probe == Kind::BlockIo && cost.run_count > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a mean is computed of it")]
            let mean = cost.run_time_ns as f64 / cost.run_count as f64;
            let name = format!("a run of {} (bpf_stats)", cost.name);
            report.values(
                &name,
                &std::iter::once(mean).collect::<Values>(),
                "ns",
                None,
            );
        }
    }
    Ok(())
}

/// A loop device over a file of its own; detached when it is dropped.
#[derive(Debug)]
pub(super) struct LoopDisk {
    path: PathBuf,
    device: File,
    page: Box<Page>,
    state: u64,
}

#[derive(Debug)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

const PAGES: u64 = 4_096;
/// `O_DIRECT` reads past the page cache of the device.
const DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits().cast_signed();

impl LoopDisk {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let file = folder.join("disk");
        // Written, since a hole is read faster than anything.
        std::fs::write(&file, vec![1; usize::try_from(PAGES * 4_096)?])?;
        let mut losetup = program("losetup");
        let output = losetup.args(["--find", "--show"]).arg(&file).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no loop device: {said}");
        let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let device = File::options().read(true).custom_flags(DIRECT).open(&path);
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                detach(&path);
                return Err(error.into());
            }
        };
        Ok(Self {
            path,
            device,
            page: Box::new(Page([0; 4096])),
            state: 0x5eed,
        })
    }

    pub(super) fn read_at_random(&mut self) -> Result<()> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let place = self.state % PAGES * 4_096;
        Ok(self.device.read_exact_at(&mut self.page.0, place)?)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        detach(&self.path);
    }
}

fn detach(path: &Path) {
    let detached = program("losetup").arg("-d").arg(path).status();
    if !detached.is_ok_and(|status| status.success()) {
        eprintln!("bench: {} is left behind", path.display());
    }
}
