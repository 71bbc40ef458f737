//! A guard in the kernel that ends a process over its ceiling: how far over, and how soon.
//!
//! [`Arm`] is the seam: it is told the process and its ceiling before the process takes its first page. Everything else is here: a
//! process that takes memory as fast as it can and writes down, every 256 KiB, how far it is and when it crossed the ceiling.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::daemon::{Folder, program};
use crate::report::{Report, Samples, Values, progress};
use crate::service::now;

/// Arms the guard for this process id and this ceiling of resident memory, bytes.
pub(super) type Arm<'a> = &'a mut dyn FnMut(u32, u64) -> Result<()>;

const CEILING: u64 = 256 << 20;
const CHUNK: usize = 256 << 10;
const SIGKILL: i32 = 9;

/// Measures it, if there is one.
pub(super) fn measure(rounds: usize, arm: Option<Arm<'_>>, report: &mut Report) -> Result<()> {
    let arm = arm.context("no kernel program ends processes yet")?;
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
        let told = tell(arm, child.id(), child.stdin.take());
        if told.is_err() {
            let _ended = child.kill();
        }
        let status = child.wait()?;
        let ended = now();
        told?;
        ensure!(
            status.signal() == Some(SIGKILL),
            "it ended otherwise: {status}"
        );
        let [resident, crossed] = read(&path)?;
        // What it took since its last word is less than this.
        let beyond = (resident + u64::try_from(CHUNK)?).saturating_sub(CEILING);
        over.add(f64::from(u32::try_from(beyond)?) / 1024.0 / 1024.0);
        if crossed > 0 {
            time.add(ended.saturating_sub(Duration::from_nanos(crossed)));
        }
    }
    report.section_of_values("A process over its ceiling, ended in the kernel");
    report.values("memory beyond the ceiling, at most", &over, "MiB", None);
    report.section("The same");
    report.durations("ceiling crossed -> reaped, its memory free", &time, None);
    Ok(())
}

fn tell(arm: Arm<'_>, pid: u32, orders: Option<ChildStdin>) -> Result<()> {
    arm(pid, CEILING)?;
    let mut orders = orders.context("no pipe")?;
    Ok(writeln!(orders, "go")?)
}

fn read(path: &Path) -> Result<[u64; 2]> {
    let bytes = std::fs::read(path)?;
    let word = |at: usize| {
        let word = bytes.get(at..at + 8).context("it wrote nothing")?;
        anyhow::Ok(u64::from_ne_bytes(word.try_into()?))
    };
    Ok([word(0)?, word(8)?])
}

/// The process that takes memory, once it is told to.
pub(super) fn hog(report: &Path) -> Result<()> {
    let file = File::create(report)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("no pages")?.parse()?;
    let mut resident = pages * u64::try_from(rustix::param::page_size())?;
    let mut crossed = 0;
    let mut held = Vec::new();
    while resident < 4 * CEILING {
        held.push(std::hint::black_box(vec![1_u8; CHUNK]));
        resident += u64::try_from(CHUNK)?;
        if crossed == 0 && resident >= CEILING {
            crossed = u64::try_from(now().as_nanos())?;
        }
        let mut words = [0; 16];
        let (first, second) = words.split_at_mut(8);
        first.copy_from_slice(&resident.to_ne_bytes());
        second.copy_from_slice(&crossed.to_ne_bytes());
        file.write_all_at(&words, 0)?;
    }
    anyhow::bail!(
        "nobody ended it at {} times its ceiling",
        resident / CEILING
    )
}
