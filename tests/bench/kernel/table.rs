//! The process table: one read through the task iterator, beside the same from `/proc`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use monitor_common::Kind;

use super::variant::{load, only};
use crate::daemon::program;
use crate::report::{Goal, Report, Samples, Values, progress};

const PROCESSES: usize = 1_000;
/// Reads a round, of which the median counts.
const READS: usize = 5;
/// What the iterator tells stands in these: times and faults, resident and anonymous pages, storage, waits for a CPU.
const FILES: [&str; 4] = ["stat", "statm", "io", "schedstat"];

pub(super) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    progress(&format!("kernel: process table, {rounds} rounds"));
    let _crowd = Crowd::start()?;
    let mut kernel = load(&only(&[Kind::TaskSnapshot]))?;
    let mut snapshot = kernel.take_snapshot().context("no snapshot")?;
    let (mut ours, mut theirs, mut ratios) = <(Values, Values, Values)>::default();
    let mut records = Vec::new();
    let mut walked = 0;
    for round in 0..rounds.max(1) {
        let mut iterator = || median(READS, || Ok(snapshot.read(&mut records)?));
        let mut files = || {
            median(1, || {
                walked = walk()?;
                Ok(())
            })
        };
        // The one that comes second finds warmer caches.
        let (own, other) = if round % 2 == 0 {
            let own = iterator()?;
            (own, files()?)
        } else {
            let other = files()?;
            (iterator()?, other)
        };
        ours.add(own.as_secs_f64() * 1e3);
        theirs.add(other.as_secs_f64() * 1e3);
        ratios.add(other.as_secs_f64() / own.as_secs_f64());
    }
    ensure!(records.len() >= PROCESSES, "{} records", records.len());
    let title = format!(
        "Process table: {} threads, {walked} processes",
        records.len()
    );
    report.section_of_values(&title);
    let goal = Some(Goal::AtMost(2.0));
    report.values(
        "one read through the task iterator, decoded",
        &ours,
        "ms",
        goal,
    );
    let name = format!("/proc/*/{{{}}}, read and not decoded", FILES.join(","));
    report.values(&name, &theirs, "ms", None);
    let goal = Some(Goal::AtLeast(10.0));
    report.values("/proc / iterator", &ratios, "times as long", goal);
    Ok(())
}

fn median(reads: usize, mut read: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut samples = Samples::default();
    for _ in 0..reads {
        let begin = Instant::now();
        read()?;
        samples.add(begin.elapsed());
    }
    samples.median().context("no read")
}

/// Reads the files of every process; how many there were.
fn walk() -> Result<usize> {
    let mut processes = 0;
    let mut buffer = Vec::with_capacity(4096);
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        processes += 1;
        for file in FILES {
            // One that has just ended has none.
            let Ok(mut file) = std::fs::File::open(format!("/proc/{pid}/{file}")) else {
                continue;
            };
            buffer.clear();
            let _gone = file.read_to_end(&mut buffer);
            std::hint::black_box(&buffer);
        }
    }
    Ok(processes)
}

/// Processes that wait for a byte that never comes; all end when the pipe is closed.
struct Crowd(Child);

impl Crowd {
    fn start() -> Result<Self> {
        let script = format!(
            "exec 3<&0; i=0; while [ $i -lt {PROCESSES} ]; do read -r _ <&3 & i=$((i+1)); done; echo ready; wait"
        );
        let mut shell = program("sh");
        shell.args(["-c", &script]).stdin(Stdio::piped());
        let mut child = shell.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no pipe")?;
        let crowd = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(
            line.trim() == "ready",
            "the shell makes no {PROCESSES} processes"
        );
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}
