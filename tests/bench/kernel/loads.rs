//! The loads: bytes to and fro on one CPU, short-lived processes, a compile job.
//!
//! Each is prepared once, in a process of its own (see `worker`), and then run many times. What is short is repeated in batches whose
//! median counts, so that what else the machine does for some milliseconds does not.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Cpus, pin, tools};
use crate::daemon::program;
use crate::report::Samples;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// Nanoseconds a switch between two processes.
    Switches,
    /// Nanoseconds of a fork, exec, exit and wait.
    Forks,
    /// Nanoseconds of a TCP connection over loopback: made, accepted, closed.
    Connects,
    /// Nanoseconds of a read of 4 KiB at random, of a loop device over a file in memory.
    Reads,
    /// Nanoseconds of a job, then CPU time of all its processes, nanoseconds.
    Compile,
}

impl Load {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Switches => "switches",
            Self::Forks => "forks",
            Self::Connects => "connects",
            Self::Reads => "reads",
            Self::Compile => "compile",
        }
    }
}

/// How long one run of what is repeated takes.
const RUN: Duration = Duration::from_millis(500);
/// Trips to and fro in a batch: some 200 us, shorter than what else runs on the CPU keeps it for.
const SHORT: u32 = 50;

/// Connections in a batch.
const SHORT_CONNECTS: u32 = 10;

/// Runs a load once; its numbers.
pub(super) type Run = Box<dyn FnMut() -> Result<Vec<f64>>>;

/// Makes a load ready, in the process that is to run it.
pub(super) fn prepare(load: Load, folder: &Path) -> Result<Run> {
    let cpu = Cpus::allowed()?.last;
    match load {
        Load::Switches => {
            pin(cpu)?;
            let mut pair = Pair::start(cpu)?;
            // A trip to and fro is two switches.
            Ok(Box::new(move || {
                Ok(vec![batches(SHORT, || pair.trip())? / 2.0])
            }))
        }
        Load::Forks => {
            let child = short_lived(folder)?;
            pin(cpu)?;
            Ok(Box::new(move || {
                let once = || {
                    let status = program(&child).status()?;
                    ensure!(status.success(), "{} failed", child.display());
                    Ok(())
                };
                Ok(vec![batches(1, once)?])
            }))
        }
        Load::Connects => {
            pin(cpu)?;
            let listener = TcpListener::bind("0.0.0.0:0")?;
            let port = listener.local_addr()?.port();
            // Each closed connection holds its port for a while, so that many addresses are called in turn.
            let mut last = 0_u8;
            let mut once = move || {
                last = last.wrapping_add(1);
                let client = TcpStream::connect((Ipv4Addr::new(127, 0, last, 1), port))?;
                let (accepted, _) = listener.accept()?;
                drop((client, accepted));
                Ok(())
            };
            Ok(Box::new(move || {
                Ok(vec![batches(SHORT_CONNECTS, &mut once)?])
            }))
        }
        Load::Reads => {
            let mut disk = super::disk::LoopDisk::new(folder)?;
            pin(cpu)?;
            Ok(Box::new(move || {
                Ok(vec![batches(SHORT, || disk.read_at_random())?])
            }))
        }
        Load::Compile => {
            let compiler = tools::find(&["cc", "gcc", "clang"]).context("no C compiler")?;
            let units = sources(folder)?;
            Ok(Box::new(move || compile(&compiler, &units)))
        }
    }
}

/// Nanoseconds of one, by the median of batches of so many.
fn batches(size: u32, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut all = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < RUN {
        let start = Instant::now();
        for _ in 0..size {
            once()?;
        }
        all.push(start.elapsed());
    }
    let all: Samples = all.into_iter().collect();
    let median = all.median().context("no batch")?;
    Ok(median.as_secs_f64() * 1e9 / f64::from(size))
}

/// This process and one that answers it, on one CPU.
struct Pair {
    child: Child,
    to: File,
    from: File,
}

