//! A guard in the kernel that ends a process over its ceiling: how far over, and how soon.
//!
//! The process takes memory as fast as it can and writes down, every 256 KiB, how far it is; when it
//! crossed the ceiling stands in the kernel's record.

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
use crate::report::{Report, Samples, Values, progress};
use crate::service::now;

const CEILING: u64 = 256 << 20;
const CHUNK: usize = 256 << 10;
const SIGKILL: i32 = 9;

pub(super) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    let mut kernel = load(&only(Kind::MemoryCeiling))?;
    let mut rings = kernel.take_rings().context("no rings")?;
    let guards = kernel.guards();
    progress(&format!(
        "kernel: guard, {rounds} processes over their ceiling"
    ));
    let mut over = Values::default();
    let mut time = Samples::default();
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
        let crossing = crossing(&mut rings, pid).context("no record of the crossing")?;
        time.add(ended.saturating_sub(Duration::from_nanos(crossing.header.time_ns)));
        // What it held in the kernel's eyes then, or by its own last word if that is later.
        let page = u64::try_from(rustix::param::page_size())?;
        let held = resident(&path)?.max(crossing.resident_pages * page);
        let beyond = u32::try_from(held.saturating_sub(CEILING))?;
        over.add(f64::from(beyond) / 1024.0);
    }
    report.section_of_values("A process over its ceiling, ended in the kernel");
    report.values("memory beyond the ceiling", &over, "KiB", None);
    report.section("The same");
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

/// The record of this process's end by its guard.
fn crossing(rings: &mut Rings, pid: u32) -> Option<MemoryCeiling> {
    let mut found = None;
    for ring in [&mut rings.urgent, &mut rings.bulk] {
        ring.drain(usize::MAX, |event| {
            if let Event::MemoryCeiling(crossing) = event
                && crossing.task.pid == pid
                && crossing.verdict == KILLED
            {
                found = Some(crossing);
            }
        });
    }
    found
}

/// How far it said that it was.
fn resident(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path)?;
    let word = bytes.get(..8).context("it wrote nothing")?;
    Ok(u64::from_ne_bytes(word.try_into()?))
}

/// The process that takes memory, once it is told to.
pub(super) fn hog(report: &Path) -> Result<()> {
    let file = File::create(report)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("no pages")?.parse()?;
    let mut resident = pages * u64::try_from(rustix::param::page_size())?;
    let mut held = Vec::new();
    while resident < 4 * CEILING {
        held.push(std::hint::black_box(vec![1_u8; CHUNK]));
        resident += u64::try_from(CHUNK)?;
        file.write_all_at(&resident.to_ne_bytes(), 0)?;
    }
    anyhow::bail!(
        "nobody ended it at {} times its ceiling",
        resident / CEILING
    )
}
