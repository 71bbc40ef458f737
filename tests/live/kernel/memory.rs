//! Who the kernel kills for lack of memory, and who has to reclaim it first.

use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::direct_reclaim::SCOPE_CGROUP;
use monitor_common::probes::oom_kill::{CAUSE_CGROUP, OomKill};
use monitor_common::probes::process_exit::Ending;
use smart_monitor::kernel::Options;

use super::stage::{Actor, Group};
use super::support::{Lane, Live, alone, exit_of, load, shell, wait_for};

#[test]
fn a_victim_of_the_oom_killer_is_told_with_what_it_held() {
    const LIMIT: u64 = 32 << 20;
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    let group = Group::v1("memory");
    group.set("memory.limit_in_bytes", &LIMIT.to_string());
    // One endless line: tail keeps it in memory.
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec tail /dev/zero",
        group.folder().display()
    );
    let mut child = shell(&script);
    child.wait().expect("it is killed");
    let mut seen = Vec::new();
    let (lane, oom) = wait_for(
        &mut rings,
        &mut seen,
        "an OOM kill",
        |lane, event| match event {
            Event::OomKill(oom) if oom.task.pid == child.id() => Some((lane, *oom)),
            _ => None,
        },
    );
    assert_eq!(lane, Lane::Urgent);
    assert_eq!(oom.task.comm(), "tail");
    assert_eq!(oom.trigger_pid, child.id());
    assert_eq!(oom.oom_score_adj, 0);
    let held = oom.anon_pages * 4_096;
    assert!(
        held > LIMIT / 2 && held <= LIMIT,
        "{held} bytes under a limit of {LIMIT}"
    );
    let (_, exit) = exit_of(&mut rings, &mut seen, child.id());
    assert_eq!(exit.ending(), Ending::Signal(9));
    drop(group);
}

fn oom_of(live: &mut Live, pid: u32) -> OomKill {
    live.wait_for("an OOM kill", |event| match event {
        Event::OomKill(oom) if oom.task.pid == pid => Some(*oom),
        _ => None,
    })
}

#[test]
fn what_a_victim_held_is_split_by_kind_and_the_cgroup_is_to_blame() {
    const MIB: u64 = 256;
    let mut live = Live::new(&Options::default());
    let group = Group::v1("memory");
    group.set("memory.limit_in_bytes", &(64 * MIB * 4_096).to_string());
    let mut actor = Actor::new(
        &[&group],
        "
file = os.memfd_create('shared'); os.ftruncate(file, 24 << 20)
shared = mmap.mmap(file, 24 << 20)
for at in range(0, 24 << 20, 4096): shared[at] = 1
anon = [touch(16 << 20)]
say('holds'); hear()
while True: anon.append(touch(1 << 20))",
    );
    let pid = actor.pid();
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), "300").expect("root may");
    actor.go();
    assert_eq!(actor.line(), "holds");
    actor.go();
    let status = actor.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    let oom = oom_of(&mut live, pid);
    assert_eq!(oom.cause, CAUSE_CGROUP);
    assert_eq!((oom.trigger_pid, oom.oom_score_adj), (pid, 300));
    assert_eq!(oom.trigger_comm, oom.task.comm);
    assert!(
        oom.shmem_pages.abs_diff(24 * MIB) <= MIB,
        "{} pages shared",
        oom.shmem_pages
    );
    let charged = oom.anon_pages + oom.shmem_pages;
    // What it held before it came into the cgroup is not charged to it.
    assert!(
        oom.anon_pages >= 30 * MIB && (60 * MIB..80 * MIB).contains(&charged),
        "{oom:?}"
    );
    // The program and its libraries.
    assert!((1..64 * MIB).contains(&oom.file_pages), "{oom:?}");
}

#[test]
fn one_who_asks_for_memory_can_cost_another_its_life_and_is_told() {
    let mut live = Live::new(&Options::default());
    let group = Group::v1("memory");
    group.set("memory.limit_in_bytes", &(64_u64 << 20).to_string());
    let mut big = Actor::new(&[&group], "memory = touch(40 << 20); say('holds'); hear()");
    let mut small = Actor::new(
        &[&group],
        "memory = []\nwhile True: memory.append(touch(1 << 18)); time.sleep(0.001)",
    );
    big.go();
    assert_eq!(big.line(), "holds");
    std::fs::write(format!("/proc/{}/oom_score_adj", big.pid()), "1000").expect("root may");
    small.go();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&big.wait()),
        Some(9)
    );
    let oom = oom_of(&mut live, big.pid());
    assert_eq!((oom.trigger_pid, oom.cause), (small.pid(), CAUSE_CGROUP));
    assert!(oom.anon_pages >= 40 << 8, "{oom:?}");
}

#[test]
fn reclaim_for_the_limit_of_a_cgroup_says_so() {
    let mut live = Live::new(&Options {
        reclaim_threshold: Duration::ZERO,
        ..Options::default()
    });
    let (limited, group) = (Group::v1("memory"), Group::new());
    limited.set("memory.limit_in_bytes", &(48_u64 << 20).to_string());
    let mut actor = Actor::new(
        &[&limited, &group],
        "
import tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(256 << 20)
    while file.read(1 << 20): pass
say('done'); hear()",
    );
    actor.go();
    assert_eq!(actor.line(), "done");
    let failed: u64 = limited.get("memory.failcnt").parse().expect("a number");
    assert!(failed > 0, "the cgroup met its limit");
    let pid = actor.pid();
    let stalls = live.all(|event| match event {
        Event::DirectReclaim(stall) if stall.task.pid == pid => Some(*stall),
        _ => None,
    });
    assert!(stalls.len() >= 10, "{} stalls", stalls.len());
    let pages: u64 = stalls.iter().map(|stall| stall.reclaimed_pages).sum();
    // All but what the limit leaves room for was read, and thrown away again.
    assert!(pages >= 150 << 8, "{pages} pages reclaimed");
    for stall in stalls {
        assert_eq!(
            (stall.scope, stall.task.cgroup_id),
            (SCOPE_CGROUP, group.id())
        );
    }
}
