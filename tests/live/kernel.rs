//! The kernel half on the running kernel: every probe loads, and one real event of each arrives.
//!
//! Needs root, the object (`cargo xtask build`) and a kernel with BTF; without them the tests fail, they are never
//! skipped. They touch only processes and cgroups that they make. One kernel at a time, so that the daemon whose
//! children are urgent is always the one under test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use monitor_common::probes::process_exit::{Ending, ProcessExit};
use monitor_common::{Event, Kind};
use smart_monitor::kernel::{Kernel, Options, ProbeState, Rings};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long to wait for an event that must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn load(options: &Options) -> Kernel {
    let loaded = Kernel::load(options).map_err(|error| error.to_string());
    loaded.expect("the live tests need a kernel half that loads")
}

/// A command; these tests are the ones who spawn.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests make the processes that the probes see"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn shell(script: &str) -> Child {
    command("sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh is there")
}

/// Which ring an event came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Urgent,
    Bulk,
}

fn drain(rings: &mut Rings, into: &mut Vec<(Lane, Event)>) {
    let urgent = rings
        .urgent
        .drain(usize::MAX, |event| into.push((Lane::Urgent, event)));
    let bulk = rings
        .bulk
        .drain(usize::MAX, |event| into.push((Lane::Bulk, event)));
    assert_eq!(urgent.malformed + bulk.malformed, 0, "malformed records");
}

/// Reads both rings until an event answers.
fn wait_for<T>(
    rings: &mut Rings,
    seen: &mut Vec<(Lane, Event)>,
    what: &str,
    find: impl Fn(Lane, &Event) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        drain(rings, seen);
        if let Some(found) = seen.iter().find_map(|(lane, event)| find(*lane, event)) {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "no event of {what} among {} events",
            seen.len()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn exit_of(rings: &mut Rings, seen: &mut Vec<(Lane, Event)>, pid: u32) -> (Lane, ProcessExit) {
    wait_for(rings, seen, "an exit", |lane, event| match event {
        Event::ProcessExit(exit) if exit.task.pid == pid => Some((lane, *exit)),
        _ => None,
    })
}

#[test]
fn every_probe_is_on_and_every_program_is_in_the_object() {
    let _alone = alone();
    let mut kernel = load(&Options {
        bench: true,
        ..Options::default()
    });
    assert!(kernel.take_log().is_some(), "the programs' own messages");
    for probe in kernel.probes() {
        assert!(
            probe.state.is_on(),
            "{} is off: {:?}",
            probe.kind.name(),
            probe.state
        );
        assert!(
            probe.without.is_empty(),
            "{} lacks {:?}",
            probe.kind.name(),
            probe.without
        );
    }
    let kinds: Vec<_> = kernel.probes().iter().map(|probe| probe.kind).collect();
    assert_eq!(kinds, Kind::ALL);
    let mut stated: Vec<_> = Kind::ALL
        .iter()
        .flat_map(|kind| kind.spec().programs.iter().map(|program| program.name))
        .collect();
    stated.sort_unstable();
    assert_eq!(kernel.program_names(), stated);
}

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

fn connect_event(
    rings: &mut Rings,
    peer: SocketAddr,
) -> (Lane, monitor_common::probes::tcp_connect::TcpConnect) {
    wait_for(
        rings,
        &mut Vec::new(),
        "a connection",
        |lane, event| match event {
            Event::TcpConnect(connect) if connect.peer() == peer => Some((lane, *connect)),
            _ => None,
        },
    )
}

#[test]
fn a_refused_connection_is_urgent_and_a_made_one_is_not() {
    const ECONNREFUSED: u32 = 111;
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(local).expect("a free port");
        let peer = listener.local_addr().expect("its address");
        let stream = TcpStream::connect(peer).expect("it listens");
        let (lane, made) = connect_event(&mut rings, peer);
        assert_eq!((lane, made.error), (Lane::Bulk, 0));
        assert_eq!(made.task.pid, std::process::id());
        assert_eq!(
            made.local_port,
            stream.local_addr().expect("its address").port()
        );
        drop((stream, listener));
        TcpStream::connect(peer).expect_err("nobody listens now");
        let (lane, refused) = connect_event(&mut rings, peer);
        assert_eq!((lane, refused.error), (Lane::Urgent, ECONNREFUSED));
        assert_eq!(refused.task.pid, std::process::id());
        assert!(refused.latency_ns < 1_000_000_000);
    }
}

#[test]
fn a_connection_that_its_caller_gives_up_says_so() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    // A full backlog: the kernel drops further connections without an answer.
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .expect("a socket");
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    rustix::net::listen(&listener, 0).expect("it listens");
    let peer = rustix::net::getsockname(&listener).expect("its address");
    let peer = SocketAddr::try_from(peer).expect("an address of the internet");
    let _first = TcpStream::connect(peer).expect("the backlog holds one");
    TcpStream::connect_timeout(&peer, Duration::from_millis(200)).expect_err("the backlog is full");
    let given_up = wait_for(
        &mut rings,
        &mut Vec::new(),
        "a connection",
        |_, event| match event {
            Event::TcpConnect(connect) if connect.peer() == peer && connect.error != 0 => {
                Some(*connect)
            }
            _ => None,
        },
    );
    assert_eq!(
        given_up.error,
        monitor_common::probes::tcp_connect::ECONNABORTED
    );
    assert!(
        given_up.latency_ns >= 190_000_000,
        "{}",
        given_up.latency_ns
    );
}

