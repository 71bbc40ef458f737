//! `cargo xtask bench`: the figures of the README, measured on this machine, with the daemon as users run it.
//!
//! Needs root and `SMART_MONITOR_BIN`. Every daemon it starts has a configuration, a state folder and ports of its own. It prints medians
//! and 99th percentiles, and for kills also what other supervisors need for the same on the same machine.

#[path = "bench/checks.rs"]
mod checks;
#[path = "bench/cost.rs"]
mod cost;
#[path = "bench/daemon.rs"]
mod daemon;
#[path = "bench/down.rs"]
mod down;
#[path = "bench/emergency.rs"]
mod emergency;
#[path = "bench/kernel.rs"]
mod kernel;
#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/network.rs"]
mod network;
#[path = "bench/peers.rs"]
mod peers;
#[path = "bench/policy.rs"]
mod policy;
#[path = "bench/recovery.rs"]
mod recovery;
#[path = "bench/replay.rs"]
mod replay;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/service.rs"]
mod service;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use self::report::Report;

/// Measure what Smart-Monitor costs and how fast it is. As root, with the daemon's path in `SMART_MONITOR_BIN`.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// What to measure; everything when nothing is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Kills of a service.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Leaks over a memory ceiling.
    #[arg(long, default_value_t = 20)]
    memory_rounds: usize,
    /// Hogs that take the host's memory, under each memory killer.
    #[arg(long, default_value_t = 15)]
    emergency_rounds: usize,
    /// Starts of the daemon.
    #[arg(long, default_value_t = 10)]
    start_rounds: usize,
    /// Kills under each other supervisor.
    #[arg(long, default_value_t = 20)]
    peer_rounds: usize,
    /// Kills of a service under each supervisor, ours among them, in turns.
    #[arg(long, default_value_t = 30)]
    recovery_rounds: usize,
    /// Rounds of each measurement of the kernel programs; in each, every variant has its turn.
    #[arg(long, default_value_t = 15)]
    kernel_rounds: usize,
    /// Rounds of each measurement of decisions; in each, every kind has its turn.
    #[arg(long, default_value_t = 15)]
    policy_rounds: usize,
    /// Of the kernel programs, measure only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    kernel_only: Vec<kernel::Section>,
    /// Replays of each recording.
    #[arg(long, default_value_t = 5)]
    replay_rounds: usize,
    /// Times that each fault of a network is repaired.
    #[arg(long, default_value_t = 5)]
    network_rounds: usize,
    /// Length of the idle measurement.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Install what is compared with and missing: PM2 (npm), supervisord (pip) and Monit (apt) into a temporary folder, for
    /// `kernel` libbpf-tools and bpftrace (apt) into the system, for `emergency` earlyoom and nohang (apt) into a temporary folder.
    #[arg(long)]
    peers: bool,
    /// Print JSON and no table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// A service is killed: time until that is known, and until it serves again.
    Down,
    /// A service leaks over its ceiling: time until it is dead and its memory back.
    Memory,
    /// A hog takes the host's memory at full speed: time until it is killed, by us and by other memory killers.
    Emergency,
    /// CPU and memory of the daemon with nothing to do.
    Idle,
    /// What a thousand health checks a second cost, and how well they keep to their times.
    Checks,
    /// Time from the start of the daemon until it observes.
    Start,
    /// The kills of `down` under other supervisors.
    Peers,
    /// A service is killed under us, under others, and under others whom we watch: time until it serves again.
    Recovery,
    /// How fast it is decided what may be done with 500 rules, and how soon after the event it is done.
    Policy,
    /// What the kernel programs cost and how fast they tell, beside none, an empty one and other tools.
    Kernel,
    /// How large recordings are, and how much faster than real time they are decided again.
    Replay,
    /// A network breaks: time until packets flow again.
    Network,
}

#[derive(Debug, clap::Subcommand)]
enum Hidden {
    /// The service that is killed: reports its start and ends with the bench.
    #[command(hide = true)]
    Service {
        #[arg(long)]
        report: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The service that is killed in `recovery`.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        starts: PathBuf,
    },
    /// What is killed in `emergency`.
    #[command(hide = true)]
    Hog {
        #[arg(long)]
        report: PathBuf,
    },
    /// A part of `kernel` that must be a process of its own.
    #[command(hide = true)]
    KernelPart {
        #[command(subcommand)]
        part: kernel::Part,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.hidden {
        Some(Hidden::Service { report, listen }) => return service::be(report, *listen),
        Some(Hidden::Serve { listen, starts }) => return recovery::service::be(*listen, starts),
        Some(Hidden::Hog { report }) => return emergency::be(report),
        Some(Hidden::KernelPart { part }) => return kernel::be(part),
        None => {}
    }
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the daemon loads kernel programs, which needs root; run `cargo xtask bench`");
    }
    let binary = std::env::var_os("SMART_MONITOR_BIN").map(PathBuf::from);
    let binary = binary
        .filter(|path| path.is_file())
        .context("SMART_MONITOR_BIN does not name the daemon; run `cargo xtask bench`")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become the parent of orphans")?;
    let wanted = |what| args.what.is_empty() || args.what.contains(&what);
    let mut report = Report::new(args.json);
    let measured = measure(args, &binary, &wanted, &mut report);
    let swept = daemon::sweep();
    report.print();
    measured.and(swept)
}

fn measure(
    args: &Args,
    binary: &std::path::Path,
    wanted: &dyn Fn(What) -> bool,
    report: &mut Report,
) -> Result<()> {
    if wanted(What::Start) {
        cost::start(binary, args.start_rounds, report).context("start")?;
    }
    if wanted(What::Idle) {
        cost::idle(binary, args.seconds, report).context("idle")?;
    }
    if wanted(What::Checks) {
        checks::measure(binary, args.seconds, report).context("checks")?;
    }
    let mut own = None;
    if wanted(What::Down) {
        own = Some(down::measure(binary, args.rounds, report).context("down")?);
    }
    if wanted(What::Memory) {
        memory::measure(binary, args.memory_rounds, report).context("memory")?;
    }
    if wanted(What::Emergency) {
        let rounds = args.emergency_rounds;
        emergency::measure(binary, rounds, args.peers, report).context("emergency")?;
    }
    if wanted(What::Policy) {
        policy::measure(binary, args.policy_rounds, args.rounds, report).context("policy")?;
    }
    if wanted(What::Peers) {
        peers::measure(args.peer_rounds, args.peers, own.as_ref(), report);
    }
    if wanted(What::Recovery) {
        let rounds = args.recovery_rounds;
        recovery::measure(binary, rounds, args.peers, report).context("recovery")?;
    }
    if wanted(What::Kernel) {
        let sections = &args.kernel_only;
        kernel::measure(args.kernel_rounds, sections, args.peers, report).context("kernel")?;
    }
    if wanted(What::Replay) {
        replay::measure(args.replay_rounds, report).context("replay")?;
    }
    if wanted(What::Network) {
        network::measure(binary, args.network_rounds, report).context("network")?;
    }
    Ok(())
}
