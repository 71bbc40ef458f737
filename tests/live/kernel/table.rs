//! The process table, against `/proc`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use monitor_common::probes::task_snapshot::TaskSnapshot;
use smart_monitor::host::procfs;
use smart_monitor::kernel::{Options, Snapshot};

use super::stage::{Actor, kill, switches};
use super::support::{Live, alone, load, stat_of_self};

fn processes_in_proc() -> Vec<u32> {
    std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[test]
fn the_process_table_agrees_with_proc() {
    const TICK_NS: u64 = 10_000_000;
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut snapshot = kernel.take_snapshot().expect("its probe is on");
    // Some CPU time, so that there is something to compare.
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    let before = processes_in_proc();
    let mut tasks = Vec::new();
    snapshot.read(&mut tasks).expect("the iterator works");
    let stat = stat_of_self();
    let after = processes_in_proc();
    assert!(!snapshot.truncated());

    let leaders: HashMap<u32, _> = tasks
        .iter()
        .filter(|task| task.flags & monitor_common::probes::task_snapshot::FLAG_LEADER != 0)
        .map(|task| (task.task.pid, task))
        .collect();
    // Process 1 is left out: some sandboxes' kernels hide their own init from iterators.
    let lasting = before
        .iter()
        .filter(|pid| **pid != 1 && after.contains(pid));
    for pid in lasting {
        assert!(
            leaders.contains_key(pid),
            "process {pid} is in /proc and not in the table"
        );
    }
    let own = leaders.get(&std::process::id()).expect("this process");
    let threads: Vec<_> = tasks
        .iter()
        .filter(|task| task.task.pid == std::process::id())
        .collect();
    assert_eq!(threads.len() as u64, stat[17], "threads");
    assert_eq!(u64::from(own.parent_pid), stat[1], "parent");
    assert!(
        (own.task.start_time_ns / TICK_NS).abs_diff(stat[19]) <= 1,
        "start"
    );
    let cpu_ns: u64 = threads.iter().map(|task| task.cpu_ns).sum();
    let proc_ns = (stat[11] + stat[12]) * TICK_NS;
    assert!(
        cpu_ns.abs_diff(proc_ns) < 60_000_000,
        "{cpu_ns} ns of CPU here, {proc_ns} in /proc"
    );
    assert!(
        own.rss_pages.abs_diff(stat[21]) < 600,
        "{} pages here, {} in /proc",
        own.rss_pages,
        stat[21]
    );
    let faults: u64 = threads.iter().map(|task| task.minor_faults).sum();
    assert!(
        faults.abs_diff(stat[7]) < 1_000,
        "{faults} faults here, {} in /proc",
        stat[7]
    );
    assert!(own.task.cgroup_id > 0);
}

/// The table's record of a process's first thread.
fn entry(snapshot: &mut Snapshot, pid: u32) -> TaskSnapshot {
    let mut tasks = Vec::new();
    snapshot.read(&mut tasks).expect("the iterator works");
    let found = tasks.into_iter().find(|task| task.task.tid == pid);
    found.expect("it is in the table")
}

#[test]
fn state_user_and_switches_are_as_proc_says() {
    let mut live = Live::new(&Options::default());
    let mut snapshot = live.kernel.take_snapshot().expect("its probe is on");
    let mut actor = Actor::new(
        &[],
        "
for _ in range(300): time.sleep(0.0005)
os.setuid(4321); say('slept'); hear()
spin(time.monotonic() + 2)
say('spun'); hear()
# The child of a vfork runs in its parent, which sleeps and cannot be woken: until the child ends, neither can be resumed.
libc.vfork()
libc.pause()",
    );
    let pid = actor.pid();
    actor.go();
    assert_eq!(actor.line(), "slept");
    actor.asleep();
    let sleeping = entry(&mut snapshot, pid);
    assert_eq!((sleeping.state & 1, sleeping.uid), (1, 4_321));
    assert!(!sleeping.is_uninterruptible());
    assert!(sleeping.switches >= 300);
    assert_eq!(sleeping.switches, switches(pid));
    assert_eq!(
        sleeping.task.start_time_ns / 10_000_000,
        actor.key().start_ticks
    );
    assert_eq!(
        entry(&mut snapshot, pid).switches,
        sleeping.switches,
        "it has not run"
    );
    actor.go();
    live.until("a process that runs", || {
        procfs::stat(pid).expect("it runs").state == 'R'
    });
    assert_eq!(entry(&mut snapshot, pid).state, 0);
    assert_eq!(actor.line(), "spun");
    actor.go();
    live.until("a process that cannot be woken", || {
        procfs::stat(pid).expect("it runs").state == 'D'
    });
    let stuck = entry(&mut snapshot, pid);
    assert!(stuck.is_uninterruptible(), "{:x}", stuck.state);
    let mut tasks = Vec::new();
    snapshot.read(&mut tasks).expect("the iterator works");
    let child = tasks.iter().find(|task| task.parent_pid == pid);
    let child = child.expect("the child of a vfork");
    assert!(!child.is_uninterruptible());
    kill(child.task.pid);
    kill(pid);
}
