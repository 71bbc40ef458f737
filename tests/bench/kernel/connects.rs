//! What is added to a TCP connection: made, accepted and closed over loopback, all by one process on one CPU.

use anyhow::Result;

use super::grid::Grid;
use super::loads::Load;
use super::reader::Wakes;
use super::tools::{Tool, Tools};
use super::variant::Variant;
use super::worker::Worker;
use crate::report::{Goal, Report};

/// What is divided by has two turns a round.
const TURNS: [Variant; 8] = [
    Variant::None,
    Variant::Empty,
    Variant::Network,
    Variant::Other(Tool::TcpLife),
    Variant::None,
    Variant::Network,
    Variant::Other(Tool::TcpStates),
    Variant::Everything,
];

pub(super) fn measure(
    rounds: usize,
    tools: &Tools,
    cpu: super::Cpus,
    report: &mut Report,
) -> Result<Wakes> {
    let mut worker = Worker::start(Load::Connects)?;
    worker.run()?;
    let title = format!("A TCP connection over loopback on CPU {}", cpu.last);
    report.section_of_values(&title);
    let grid = Grid::run("connects", rounds, &TURNS, tools, report, || worker.first())?;
    let variants = grid.variants();
    for variant in &variants {
        let micros = grid.each(|row| Some(row.of(*variant)? / 1e3));
        report.values(variant.name(), &micros, "us", None);
    }
    for variant in variants.iter().filter(|own| **own != Variant::None) {
        let added = grid.each(|row| row.added(*variant));
        report.values(&format!("added: {}", variant.name()), &added, "ns", None);
    }
    for variant in variants.iter().filter(|own| **own != Variant::None) {
        let goal = (*variant == Variant::Network).then_some(Goal::AtMost(1.03));
        let name = format!("{} / none", variant.name());
        report.values(&name, &grid.each(|row| row.times(*variant)), "times", goal);
    }
    Ok(grid.wakes)
}
