//! A guard in the kernel that ends a process over its ceiling: how far over, and how soon.
//!
//! The process takes memory as fast as it can, with a thread on every CPU, and each thread writes down, every 64 KiB, how far it is;
//! when it crossed the ceiling, and when SIGKILL was sent, stands in the kernel's records.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use monitor_common::probes::memory_ceiling::{KILLED, MemoryCeiling};
use monitor_common::{Event, Kind};
use smart_monitor::host::procfs;
use smart_monitor::kernel::{Guard, Guarded, Guards, Rings};

use super::variant::{load, only};
use crate::daemon::{Folder, program};
use crate::report::{Goal, Report, Samples, Values, progress};
use crate::service::now;

const CEILING: u64 = 256 << 20;
const CHUNK: usize = 64 << 10;
/// Most threads that take memory.
const THREADS: usize = 64;
const SIGKILL: i32 = 9;

pub(super) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    let mut options = only(&[Kind::MemoryCeiling]);
    let signals = Kind::ProcessSignal.name();
    options.disabled.retain(|probe| probe != signals);
    let mut kernel = load(&options)?;
    let mut rings = kernel.take_rings().context("no rings")?;
    let guards = kernel.guards();
    progress(&format!(
        "kernel: guard, {rounds} processes over their ceiling"
    ));
    let mut over = Values::default();
    let mut time = Samples::default();
    let mut sent = Samples::default();
    for _ in 0..rounds.max(1) {
        let folder = Folder::new()?;
        let path = folder.file("hog");
        let mut command = program(std::env::current_exe()?);
        command.args(["kernel-part", "hog"]).arg(&path);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let pid = child.id();
        let told = tell(&guards, pid, child.stdin.take());
        if told.is_err() {
            let _ended = child.kill();
        }
        let status = child.wait()?;
        let ended = now();
        guards.disarm(told?);
        ensure!(
            status.signal() == Some(SIGKILL),
            "it ended otherwise: {status}"
        );
        let (crossing, signal_ns) =
            crossing(&mut rings, pid).context("no record of the crossing")?;
        let signal_ns = signal_ns.context("no record of the signal")?;
        sent.add(Duration::from_nanos(
            signal_ns.saturating_sub(crossing.header.time_ns),
        ));
        time.add(ended.saturating_sub(Duration::from_nanos(crossing.header.time_ns)));
        // What it held in the kernel's eyes then, or by its own last word if that is later.
        let page = u64::try_from(rustix::param::page_size())?;
        let held = resident(&path)?.max(crossing.resident_pages * page);
        let beyond = u32::try_from(held.saturating_sub(CEILING))?;
        over.add(f64::from(beyond) / 1024.0);
    }
    report.section_of_values("A process over its ceiling, ended in the kernel");
    let goal = Some(Goal::AtMost(1024.0));
    report.values("memory beyond the ceiling", &over, "KiB", goal);
    report.section("The same");
    let name = "crossing in the kernel -> SIGKILL sent";
    report.durations(name, &sent, Some(Duration::from_micros(50)));
    report.durations(
        "crossing in the kernel -> reaped, its memory free",
        &time,
        None,
    );
    Ok(())
}

/// Guards the process, then lets it begin.
fn tell(guards: &Guards, pid: u32, orders: Option<ChildStdin>) -> Result<Guarded> {
    let stat = procfs::stat(pid).context("it is gone")?;
    let guarded = Guarded::ProcessMemory(stat.key);
    let guard = Guard {
        limit: CEILING,
        enforce: true,
    };
    guards.arm(guarded, guard)?;
    let mut orders = orders.context("no pipe")?;
    writeln!(orders, "go")?;
    Ok(guarded)
}

/// The record of this process's end by its guard, and when the signal was sent.
fn crossing(rings: &mut Rings, pid: u32) -> Option<(MemoryCeiling, Option<u64>)> {
    let mut found = None;
    let mut signal = None;
    for ring in [&mut rings.urgent, &mut rings.bulk] {
        ring.drain(usize::MAX, |event| {
            if let Event::MemoryCeiling(crossing) = event
                && crossing.task.pid == pid
                && crossing.verdict == KILLED
            {
                found = Some(crossing);
            }
            if let Event::ProcessSignal(sent) = event
                && sent.task.pid == pid
                && sent.signal == 9
            {
                signal.get_or_insert(sent.header.time_ns);
            }
        });
    }
    found.map(|crossing| (crossing, signal))
}

/// How far its threads said that they were, together.
fn resident(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path)?;
    ensure!(!bytes.is_empty(), "it wrote nothing");
    let words = bytes
        .chunks_exact(8)
        .filter_map(|word| word.try_into().ok());
    Ok(words.map(u64::from_ne_bytes).sum())
}

/// The process that takes memory, once it is told to.
pub(super) fn hog(report: &Path) -> Result<()> {
    let file = File::create(report)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let threads = std::thread::available_parallelism()?.get().min(THREADS);
    std::thread::scope(|scope| {
        let file = &file;
        for number in 1..=threads {
            scope.spawn(move || take(file, number, 4 * CEILING / threads as u64));
        }
        // What the process holds besides is counted by the first word.
        let statm = std::fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = statm.split(' ').nth(1).context("no pages")?.parse()?;
        let own = pages * u64::try_from(rustix::param::page_size())?;
        file.write_all_at(&own.min(8 << 20).to_ne_bytes(), 0)?;
        anyhow::Ok(())
    })?;
    anyhow::bail!("nobody ended it at 4 times its ceiling")
}

fn take(file: &File, number: usize, most: u64) {
    let mut held = Vec::new();
    let mut taken = 0_u64;
    while taken < most {
        held.push(std::hint::black_box(vec![1_u8; CHUNK]));
        taken += CHUNK as u64;
        // Without a word, the sum is too small: the kernel's own figure stands in.
        let _ = file.write_all_at(&taken.to_ne_bytes(), number as u64 * 8);
    }
}
