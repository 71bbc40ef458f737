//! More events than a reader can take: what comes through, and whether every record that does not is counted.
//!
//! A [`Source`] is anything that emits records into our rings and knows how many it tried: a loop of refused connections, of which
//! the kernel itself makes far fewer than a ring takes, and a program that emits as fast as a CPU can.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use monitor_common::probes::bench_load::MOST;
use monitor_common::{Event, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smart_monitor::kernel::{BenchLoad, Rings};

use super::variant::{for_bench, load, only};
use super::{Cpus, pin};
use crate::report::{Goal, Report, Values, progress};

/// How long a source runs in a round.
const RUN: Duration = Duration::from_millis(500);
/// Longest sleep of the reader, as in the daemon.
const BULK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Where the flood comes from.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    /// Tries to emit records for so long, on the CPU of the thread that calls it; how many it tried.
    pub(super) generate: &'a mut (dyn FnMut(Duration) -> Result<u64> + Send),
    /// Whether an event is one of them.
    pub(super) is_own: &'a (dyn Fn(&Event) -> bool + Sync),
    /// Records that found no room so far.
    pub(super) lost: &'a dyn Fn() -> u64,
}

pub(super) fn measure(rounds: usize, cpus: Cpus, report: &mut Report) -> Result<()> {
    ensure!(cpus.first != cpus.last, "needs two CPUs");
    connections(rounds, cpus, report)?;
    records(rounds, cpus, report)
}

fn records(rounds: usize, cpus: Cpus, report: &mut Report) -> Result<()> {
    let mut kernel = for_bench(Kind::BenchLoad)?;
    let mut rings = kernel.take_rings().context("no rings")?;
    let counters = kernel.counters();
    let load = kernel.bench();
    let source = Source {
        name: "records of a program",
        generate: &mut |time| made(load, time),
        is_own: &|event| matches!(event, Event::BenchLoad(_)),
        lost: &|| counters.lost_total(),
    };
    flood(rounds, cpus, source, &mut rings, report)
}

/// Every system call of this process makes records; those of the reader do too, and are counted with the others.
fn made(load: &mut BenchLoad, time: Duration) -> Result<u64> {
    let before = load.made();
    let begin = Instant::now();
    load.set(std::process::id(), MOST)?;
    while begin.elapsed() < time {
        std::hint::black_box(rustix::process::getppid());
    }
    load.set(0, 0)?;
    // A call that was under way is over by then.
    std::thread::sleep(Duration::from_millis(1));
    Ok(load.made() - before)
}

fn connections(rounds: usize, cpus: Cpus, report: &mut Report) -> Result<()> {
    let mut kernel = load(&only(&[Kind::TcpConnect]))?;
    let mut rings = kernel.take_rings().context("no rings")?;
    let counters = kernel.counters();
    // Nobody listens there any more.
    let peer = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let source = Source {
        name: "refused connections",
        generate: &mut |time| refused(peer, time),
        is_own: &|event| matches!(event, Event::TcpConnect(connect) if connect.peer() == peer),
        lost: &|| counters.lost_total(),
    };
    flood(rounds, cpus, source, &mut rings, report)
}

fn refused(peer: SocketAddr, time: Duration) -> Result<u64> {
    let begin = Instant::now();
    let mut tried = 0;
    while begin.elapsed() < time {
        ensure!(
            TcpStream::connect(peer).is_err(),
            "somebody listens at {peer}"
        );
        tried += 1;
    }
    Ok(tried)
}

/// Lets the source run on the last CPU, and reads on the first as the daemon does.
pub(super) fn flood(
    rounds: usize,
    cpus: Cpus,
    source: Source<'_>,
    rings: &mut Rings,
    report: &mut Report,
) -> Result<()> {
    let name = source.name;
    progress(&format!("kernel: flood of {name}, {rounds} rounds"));
    let [mut tried, mut read, mut lost, mut missing, mut each] = <[Values; 5]>::default();
    let generate = source.generate;
    for _ in 0..rounds.max(1) {
        let done = AtomicBool::new(false);
        let got = AtomicU64::new(0);
        let lost_before = (source.lost)();
        let (count, elapsed) = std::thread::scope(|scope| {
            let generator = &mut *generate;
            let (done, got, is_own, rings) = (&done, &got, source.is_own, &mut *rings);
            let reader = scope.spawn(move || drain(cpus.first, rings, is_own, done, got));
            let other = scope.spawn(move || {
                let made = pin(cpus.last).and_then(|()| {
                    let begin = Instant::now();
                    Ok((generator(RUN)?, begin.elapsed()))
                });
                done.store(true, Ordering::Release);
                made
            });
            let (Ok(made), Ok(drained)) = (other.join(), reader.join()) else {
                bail!("a thread panicked");
            };
            drained?;
            made
        })?;
        let lost_now = number((source.lost)() - lost_before);
        let (count, got) = (number(count), number(got.into_inner()));
        let seconds = elapsed.as_secs_f64();
        tried.add(count / seconds / 1e3);
        read.add(got / seconds / 1e3);
        lost.add(lost_now / count * 100.0);
        missing.add((count - got - lost_now).abs());
        each.add(seconds / count * 1e9);
    }
    report.section_of_values(&format!("A flood: {name}"));
    report.values("records tried", &tried, "thousand/s", None);
    report.values("records read", &read, "thousand/s", None);
    report.values("time of the source for one", &each, "ns", None);
    report.values("lost, and counted as lost", &lost, "%", None);
    let none = Some(Goal::AtMost(0.0));
    report.values("neither read nor counted", &missing, "records", none);
    Ok(())
}

/// Reads both rings until the source is done and they are empty.
fn drain(
    cpu: usize,
    rings: &mut Rings,
    is_own: &(dyn Fn(&Event) -> bool + Sync),
    done: &AtomicBool,
    got: &AtomicU64,
) -> Result<()> {
    pin(cpu)?;
    loop {
        let last = done.load(Ordering::Acquire);
        for ring in [&mut rings.urgent, &mut rings.bulk] {
            ring.drain(usize::MAX, |event| {
                got.fetch_add(u64::from(is_own(&event)), Ordering::Relaxed);
            });
        }
        if last {
            return Ok(());
        }
        let mut fds = [&rings.urgent, &rings.bulk]
            .map(|ring| PollFd::from_borrowed_fd(ring.fd(), PollFlags::IN));
        poll(&mut fds, Some(&BULK))?;
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares are computed of it")]
const fn number(count: u64) -> f64 {
    count as f64
}
