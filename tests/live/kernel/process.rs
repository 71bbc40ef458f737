//! The life of processes: who made them, what they run, how they end, and which of it is urgent.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use monitor_common::probes::process_exit::Ending;
use monitor_common::{Event, Kind};
use smart_monitor::kernel::{Kernel, Options};

use super::support::{
    Lane, alone, command, drain, exit_of, load, shell, stat_of_self, total, wait_for,
};

#[test]
fn the_life_of_a_child_is_seen() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings, once");
    assert!(kernel.take_rings().is_none());
    let mut seen = Vec::new();
    let mut child = shell("exit 7");
    let pid = child.id();
    child.wait().expect("it ends");
    let (lane, exit) = exit_of(&mut rings, &mut seen, pid);
    assert_eq!(lane, Lane::Urgent, "the daemon's own child");
    assert_eq!(exit.ending(), Ending::Code(7));
    assert_eq!(exit.parent_pid, std::process::id());
    assert_eq!(exit.task.comm(), "sh");
    assert_eq!(exit.task.tid, pid);
    assert!(
        exit.lifetime_ns > 0 && exit.lifetime_ns < 60_000_000_000,
        "{}",
        exit.lifetime_ns
    );
    let fork = wait_for(&mut rings, &mut seen, "the fork", |_, event| match event {
        Event::ProcessFork(fork) if fork.task.pid == pid => Some(*fork),
        _ => None,
    });
    let (lane, exec) = wait_for(
        &mut rings,
        &mut seen,
        "the exec",
        |lane, event| match event {
            Event::ProcessExec(exec) if exec.task.pid == pid => Some((lane, *exec)),
            _ => None,
        },
    );
    assert_eq!(lane, Lane::Urgent);
    assert_eq!(exec.task.comm(), "sh");
    assert_eq!(
        (fork.parent_pid, exec.parent_pid),
        (std::process::id(), std::process::id())
    );
    assert_eq!(fork.task.start_time_ns, exit.task.start_time_ns);
    assert_eq!(exec.task.start_time_ns, exit.task.start_time_ns);
    let times = [
        fork.header.time_ns,
        exec.header.time_ns,
        exit.header.time_ns,
    ];
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn the_signal_that_ends_a_process_is_told() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    let mut child = shell("kill -TERM $$");
    child.wait().expect("it ends");
    let (_, exit) = exit_of(&mut rings, &mut Vec::new(), child.id());
    assert_eq!(exit.ending(), Ending::Signal(15));
}

#[test]
fn the_end_of_a_process_is_told_once_however_many_threads_it_has() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    let mut child = command("python3")
        .args(["-c", "import threading, time, os\nfor _ in range(8): threading.Thread(target=time.sleep, args=(60,)).start()\nos._exit(5)"])
        .spawn()
        .expect("python3 is there");
    child.wait().expect("it ends");
    let mut seen = Vec::new();
    let (_, exit) = exit_of(&mut rings, &mut seen, child.id());
    assert_eq!(exit.ending(), Ending::Code(5));
    std::thread::sleep(Duration::from_millis(50));
    drain(&mut rings, &mut seen);
    let ends = seen.iter().filter(
        |(_, event)| matches!(event, Event::ProcessExit(exit) if exit.task.pid == child.id()),
    );
    assert_eq!(ends.count(), 1);
    let forks = seen.iter().filter(
        |(_, event)| matches!(event, Event::ProcessFork(fork) if fork.task.pid == child.id()),
    );
    assert_eq!(forks.count(), 1, "threads are not processes");
}

#[test]
fn a_watched_process_is_urgent_and_another_is_not() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut watch_list = kernel.watch_list().expect("the list");
    let mut rings = kernel.take_rings().expect("the rings");
    let mut events = Vec::new();
    let mut ends = |watch: bool| {
        // A grandchild, so that it is nobody's but the list's business.
        let mut child = shell("sleep 0.3 & echo $!; wait $!");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let grandchild: u32 = line.trim().parse().expect("a process id");
        if watch {
            watch_list.watch(grandchild).expect("room on the list");
        }
        child.wait().expect("it ends");
        let ring = exit_of(&mut rings, &mut events, grandchild).0;
        watch_list.unwatch(grandchild).expect("off the list");
        watch_list
            .unwatch(grandchild)
            .expect("off the list already");
        ring
    };
    assert_eq!(ends(false), Lane::Bulk);
    assert_eq!(ends(true), Lane::Urgent);
}

#[test]
fn an_urgent_event_wakes_its_reader() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    let mut child = shell("sleep 0.3; exit 0");
    let timeout = rustix::time::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let fds = &mut [rustix::event::PollFd::from_borrowed_fd(
        rings.urgent.fd(),
        rustix::event::PollFlags::IN,
    )];
    let woken = rustix::event::poll(fds, Some(&timeout)).expect("poll works");
    assert_eq!(
        woken, 1,
        "the start of a child of the daemon wakes its reader"
    );
    child.wait().expect("it ends");
    exit_of(&mut rings, &mut Vec::new(), child.id());
}

#[test]
fn every_end_in_a_burst_is_received_or_counted_as_lost() {
    const BURST: usize = 10_000;
    let _alone = alone();
    for reading in [true, false] {
        let mut kernel = load(&Options {
            cgroup_events_per_second: u32::MAX,
            ..Options::default()
        });
        let mut rings = kernel.take_rings().expect("the rings");
        let rss_before = stat_of_self()[21];
        let mut child = shell(&format!(
            "i=0; while [ $i -lt {BURST} ]; do (exit 3) & i=$((i+1)); done; wait"
        ));
        let parent = child.id();
        let (mut ours, mut ends, mut records) = (0, 0, 0);
        let mut each = |event: Event| {
            records += 1;
            if let Event::ProcessExit(exit) = event {
                ends += 1;
                ours += usize::from(exit.parent_pid == parent && exit.ending() == Ending::Code(3));
            }
        };
        while child.try_wait().expect("it is ours").is_none() {
            if reading {
                rings.bulk.drain(usize::MAX, &mut each);
                rings.urgent.drain(usize::MAX, &mut each);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        rings.bulk.drain(usize::MAX, &mut each);
        rings.urgent.drain(usize::MAX, &mut each);
        let counters = total(&kernel, Kind::ProcessExit);
        let lost = usize::try_from(counters.lost).expect("few");
        println!(
            "reading {reading}: {ours} of {BURST} ends received, {lost} ends lost, {records} records"
        );
        assert_eq!(ends, counters.emitted, "what was emitted was received");
        assert!(ours <= BURST, "{ours} ends of {BURST} processes");
        assert!(
            ours + lost >= BURST,
            "{ours} received and {lost} lost of {BURST}"
        );
        assert_eq!(kernel.counters().lost_total() > 0, total_lost(&kernel) > 0);
        assert_eq!(kernel.counters().lost_total(), total_lost(&kernel));
        if reading {
            assert_eq!(lost, 0, "a reader that reads loses nothing");
        } else {
            assert!(lost > 0, "a ring of 1 MiB does not hold {BURST} lives");
        }
        let grown = stat_of_self()[21].saturating_sub(rss_before);
        assert!(grown < 2_048, "grew by {grown} pages");
    }
}

fn total_lost(kernel: &Kernel) -> u64 {
    kernel
        .counters()
        .read()
        .iter()
        .map(|probe| probe.total().lost)
        .sum()
}
