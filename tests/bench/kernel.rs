//! `bench kernel`: what the kernel programs cost, and how fast they tell, measured by interleaving.
//!
//! In each round every variant (nothing attached, an empty program, ours, other tools) has its turn at the same load, in
//! rotating order; what is reported are medians of the ratios within the rounds, so that a machine that is busy now and
//! then harms all alike. The loads run in processes that exist before anything is attached: they are nobody's news.
//! Owns the order of the measurements; leaves out the daemon, whose cost the other sections measure.

#[path = "kernel/answers.rs"]
mod answers;
#[path = "kernel/connects.rs"]
mod connects;
#[path = "kernel/disk.rs"]
mod disk;
#[path = "kernel/flood.rs"]
mod flood;
#[path = "kernel/grid.rs"]
mod grid;
#[path = "kernel/guard.rs"]
mod guard;
#[path = "kernel/jobs.rs"]
mod jobs;
#[path = "kernel/loads.rs"]
mod loads;
#[path = "kernel/reader.rs"]
mod reader;
#[path = "kernel/switches.rs"]
mod switches;
#[path = "kernel/table.rs"]
mod table;
#[path = "kernel/tools.rs"]
mod tools;
#[path = "kernel/variant.rs"]
mod variant;
#[path = "kernel/wake.rs"]
mod wake;
#[path = "kernel/worker.rs"]
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use self::reader::Wakes;
use self::tools::Tools;
use crate::report::Report;

/// What runs as a process of its own.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// Runs a load each time it is told to.
    Worker {
        #[arg(value_enum)]
        load: loads::Load,
        /// For its files.
        folder: PathBuf,
    },
    /// Answers each byte by one, on this CPU.
    Pong { cpu: usize },
    /// Takes memory, and says in the file how far it came, until it is killed.
    Hog { report: PathBuf },
}

/// Is such a process.
pub(crate) fn be(part: &Part) -> ExitCode {
    let done = match part {
        Part::Worker { load, folder } => worker::be(*load, folder),
        Part::Pong { cpu } => loads::pong(*cpu),
        Part::Hog { report } => guard::hog(report),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {part:?}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A load, or a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Section {
    /// Context switches.
    Switches,
    /// A compile job.
    Compile,
    /// Processes that end at once.
    Forks,
    /// TCP connections.
    Connects,
    /// Reads of a disk.
    Disk,
    /// Answers of a web server: what counting them costs, and whether they are counted right.
    Answers,
    /// The process table.
    Table,
    /// From an event to its reader.
    Wake,
    /// More events than can be read.
    Flood,
    /// From crossing a ceiling to the signal.
    Guard,
}

/// Measures these sections, or all of them; what fails or is missing is said, and keeps nothing else from being measured.
pub(crate) fn measure(
    rounds: usize,
    sections: &[Section],
    install: bool,
    report: &mut Report,
) -> Result<()> {
    use Section::{Answers, Compile, Connects, Disk, Flood, Forks, Guard, Switches, Table, Wake};
    let cpus = Cpus::allowed()?;
    let tools = &Tools::find(install);
    let wanted = |section: &Section| sections.is_empty() || sections.contains(section);
    let mut wakes = Vec::new();
    for section in [Switches, Compile, Forks, Connects]
        .iter()
        .filter(|it| wanted(it))
    {
        let (name, result) = match section {
            Compile => ("compile job", jobs::compile(rounds, tools, report)),
            Forks => ("fork+exec+exit+wait", jobs::forks(rounds, tools, report)),
            Connects => (
                "TCP connections",
                connects::measure(rounds, tools, cpus, report),
            ),
            _ => (
                "context switches",
                switches::measure(rounds, tools, cpus, report),
            ),
        };
        match result {
            Ok(seen) => wakes.push((name, seen)),
            Err(error) => report.missing(name, &format!("{error:#}")),
        }
    }
    show_wakes(&wakes, report);
    for section in [Disk, Answers, Table, Wake, Flood, Guard]
        .iter()
        .filter(|it| wanted(it))
    {
        let (name, result) = match section {
            Disk => ("reads of a disk", disk::measure(rounds, tools, report)),
            Answers => (
                "answers of a web server",
                answers::measure(rounds, cpus, report),
            ),
            Table => ("process table", table::measure(rounds, report)),
            Wake => (
                "kernel event -> reader",
                wake::measure(rounds, cpus, report),
            ),
            Flood => ("flood of a ring", flood::measure(rounds, cpus, report)),
            _ => ("guard in the kernel", guard::measure(rounds, report)),
        };
        if let Err(error) = result {
            report.missing(name, &format!("{error:#}"));
        }
    }
    Ok(())
}

/// Urgent events alone may wake the reader, and none of the loads makes any.
fn show_wakes(wakes: &[(&str, Wakes)], report: &mut Report) {
    report.section("The reader during these loads, everything on");
    for (name, wakes) in wakes {
        let each = [
            ("woken by urgent records", wakes.urgent, "times", Some(1.0)),
            ("woken by bulk records", wakes.bulk, "times", None),
            ("urgent", wakes.urgent_events, "records", None),
            ("bulk", wakes.bulk_events, "records", None),
            ("lost", wakes.lost, "records", Some(1.0)),
        ];
        for (what, count, unit, goal) in each {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            let name = format!("{name}, {:.0} s: {what}", wakes.time.as_secs_f64());
            report.number(&name, count, unit, goal);
        }
        if !wakes.strangers.is_empty() {
            let who = wakes
                .strangers
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            report.missing(
                &format!("{name}, of the load alone"),
                &format!("something else ran; urgent records: {who}"),
            );
        }
    }
}

/// The first and the last CPU that this process may use; the same where there is but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpus {
    first: usize,
    last: usize,
}

impl Cpus {
    fn allowed() -> Result<Self> {
        let set = sched_getaffinity(None).context("cannot ask for the allowed CPUs")?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
        let first = allowed.next().context("no CPU is allowed")?;
        Ok(Self {
            first,
            last: allowed.next_back().unwrap_or(first),
        })
    }
}

/// Keeps the calling thread, and what it starts from now on, on one CPU.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}
