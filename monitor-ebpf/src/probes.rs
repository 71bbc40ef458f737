//! Every probe's programs. The other line to add for a new one is in `monitor-common/src/probes.rs`.

mod direct_reclaim;
mod oom_kill;
mod process_exec;
mod process_exit;
mod process_fork;
mod run_queue_latency;
mod task_snapshot;
mod tcp_connect;
