//! The kernel half on the running kernel: every probe loads, and what it tells is what was brought about.
//!
//! Needs root, the object (`cargo xtask build`), a kernel with BTF, cgroup v2 and the controllers of v1, and Python; without them
//! the tests fail, they are never skipped. They touch only processes and cgroups that they make. One kernel at a time, so that the
//! daemon whose children are urgent is always the one under test. Witnesses are `/proc`, the cgroup file systems, and the status of
//! children; other work on the host may be seen too, so that tests look only for their own.

#[path = "kernel/black_hole.rs"]
mod black_hole;
#[path = "kernel/ceilings.rs"]
mod ceilings;
#[path = "kernel/cgroups.rs"]
mod cgroups;
#[path = "kernel/connections.rs"]
mod connections;
#[path = "kernel/disks.rs"]
mod disks;
#[path = "kernel/dns.rs"]
mod dns;
#[path = "kernel/figures.rs"]
mod figures;
#[path = "kernel/forks.rs"]
mod forks;
#[path = "kernel/latency.rs"]
mod latency;
#[path = "kernel/links.rs"]
mod links;
#[path = "kernel/loading.rs"]
mod loading;
#[path = "kernel/memory.rs"]
mod memory;
#[path = "kernel/namespaces.rs"]
mod namespaces;
#[path = "kernel/network.rs"]
mod network;
#[path = "kernel/process.rs"]
mod process;
#[path = "kernel/rings.rs"]
mod rings;
#[path = "kernel/scheduler.rs"]
mod scheduler;
#[path = "kernel/stage.rs"]
mod stage;
#[path = "kernel/support.rs"]
mod support;
#[path = "kernel/table.rs"]
mod table;
#[path = "kernel/told.rs"]
mod told;
#[path = "kernel/wire.rs"]
mod wire;