#[test]
fn a_connection_without_a_free_local_port_says_so() {
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    // The same two ports cannot be connected twice.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = listener.local_addr().expect("its address");
    let first = TcpStream::connect(peer).expect("it listens");
    let own = first.local_addr().expect("its address").port();
    // A port range of one port, for one socket only.
    let script = format!(
        "import socket, struct, sys\ns = socket.socket()\ns.setsockopt(0, 51, struct.pack('I', {own} << 16 | {own}))\n\
         sys.exit(s.connect_ex(('127.0.0.1', {})))",
        peer.port()
    );
    let child = command("python3").args(["-c", &script]).status();
    let errno = child.expect("python3 is there").code();
    assert_eq!(errno, Some(99), "IP_LOCAL_PORT_RANGE needs 6.3");
    let failed = wait_for(
        &mut rings,
        &mut Vec::new(),
        "a connection",
        |_, event| match event {
            Event::TcpConnect(connect) if connect.peer() == peer && connect.error != 0 => {
                Some(*connect)
            }
            _ => None,
        },
    );
    assert_eq!(
        failed.error,
        monitor_common::probes::tcp_connect::EADDRNOTAVAIL
    );
}

#[test]
fn a_long_wait_for_a_cpu_is_an_event_and_every_wait_is_counted() {
    let _alone = alone();
    let options = Options {
        run_queue_threshold: Duration::from_micros(500),
        ..Options::default()
    };
    let mut kernel = load(&options);
    let mut rings = kernel.take_rings().expect("the rings");
    let before: u64 = kernel.counters().run_queue_histogram().iter().sum();
    let stop = Instant::now() + Duration::from_millis(400);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut one = rustix::thread::CpuSet::new();
                one.set(0);
                rustix::thread::sched_setaffinity(None, &one).expect("CPU 0 is there");
                while Instant::now() < stop {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it ends");
    }
    let wait = wait_for(
        &mut rings,
        &mut Vec::new(),
        "a wait",
        |_, event| match event {
            // Elsewhere, a thread may have waited before it pinned itself.
            Event::RunQueueLatency(wait)
                if wait.task.pid == std::process::id() && wait.header.cpu == 0 =>
            {
                Some(*wait)
            }
            _ => None,
        },
    );
    assert!(
        wait.wait_ns > 500_000 && wait.wait_ns < 2_000_000_000,
        "{}",
        wait.wait_ns
    );
    let after: u64 = kernel.counters().run_queue_histogram().iter().sum();
    assert!(after > before + 10, "{before} waits, then {after}");
    let counters = total(&kernel, Kind::RunQueueLatency);
    // A task moved between CPUs can carry a stamp of the other CPU's clock: seldom, counted, and not in the histogram.
    assert!(
        counters.implausible * 100 <= after,
        "{} implausible waits of {after}",
        counters.implausible
    );
    assert!(counters.emitted > 0);
}

fn total(kernel: &Kernel, kind: Kind) -> monitor_common::counters::ProbeCounters {
    let probes = kernel.counters().read();
    probes
        .iter()
        .find(|probe| probe.kind == kind)
        .expect("every kind has counters")
        .total()
}

