//! What is added to a switch between two processes on one CPU.

use anyhow::Result;

use super::grid::Grid;
use super::loads::Load;
use super::reader::Wakes;
use super::tools::{Tool, Tools};
use super::variant::Variant;
use super::worker::Worker;
use crate::report::{Goal, Report};

const BCC: Variant = Variant::Other(Tool::Bcc);
/// What is divided by, or is small, has two turns a round: a switch takes some per cent more or less each time.
const TURNS: [Variant; 9] = [
    Variant::None,
    Variant::Empty,
    Variant::RunQueue,
    Variant::Everything,
    BCC,
    Variant::None,
    Variant::Empty,
    Variant::RunQueue,
    Variant::Other(Tool::Bpftrace),
];

pub(super) fn measure(
    rounds: usize,
    tools: &Tools,
    cpu: super::Cpus,
    report: &mut Report,
) -> Result<Wakes> {
    let mut worker = Worker::start(Load::Switches)?;
    worker.run()?;
    report.section_of_values(&format!(
        "Two processes pass a byte to and fro on CPU {}",
        cpu.last
    ));
    let grid = Grid::run("switches", rounds, &TURNS, tools, report, || worker.first())?;
    let variants = grid.variants();
    for variant in &variants {
        let name = format!("a switch: {}", variant.name());
        report.values(&name, &grid.each(|row| row.of(*variant)), "ns", None);
    }
    let attached = || variants.iter().filter(|own| **own != Variant::None);
    for variant in attached() {
        let name = format!("added to a switch: {}", variant.name());
        report.values(&name, &grid.each(|row| row.added(*variant)), "ns", None);
    }
    for (than, goal) in [(BCC, 0.4), (Variant::Empty, 1.5)] {
        let values = grid.each(|row| Some(row.added(Variant::RunQueue)? / row.added(than)?));
        let name = format!("added: ours, run queue only / {}", than.name());
        report.values(&name, &values, "times", Some(Goal::AtMost(goal)));
    }
    for variant in attached() {
        let goal = (*variant == Variant::Everything).then_some(Goal::AtMost(1.15));
        let name = format!("a round trip: {} / none", variant.name());
        report.values(&name, &grid.each(|row| row.times(*variant)), "times", goal);
    }
    Ok(grid.wakes)
}
