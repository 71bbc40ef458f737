//! From an event in the kernel to its decoded record in a reader that slept, beside a bare wake-up.
//!
//! A child ends on the last CPU; the reader waits on the first. The bare wake-up is the same without our half: a thread on the last CPU
//! notes the time and writes to an eventfd, on which the same reader waits by epoll. Between any two there is the same idle time,
//! so that the idle states of the CPUs, and what leaving them costs, are the same.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use monitor_common::Event;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use smart_monitor::engine::{Engine, Settings};
use smart_monitor::host::clock;
use smart_monitor::kernel::{Options, Rings};
use smart_monitor::model::{IncidentId, Signal, Time};

use super::variant::load;
use super::{Cpus, pin};
use crate::daemon::program;
use crate::report::{Goal, Report, Samples, Values, progress};
use crate::service::now;

/// Events of each kind a round.
const BATCH: usize = 40;
/// Idle time between two events.
const GAP: Duration = Duration::from_millis(2);
/// What takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the other CPU is to do next.
enum Phase {
    /// `BATCH` children end.
    Exits,
    /// `BATCH` writes to the eventfd.
    Writes,
}

pub(super) fn measure(rounds: usize, cpus: Cpus, report: &mut Report) -> Result<()> {
    ensure!(cpus.first != cpus.last, "needs two CPUs");
    progress(&format!(
        "kernel: events to a sleeping reader, {rounds} rounds"
    ));
    let mut kernel = load(&Options::default())?;
    let mut rings = kernel.take_rings().context("no rings")?;
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let rung = AtomicU64::new(0);
    let (go, phases) = channel();
    let mut seen = Seen::default();
    let (bell, rung) = (&bell, &rung);
    std::thread::scope(|scope| {
        let other = scope.spawn(move || other_cpu(cpus.last, &phases, bell, rung));
        let rings = &mut rings;
        let reader = scope.spawn(move || {
            let seen = read(cpus.first, rounds, rings, bell, rung, &go);
            drop(go);
            seen
        });
        let (Ok(read), Ok(other)) = (reader.join(), other.join()) else {
            bail!("a thread panicked");
        };
        other?;
        seen = read?;
        Ok(())
    })?;
    report.section("A reader that sleeps hears of it from another CPU");
    let name = "a child ends -> poll on its ring returns";
    report.durations(name, &seen.rings, None);
    let name = "a child ends -> the core has decided on its record";
    report.durations(name, &seen.exits, None);
    let name = "a write to an eventfd -> epoll returns";
    report.durations(name, &seen.writes, None);
    report.section_of_values("The same, medians of each round");
    let goal = Some(Goal::AtMost(1.2));
    let name = "decided / bare wake-up by the ring";
    report.values(name, &seen.to_ring, "times", goal);
    // The ring's own wake-up takes the way of an interrupt, which an eventfd's does not.
    let name = "decided / bare wake-up by an eventfd";
    report.values(name, &seen.ratios, "times", None);
    Ok(())
}

#[derive(Debug, Default)]
struct Seen {
    exits: Samples,
    rings: Samples,
    writes: Samples,
    to_ring: Values,
    ratios: Values,
}

fn read(
    cpu: usize,
    rounds: usize,
    rings: &mut Rings,
    bell: &OwnedFd,
    rung: &AtomicU64,
    go: &Sender<Phase>,
) -> Result<Seen> {
    pin(cpu)?;
    smart_monitor::host::own::hurry();
    let ears = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&ears, bell, data, epoll::EventFlags::IN)?;
    let mut seen = Seen::default();
    let mut core = Engine::new(Settings::default(), IncidentId(1));
    for _ in 0..rounds.max(1) {
        go.send(Phase::Exits)?;
        let (woken, exits) = read_exits(rings, &mut core)?;
        go.send(Phase::Writes)?;
        let writes = read_writes(&ears, bell, rung)?;
        if let Some((own, bare)) = exits.median().zip(writes.median()) {
            seen.ratios.add(own.as_secs_f64() / bare.as_secs_f64());
        }
        if let Some((own, bare)) = exits.median().zip(woken.median()) {
            let ratio = own.as_secs_f64() / bare.as_secs_f64();
            seen.to_ring.add(ratio);
        }
        seen.rings.extend(&woken);
        seen.exits.extend(&exits);
        seen.writes.extend(&writes);
    }
    Ok(seen)
}

