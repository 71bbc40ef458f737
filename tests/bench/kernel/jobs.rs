//! What is added to a compile job, and to the life of a process.

use std::time::Instant;

use anyhow::{Context as _, Result};
use smart_monitor::kernel::{CounterReader, Options};

use super::grid::Grid;
use super::loads::Load;
use super::reader::Wakes;
use super::tools::Tools;
use super::variant::{Attached, Variant, load};
use super::worker::Worker;
use crate::report::{Goal, Report, Values, progress};

const VARIANTS: [Variant; 2] = [Variant::None, Variant::Everything];

pub(super) fn forks(rounds: usize, tools: &Tools, report: &mut Report) -> Result<Wakes> {
    let mut worker = Worker::start(Load::Forks)?;
    worker.run()?;
    report.section_of_values("A process that ends at once: fork, exec, exit, wait");
    let grid = Grid::run("forks", rounds, &VARIANTS, tools, report, || worker.first())?;
    for variant in grid.variants() {
        let micros = grid.each(|row| Some(row.of(variant)? / 1e3));
        report.values(variant.name(), &micros, "us", None);
    }
    let added = grid.each(|row| Some(row.added(Variant::Everything)? / 1e3));
    report.values("added: ours, everything on", &added, "us", None);
    let times = grid.each(|row| row.times(Variant::Everything));
    let goal = Some(Goal::AtMost(1.05));
    report.values("ours, everything on / none", &times, "times", goal);
    Ok(grid.wakes)
}

pub(super) fn compile(rounds: usize, tools: &Tools, report: &mut Report) -> Result<Wakes> {
    let mut worker = Worker::start(Load::Compile)?;
    worker.run()?;
    report.section_of_values("A compile job on all CPUs");
    let mut spent = Vec::new();
    let grid = Grid::run("compile", rounds, &VARIANTS, tools, report, || {
        let numbers = worker.run()?;
        let [wall, cpu] = numbers[..] else {
            anyhow::bail!("{} numbers", numbers.len());
        };
        spent.push(cpu);
        Ok(wall)
    })?;
    for variant in grid.variants() {
        let seconds = grid.each(|row| Some(row.of(variant)? / 1e9));
        report.values(variant.name(), &seconds, "s", None);
    }
    let times = grid.each(|row| row.times(Variant::Everything));
    report.values("ours, everything on / none", &times, "times", None);
    // Each round pushed two, in an order that alternates.
    let cpu: Values = spent
        .chunks_exact(2)
        .enumerate()
        .filter_map(|(round, pair)| {
            let [first, second] = *pair else { return None };
            let first_was_none = round % 2 == 0;
            Some(if first_was_none {
                second / first
            } else {
                first / second
            })
        })
        .collect();
    report.values(
        "CPU time of the job: everything on / none",
        &cpu,
        "times",
        None,
    );
    share(rounds.div_ceil(5), &mut worker, report)?;
    Ok(grid.wakes)
}

/// What the kernel itself says that the programs cost; measuring that costs too, so these runs are not among the others.
fn share(rounds: usize, worker: &mut Worker, report: &mut Report) -> Result<()> {
    progress(&format!(
        "kernel: compile with the kernel's own statistics, {rounds} runs"
    ));
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpus = f64::from(u32::try_from(cpus).unwrap_or(1));
    let options = Options {
        stats: true,
        ..Options::default()
    };
    let attached = Attached::with(load(&options)?)?;
    let counters = attached.counters().context("no counters")?;
    let mut shares = Values::default();
    for _ in 0..rounds {
        let before = programs_ns(&counters);
        let begin = Instant::now();
        worker.run()?;
        let spent = programs_ns(&counters) - before;
        shares.add(spent / (begin.elapsed().as_secs_f64() * 1e9 * cpus) * 100.0);
    }
    let name = "the kernel programs' share of the CPUs (bpf_stats)";
    report.values(name, &shares, "%", Some(Goal::AtMost(0.5)));
    Ok(())
}

fn programs_ns(counters: &CounterReader) -> f64 {
    let costs = counters.program_costs();
    #[expect(clippy::cast_precision_loss, reason = "a share is computed of it")]
    costs.iter().map(|cost| cost.run_time_ns as f64).sum()
}