impl Pair {
    fn start(cpu: usize) -> Result<Self> {
        let mut command = program(std::env::current_exe()?);
        command.args(["kernel-part", "pong", &cpu.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let to = child.stdin.take().context("no pipe")?;
        let from = child.stdout.take().context("no pipe")?;
        let to = File::from(std::os::fd::OwnedFd::from(to));
        let from = File::from(std::os::fd::OwnedFd::from(from));
        Ok(Self { child, to, from })
    }

    fn trip(&mut self) -> Result<()> {
        self.to.write_all(&[1])?;
        Ok(self.from.read_exact(&mut [0])?)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The one that answers, until nobody asks any more.
pub(super) fn pong(cpu: usize) -> Result<()> {
    pin(cpu)?;
    // Without the buffers of the standard library.
    let mut from = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut to = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    while from.read_exact(&mut [0]).is_ok() && to.write_all(&[1]).is_ok() {}
    Ok(())
}

/// A program that ends at once: a static one if it can be made here, so that little but the kernel's own work is measured.
fn short_lived(folder: &Path) -> Result<PathBuf> {
    let made = folder.join("short");
    let text = folder.join("short.c");
    std::fs::write(&text, "int main(void) { return 0; }\n")?;
    if let Some(compiler) = tools::find(&["cc", "gcc", "clang"]) {
        let mut command = program(compiler);
        command.args(["-static", "-O2", "-o"]).arg(&made).arg(text);
        let built = command.stderr(Stdio::null()).status();
        if built.is_ok_and(|status| status.success()) {
            return Ok(made);
        }
    }
    tools::find(&["true"]).context("neither a C compiler nor `true`")
}

/// Files of one compile job, and functions in each.
const UNITS: usize = 12;
const FUNCTIONS: usize = 30;

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut units = Vec::new();
    for unit in 0..UNITS {
        let mut text =
            String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
        for function in 0..FUNCTIONS {
            write!(
                text,
                "long f{function}(const char *text, long n) {{\n\
                 long table[64]; memset(table, 0, sizeof table);\n\
                 for (long i = 0; i < n; i++) for (long j = i; j < n; j += {function} + 1)\n\
                 switch (text[j] % 7) {{ case 0: table[j % 64] += i * {unit}; break; case 1: table[i % 64] ^= j; break;\n\
                 case 2: if (j > {function}) return atol(text + j); break; case 3: table[(i + j) % 64]--; break;\n\
                 default: table[{function} % 64] += text[i] * table[j % 64]; }}\n\
                 long sum = 0; for (int k = 0; k < 64; k++) sum += table[k] * (k + {unit});\n\
                 if (sum == {function}) printf(\"%ld\\n\", sum);\n\
                 return sum;\n}}\n"
            )?;
        }
        let path = folder.join(format!("unit{unit}.c"));
        std::fs::write(&path, text)?;
        units.push(path);
    }
    Ok(units)
}

/// Compiles all units, as many at a time as there are CPUs.
fn compile(compiler: &Path, units: &[PathBuf]) -> Result<Vec<f64>> {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let before = children_cpu()?;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let lane = |lane: usize| {
            let own = units.iter().skip(lane).step_by(lanes);
            move || own.map(|unit| compile_one(compiler, unit)).collect()
        };
        let running: Vec<_> = (0..lanes.min(units.len()))
            .map(|number| scope.spawn(lane(number)))
            .collect();
        for lane in running {
            let done: Result<Vec<()>> = match lane.join() {
                Ok(done) => done,
                Err(_) => bail!("a thread panicked"),
            };
            done?;
        }
        Ok(())
    })?;
    let wall = begin.elapsed().as_secs_f64() * 1e9;
    Ok(vec![wall, children_cpu()? - before])
}

fn compile_one(compiler: &Path, unit: &Path) -> Result<()> {
    let mut command = program(compiler);
    command
        .args(["-O2", "-c", "-o"])
        .arg(unit.with_extension("o"));
    let output = command.arg(unit).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the compiler failed: {said}");
    Ok(())
}

/// CPU time of all children that were waited for, nanoseconds, in steps of 10 ms.
fn children_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("no name")?;
    // Fields 16 and 17 (proc(5)); the first after the name is the third.
    let ticks: Vec<u32> = fields
        .split_ascii_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Ok(ticks.into_iter().map(f64::from).sum::<f64>() * 1e7)
}
