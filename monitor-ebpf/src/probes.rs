//! Every probe's programs. The other line to add for a new one is in `monitor-common/src/probes.rs`.

mod bench_empty;
mod bench_load;
pub(crate) mod block_io;
mod cgroup_change;
mod connect_error;
mod direct_reclaim;
mod dns_query;
mod event_throttle;
mod fork_storm;
mod listen_overflow;
mod memory_ceiling;
mod off_cpu;
mod oom_kill;
mod packet_drop;
mod process_exec;
mod process_exit;
mod process_fork;
mod process_signal;
mod route_failure;
mod run_queue_latency;
mod service_latency;
mod socket_error;
mod socket_overflow;
mod task_snapshot;
mod tcp_connect;
mod tcp_reset;
mod tcp_retransmit;
