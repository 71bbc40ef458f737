//! What each probe must see. Adding one: a line in [`of`], which does not compile without it, and the act it names.

#[path = "acts/cgroups.rs"]
mod cgroups;
#[path = "acts/disks.rs"]
mod disks;
#[path = "acts/drops.rs"]
mod drops;
#[path = "acts/memory.rs"]
mod memory;
#[path = "acts/network.rs"]
mod network;
#[path = "acts/processes.rs"]
mod processes;
#[path = "acts/scheduler.rs"]
mod scheduler;
#[path = "acts/wire.rs"]
mod wire;

use anyhow::Result;
use monitor_common::Kind;

use super::stage::Stage;

/// Does what a probe must see, and returns once its event has come.
pub(crate) type Act = fn(&mut Stage) -> Result<()>;

/// The act of each probe.
pub(crate) const fn of(kind: Kind) -> Act {
    match kind {
        Kind::ProcessExec => processes::exec,
        Kind::ProcessFork => processes::fork,
        Kind::ProcessExit => processes::exit,
        Kind::RunQueueLatency => scheduler::run_queue_latency,
        Kind::TaskSnapshot => processes::snapshot,
        Kind::OomKill => memory::oom_kill,
        Kind::DirectReclaim => memory::direct_reclaim,
        Kind::TcpConnect => network::tcp_connect,
        Kind::ProcessSignal => processes::signal,
        Kind::ForkStorm => processes::fork_storm,
        Kind::MemoryCeiling => memory::ceiling,
        Kind::OffCpu => scheduler::off_cpu,
        Kind::CgroupChange => cgroups::change,
        Kind::EventThrottle => cgroups::throttle,
        Kind::BenchLoad => scheduler::bench_load,
        Kind::BenchEmpty => scheduler::bench_empty,
        Kind::TcpReset => network::tcp_reset,
        Kind::TcpRetransmit => network::tcp_retransmit,
        Kind::RouteFailure => wire::route_failure,
        Kind::SocketError => wire::socket_error,
        Kind::ConnectError => wire::connect_error,
        Kind::PacketDrop => drops::packet_drop,
        Kind::ListenOverflow => drops::listen_overflow,
        Kind::SocketOverflow => drops::socket_overflow,
        Kind::BlockIo => disks::block_io,
        Kind::DnsQuery => network::dns_query,
        Kind::ServiceLatency => network::service_latency,
    }
}