fn processes_in_proc() -> Vec<u32> {
    std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Fields of `/proc/PID/stat` after the name; the first is the state, field 3 of the manual.
fn stat_of_self() -> Vec<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    fields
        .split_ascii_whitespace()
        .map(|field| field.parse().unwrap_or(0))
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

#[test]
fn every_end_in_a_burst_is_received_or_counted_as_lost() {
    const BURST: usize = 10_000;
    let _alone = alone();
    for reading in [true, false] {
        let mut kernel = load(&Options::default());
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

/// A memory cgroup of the test's own, removed at the end.
struct MemoryGroup {
    folder: std::path::PathBuf,
}

impl MemoryGroup {
    fn new(limit: u64) -> Self {
        let first = std::path::Path::new("/sys/fs/cgroup/memory");
        let (root, file) = if first.is_dir() {
            (first, "memory.limit_in_bytes")
        } else {
            (std::path::Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let folder = root.join(format!("smart-monitor-test-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("root may make a memory cgroup");
        let group = Self { folder };
        std::fs::write(group.folder.join(file), limit.to_string()).expect("the limit is set");
        group
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its last process is reaped a moment before the kernel lets the folder go.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("{} is left behind", self.folder.display());
    }
}

#[test]
fn a_victim_of_the_oom_killer_is_told_with_what_it_held() {
    const LIMIT: u64 = 32 << 20;
    let _alone = alone();
    let mut kernel = load(&Options::default());
    let mut rings = kernel.take_rings().expect("the rings");
    let group = MemoryGroup::new(LIMIT);
    // One endless line: tail keeps it in memory.
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec tail /dev/zero",
        group.folder.display()
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

#[test]
fn a_refused_program_takes_no_other_with_it() {
    let _alone = alone();
    let refused = Options {
        refuse: vec!["tcp_connect".into()],
        ..Options::default()
    };
    let mut kernel = load(&refused);
    for probe in kernel.probes() {
        match (&probe.state, probe.kind) {
            (ProbeState::Off { reason, fix }, Kind::TcpConnect) => {
                assert!(
                    reason.starts_with("the kernel's verifier refuses its program: "),
                    "{reason}"
                );
                assert!(reason.len() < 600 && !fix.is_empty(), "{reason}");
            }
            (state, kind) => assert!(state.is_on(), "{} is {state:?}", kind.name()),
        }
    }
    let mut rings = kernel.take_rings().expect("the rings");
    let mut child = shell("exit 0");
    child.wait().expect("it ends");
    exit_of(&mut rings, &mut Vec::new(), child.id());
}

#[test]
fn a_member_that_reads_wrong_turns_off_what_relies_on_it() {
    let _alone = alone();
    let broken = Options {
        break_offsets: vec!["task_struct.start_boottime".into()],
        ..Options::default()
    };
    let mut kernel = load(&broken);
    for probe in kernel.probes() {
        let ProbeState::Off { reason, .. } = &probe.state else {
            panic!("{} is on, and reports a wrong start", probe.kind.name())
        };
        assert!(reason.contains("task_struct.start_boottime"), "{reason}");
    }
    assert!(kernel.take_snapshot().is_none());
}

#[test]
fn a_disabled_probe_is_off_and_says_why() {
    let _alone = alone();
    let options = Options {
        disabled: vec!["run_queue_latency".into(), "task_snapshot".into()],
        ..Options::default()
    };
    let mut kernel = load(&options);
    for probe in kernel.probes() {
        let disabled = options
            .disabled
            .iter()
            .any(|name| name == probe.kind.name());
        assert_eq!(probe.state.is_on(), !disabled, "{probe:?}");
    }
    assert!(kernel.take_snapshot().is_none());
}

#[test]
fn the_cost_of_the_programs_is_measured_when_asked() {
    let _alone = alone();
    let kernel = load(&Options {
        stats: true,
        ..Options::default()
    });
    let cost = |kernel: &Kernel| {
        let costs = kernel.counters().program_costs();
        costs
            .into_iter()
            .find(|cost| cost.name == "process_exec")
            .expect("it is loaded")
            .run_count
    };
    shell("exit 0").wait().expect("it ends");
    let measured = cost(&kernel);
    assert!(measured > 0);
    kernel.set_stats(false).expect("off");
    let reader = kernel.counters();
    drop(kernel);
    assert!(reader.program_costs().is_empty(), "the programs are gone");
}