/// Times from each end until the reader was awake, and until the detectors and policy had it behind them.
fn read_exits(rings: &mut Rings, core: &mut Engine) -> Result<(Samples, Samples)> {
    let own = std::process::id();
    let timeout = Timespec::try_from(PATIENCE).unwrap_or_default();
    let begin = Instant::now();
    let mut samples = Samples::default();
    let mut awake = Samples::default();
    let mut orders = Vec::new();
    while samples.len() < BATCH {
        ensure!(
            begin.elapsed() < PATIENCE,
            "{} of {BATCH} ends",
            samples.len()
        );
        let ring = &mut rings.urgent;
        let fds = &mut [PollFd::from_borrowed_fd(ring.fd(), PollFlags::IN)];
        poll(fds, Some(&timeout))?;
        let woken = now();
        ring.drain(usize::MAX, |event| {
            let at = Time::from_kernel(event.time_ns());
            core.observe(&Signal::Kernel { event }, at, clock::now(), &mut orders);
            if let Event::ProcessExit(exit) = event
                && exit.parent_pid == own
            {
                let then = Duration::from_nanos(event.time_ns());
                samples.add(now().saturating_sub(then));
                awake.add(woken.saturating_sub(then));
            }
        });
        // The forks; they woke nobody.
        rings.bulk.drain(usize::MAX, |_| {});
    }
    Ok((awake, samples))
}

fn read_writes(ears: &OwnedFd, bell: &OwnedFd, rung: &AtomicU64) -> Result<Samples> {
    let timeout = Timespec::try_from(PATIENCE).unwrap_or_default();
    let mut samples = Samples::default();
    let mut heard = Vec::with_capacity(4);
    while samples.len() < BATCH {
        heard.clear();
        epoll::wait(
            ears,
            rustix::buffer::spare_capacity(&mut heard),
            Some(&timeout),
        )?;
        let woken = now();
        ensure!(!heard.is_empty(), "{} of {BATCH} writes", samples.len());
        rustix::io::read(bell, &mut [0; 8])?;
        let then = Duration::from_nanos(rung.swap(0, Ordering::AcqRel));
        samples.add(woken.saturating_sub(then));
    }
    Ok(samples)
}

/// Makes the events, until nobody asks for more.
fn other_cpu(cpu: usize, phases: &Receiver<Phase>, bell: &OwnedFd, rung: &AtomicU64) -> Result<()> {
    pin(cpu)?;
    for phase in phases {
        match phase {
            Phase::Exits => end_children()?,
            Phase::Writes => {
                for _ in 0..BATCH {
                    std::thread::sleep(GAP);
                    // The last one must have been heard.
                    while rung.load(Ordering::Acquire) != 0 {
                        std::thread::sleep(GAP);
                    }
                    let nanos = u64::try_from(now().as_nanos()).unwrap_or(0);
                    rung.store(nanos, Ordering::Release);
                    rustix::io::write(bell.as_fd(), &1_u64.to_ne_bytes())?;
                }
            }
        }
    }
    Ok(())
}

/// Starts them all, then ends one after the other by closing its input.
fn end_children() -> Result<()> {
    let mut children = Vec::new();
    for _ in 0..BATCH {
        let mut command = program("cat");
        command.stdin(std::process::Stdio::piped());
        children.push(command.stdout(std::process::Stdio::null()).spawn()?);
    }
    for mut child in children {
        std::thread::sleep(GAP);
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(())
}
