//! What each probe must see. Adding one: a line in [`proof`], which does not compile without it, and the act it names.

#[path = "acts/cgroups.rs"]
mod cgroups;
#[path = "acts/memory.rs"]
mod memory;
#[path = "acts/network.rs"]
mod network;
#[path = "acts/processes.rs"]
mod processes;
#[path = "acts/scheduler.rs"]
mod scheduler;

use anyhow::Result;
use monitor_common::Kind;

use super::stage::Stage;

/// How a probe proves that it sees.
pub(crate) enum Proof {
    /// Does what it must see, and returns once its event has come.
    Act(fn(&mut Stage) -> Result<()>),
    /// It never tells anything.
    Silent,
}

/// The proof of each probe.
pub(crate) const fn proof(kind: Kind) -> Proof {
    match kind {
        Kind::ProcessExec => Proof::Act(processes::exec),
        Kind::ProcessFork => Proof::Act(processes::fork),
        Kind::ProcessExit => Proof::Act(processes::exit),
        Kind::RunQueueLatency => Proof::Act(scheduler::run_queue_latency),
        Kind::TaskSnapshot => Proof::Act(processes::snapshot),
        Kind::OomKill => Proof::Act(memory::oom_kill),
        Kind::DirectReclaim => Proof::Act(memory::direct_reclaim),
        Kind::TcpConnect => Proof::Act(network::tcp_connect),
        Kind::ProcessSignal => Proof::Act(processes::signal),
        Kind::ForkStorm => Proof::Act(processes::fork_storm),
        Kind::MemoryCeiling => Proof::Act(memory::ceiling),
        Kind::OffCpu => Proof::Act(scheduler::off_cpu),
        Kind::CgroupChange => Proof::Act(cgroups::change),
        Kind::EventThrottle => Proof::Act(cgroups::throttle),
        Kind::BenchLoad => Proof::Act(scheduler::bench_load),
        Kind::BenchEmpty => Proof::Silent,
        Kind::TcpReset => Proof::Act(network::tcp_reset),
        Kind::TcpRetransmit => Proof::Act(network::tcp_retransmit),
    }
}
