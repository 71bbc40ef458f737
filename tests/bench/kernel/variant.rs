//! What is attached while a load runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use monitor_common::Kind;
use smart_monitor::kernel::{CounterReader, Kernel, Options, ProbeState};

use super::reader::{Reader, Wakes};
use super::tools::{Running, Tool, Tools};

/// What attaching and detaching set off in the kernel is over by then.
const SETTLE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    None,
    /// One program that does nothing, at `sched_switch`.
    Empty,
    /// Ours, the one at `sched_switch` alone.
    RunQueue,
    /// Ours, those of the network alone.
    Network,
    /// Ours, those that look at disks alone.
    Disks,
    /// Ours, with the default options.
    Everything,
    /// Another's that measures the same, or less.
    Other(Tool),
}

impl Variant {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty tp_btf",
            Self::RunQueue => "ours, run queue only",
            Self::Network => "ours, network only",
            Self::Disks => "ours, disks only",
            Self::Everything => "ours, everything on",
            Self::Other(tool) => tool.name(),
        }
    }

    /// Attached, with the effects of that over, until it is dropped.
    pub(super) fn attach(self, tools: &Tools) -> Result<Attached> {
        let attached = match self {
            Self::None => Attached::Nothing,
            Self::Empty => Attached::Empty(Box::new(for_bench(Kind::BenchEmpty)?)),
            Self::RunQueue => Attached::ours(&only(&[Kind::RunQueueLatency]))?,
            Self::Network => Attached::ours(&only(&NETWORK))?,
            Self::Disks => Attached::ours(&only(&[Kind::BlockIo]))?,
            Self::Everything => Attached::ours(&Options {
                // Or the loop of short-lived processes would be an event itself.
                forks_per_second: u32::MAX,
                ..Options::default()
            })?,
            Self::Other(tool) => Attached::Other(tools.start(tool)?),
        };
        std::thread::sleep(SETTLE);
        if let Attached::Ours(ours) = &attached {
            ours.reader.take();
        }
        Ok(attached)
    }
}

/// The probes of the network that are on from start to end.
const NETWORK: [Kind; 9] = [
    Kind::TcpConnect,
    Kind::TcpReset,
    Kind::TcpRetransmit,
    Kind::PacketDrop,
    Kind::ListenOverflow,
    Kind::SocketOverflow,
    Kind::RouteFailure,
    Kind::SocketError,
    Kind::DnsQuery,
];

/// All probes but these stay off.
pub(super) fn only(wanted: &[Kind]) -> Options {
    let others = Kind::ALL.iter().filter(|kind| !wanted.contains(kind));
    Options {
        disabled: others.map(|kind| kind.name().to_owned()).collect(),
        ..Options::default()
    }
}

/// A probe that only the benchmarks need, and nothing else, attached.
pub(super) fn for_bench(wanted: Kind) -> Result<Kernel> {
    let options = Options {
        bench: true,
        ..only(&[wanted])
    };
    let kernel = load(&options)?;
    kernel.programs().attach(wanted)?;
    Ok(kernel)
}

/// Loads; every probe that was not switched off must run.
pub(super) fn load(options: &Options) -> Result<Kernel> {
    let kernel = Kernel::load(options)?;
    for probe in kernel.probes() {
        let name = probe.kind.name();
        let disabled = options.disabled.iter().any(|disabled| disabled == name);
        if let ProbeState::Off { reason, .. } = &probe.state
            && !disabled
        {
            bail!("probe {name} is off: {reason}");
        }
    }
    Ok(kernel)
}

/// Something attached; gone when it is dropped.
pub(super) enum Attached {
    Nothing,
    Empty(#[expect(dead_code, reason = "held until it is to be detached")] Box<Kernel>),
    Ours(Box<Ours>),
    Other(#[expect(dead_code, reason = "held until it is to be detached")] Running),
}

pub(super) struct Ours {
    reader: Reader,
    kernel: Kernel,
}

impl Attached {
    fn ours(options: &Options) -> Result<Self> {
        Self::with(load(options)?)
    }

    /// With a reader of its rings, as in the daemon.
    pub(super) fn with(mut kernel: Kernel) -> Result<Self> {
        let rings = kernel.take_rings().context("no rings")?;
        let reader = Reader::start(rings)?;
        Ok(Self::Ours(Box::new(Ours { reader, kernel })))
    }

    /// What the programs count, if they are ours.
    pub(super) fn counters(&self) -> Option<CounterReader> {
        match self {
            Self::Ours(ours) => Some(ours.kernel.counters()),
            _ => None,
        }
    }

    /// Does something, and tells what woke the reader meanwhile; nothing does where there is no reader.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Wakes)> {
        let Self::Ours(ours) = self else {
            return Ok((work()?, Wakes::default()));
        };
        let counters = ours.kernel.counters();
        let lost = counters.lost_total();
        ours.reader.take();
        let begin = Instant::now();
        let done = work()?;
        let mut wakes = ours.reader.take();
        wakes.time = begin.elapsed();
        wakes.lost = counters.lost_total() - lost;
        Ok((done, wakes))
    }
}
