use monitor_common::flow::{AF_INET, TCP, UDP};
use monitor_common::probes::off_cpu::OffCpu;
use monitor_common::probes::run_queue_latency::CULPRITS;
use monitor_common::{Flow, Task};

use super::super::samples;
use super::*;

fn said(event: &Event) -> String {
    what(event, &mut Resolver::none())
}

/// A zeroed event of this kind, changed.
macro_rules! event {
    ($kind:ident, $($field:ident: $value:expr),* $(,)?) => {{
        let Event::$kind(mut event) = samples::any(Kind::$kind) else {
            panic!("of another kind")
        };
        event.task = samples::task();
        $(event.$field = $value;)*
        Event::$kind(event)
    }};
}

#[test]
fn an_exec_says_who_ran_what() {
    let exec = |argv: &[u8], total| said(&samples::exec(argv, total));
    assert_eq!(
        exec(b"curl\0http://x/?a b\0", 19),
        "user 0: curl 'http://x/?a b'"
    );
    assert_eq!(exec(b"sh\0-c\0lon", 900), "user 0: sh -c lon…");
    assert_eq!(exec(b"\x1b[2J\xff\0", 6), "user 0: $'\\x1b[2J\\xff'");
    assert_eq!(exec(b"", 0), "user 0: ");
    let unknown = event!(ProcessExec, uid: UID_UNKNOWN);
    assert!(said(&unknown).starts_with("user unknown: "));
}

#[test]
fn beginnings_and_ends() {
    assert_eq!(said(&event!(ProcessFork, parent_pid: 7)), "child of 7");
    assert_eq!(said(&samples::exit(0)), "exit code 0 after 12.3 ms");
    assert_eq!(said(&samples::exit(3 << 8)), "exit code 3 after 12.3 ms");
    assert_eq!(said(&samples::exit(9)), "killed by SIGKILL after 12.3 ms");
    assert_eq!(
        said(&samples::exit(0x8b)),
        "killed by SIGSEGV, core dumped, after 12.3 ms"
    );
    assert_eq!(
        said(&samples::exit(34)),
        "killed by signal 34 after 12.3 ms"
    );
    assert_eq!(style(&samples::exit(0)), None);
    assert_eq!(style(&samples::exit(9)), Some(Style::Bad));
}

#[test]
fn a_signal_says_who_sent_it() {
    assert_eq!(
        said(&samples::signal(15, 9, b"ba\x1bsh")),
        "SIGTERM from ba\\x1bsh[9]: delivered"
    );
    assert_eq!(
        said(&samples::signal(11, samples::PID, b"web")),
        "SIGSEGV from itself, or the kernel: delivered"
    );
    let pending = event!(ProcessSignal, signal: 9,
        result: 2,
        sender_pid: 1);
    assert_eq!(said(&pending), "SIGKILL from [1]: already pending");
}

#[test]
fn connections_say_to_whom_and_how_it_went() {
    assert_eq!(
        said(&samples::connect(0)),
        "127.0.0.1:80 connected in 43 us"
    );
    assert_eq!(
        said(&samples::connect(111)),
        "127.0.0.1:80 ECONNREFUSED after 43 us: the peer refused it with a reset"
    );
    assert_eq!(
        said(&samples::connect(250)),
        "127.0.0.1:80 error 250 after 43 us: see the error"
    );
}

#[test]
fn memory_is_told_in_bytes() {
    let page = procfs::page_size();
    let mib = |mib: u64| (mib << 20) / page;
    let kill = event!(OomKill, anon_pages: mib(100),
        file_pages: mib(20),
        shmem_pages: mib(3),
        trigger_pid: 5,
        trigger_comm: samples::name(b"eater"),
        oom_score_adj: -17,
        cause: 2);
    assert_eq!(
        said(&kill),
        "OOM-killed with 123.0 MiB: anonymous 100.0 MiB, file 20.0 MiB, shared 3.0 MiB; for the limit of a cgroup; \
         eater[5] asked for more; oom_score_adj -17"
    );
    let stall = event!(DirectReclaim, stall_ns: 2_500_000,
        reclaimed_pages: mib(2),
        scope: 1);
    assert_eq!(
        said(&stall),
        "stalled 2.50 ms for the host's memory, freed 2.0 MiB"
    );
    let crossing = event!(MemoryCeiling, scope: 2,
        limit_pages: mib(64),
        used_pages: mib(65),
        resident_pages: mib(60),
        verdict: 1);
    assert_eq!(
        said(&crossing),
        "65.0 MiB of its cgroup's ceiling of 64.0 MiB, 60.0 MiB of it its own; killed"
    );
}

fn culprit(pid: u32, cgroup_id: u64, held_ns: u64) -> Culprit {
    Culprit {
        held_ns,
        cgroup_id,
        pid,
        kernel_thread: 0,
        comm: samples::name(b"cc\xff"),
    }
}

#[test]
fn a_wait_names_the_main_cause_and_the_largest_holders() {
    let mut culprits = [Culprit::default(); CULPRITS];
    let held = [
        culprit(1, 77, 1_000_000),
        culprit(2, 5, 12_000_000),
        culprit(3, 77, 2_000_000),
        culprit(4, 77, 500_000),
    ];
    culprits[..4].copy_from_slice(&held);
    let wait = event!(RunQueueLatency, wait_ns: 20_000_000,
        idle_ns: 4_000_000,
        culprits: culprits);
    assert_eq!(
        said(&wait),
        "waited 20.0 ms: other cgroups; cc\\xff[2] 60% (cgroup 5), cc\\xff[3] 10%, cc\\xff[1] 5%, others 2%, idle 20%"
    );
    let quota = event!(RunQueueLatency, wait_ns: 20_000_000,
        throttled_ns: 19_000_000);
    assert_eq!(
        said(&quota),
        "waited 20.0 ms: its CPU quota was used up; throttled 95%"
    );
}

#[test]
fn a_wait_off_the_cpu_names_the_system_call() {
    let wait = |wait, syscall| {
        let Event::OffCpu(zero) = samples::any(Kind::OffCpu) else {
            panic!("of another kind")
        };
        let wait_ns = 30_000_000;
        said(&Event::OffCpu(OffCpu {
            wait_ns,
            syscall,
            wait,
            ..zero
        }))
    };
    assert_eq!(wait(0, libc::SYS_fsync), "waited 30.0 ms for I/O in fsync");
    assert_eq!(
        wait(1, 9_999),
        "waited 30.0 ms for a lock in system call 9999"
    );
    assert_eq!(wait(2, -1), "waited 30.0 ms asleep");
    assert_eq!(wait(9, -1), "waited 30.0 ms for something unknown");
}

#[test]
fn a_request_names_disk_and_place_and_how_long_it_took() {
    let mut slow = event!(BlockIo, disk: samples::bytes(b"sda"),
        sector: 123,
        bytes: 4_096,
        device_ns: 152_000_000,
        queued_ns: 3_000_000);
    assert_eq!(
        said(&slow),
        "sda read 4.0 KiB at sector 123: 152 ms (queued 3.00 ms)"
    );
    assert_eq!(style(&slow), Some(Style::Warning));
    let Event::BlockIo(request) = &mut slow else {
        panic!("of another kind")
    };
    (request.status, request.operation) = (10, 1);
    (request.device_ns, request.queued_ns) = (UNKNOWN, UNKNOWN);
    assert_eq!(
        said(&slow),
        "sda write 4.0 KiB at sector 123: EIO, time unknown"
    );
    assert_eq!(style(&slow), Some(Style::Bad));
}

#[test]
fn cgroups_and_storms() {
    assert_eq!(said(&samples::cgroup_made(b"/a/b\x1b")), "made /a/b\\x1b");
    let long = said(&samples::cgroup_made(&[b'x'; 300]));
    assert!(long.ends_with("xx…"), "{long}");
    let removed = event!(CgroupChange, change: 3,
        hierarchy: 4,
        path_len: 2,
        path: samples::bytes(b"/a"));
    assert_eq!(said(&removed), "removed /a (v1 hierarchy 4)");
    let mut storm = event!(ForkStorm, forks: 1_001,
        limit: 1_000,
        guard: 2,
        killed: 3,
        window_ns: 1);
    if let Event::ForkStorm(storm) = &mut storm {
        storm.header.time_ns = 250_000_001;
    }
    assert_eq!(
        said(&storm),
        "1001 forks in 250 ms (limit: 1000 a second); its guard kills, 3 killed"
    );
}

#[test]
fn holding_back_is_told_in_words() {
    let Event::EventThrottle(zero) = samples::any(Kind::EventThrottle) else {
        panic!("of another kind")
    };
    let began = EventThrottle {
        probe: 1,
        began: 1,
        per_second: 2_000,
        ..zero
    };
    assert_eq!(
        throttle(&began, "a.service"),
        "process_exec events of a.service on CPU 0 are held back: more than 2000 a second"
    );
    let ended = EventThrottle {
        began: 0,
        suppressed: 7,
        ..began
    };
    assert_eq!(
        throttle(&ended, "a.service"),
        "process_exec events of a.service on CPU 0 are shown again; 7 were held back"
    );
}

#[test]
fn whatever_the_bytes_a_line_is_one_line_and_harmless() {
    let mut state = 0x5eed_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    for _ in 0..300 {
        for kind in Kind::ALL {
            let event = samples::filled(*kind, &mut next);
            let text = said(&event);
            assert!(!text.chars().any(text::is_unsafe), "{text:?}");
            let Task { comm, pid, .. } = event.task();
            assert!(!process(comm, *pid).chars().any(text::is_unsafe));
            let _ = style(&event);
        }
    }
    for kind in Kind::ALL {
        for byte in [0, 0x80, 0xff] {
            assert!(!said(&samples::filled(*kind, || byte)).contains('\n'));
        }
    }
}

#[test]
fn questions_say_of_whom_and_what_came_of_them() {
    const EXAMPLE: &[u8] = b"\x07example\x03com\0";
    assert_eq!(
        said(&samples::dns(EXAMPLE, 0, 0, 2)),
        "example.com A from 192.0.2.53: NOERROR in 12.0 ms (2 sendings)"
    );
    assert_eq!(
        said(&samples::dns(EXAMPLE, 1, 0, 1)),
        "example.com A from 192.0.2.53: no answer in 12.0 ms"
    );
    assert_eq!(
        said(&samples::dns(EXAMPLE, 2, 3, 1)),
        "example.com A from 192.0.2.53: NXDOMAIN in 12.0 ms; it was given up before"
    );
    let odd = event!(DnsQuery, qtype: 999, truncated: 1, name: [b'\x1b'; 64]);
    assert!(
        said(&odd).starts_with("\\027\\027") && said(&odd).contains("… TYPE999 from "),
        "{}",
        said(&odd)
    );
    assert!(said(&odd).ends_with("; cut, to be asked again over TCP"));
    let style_of = |outcome, rcode| style(&samples::dns(EXAMPLE, outcome, rcode, 1));
    assert_eq!(style_of(0, 0), None);
    assert_eq!(style_of(0, 3), Some(Style::Warning));
    assert_eq!(style_of(0, 2), Some(Style::Bad));
    assert_eq!(style_of(1, 0), Some(Style::Bad));
}

#[test]
fn errors_of_sockets_say_what_was_wanted_and_what_stood_in_the_way() {
    let flow = Flow {
        local_address: samples::bytes(&[10, 0, 0, 2]),
        peer_address: samples::bytes(&[192, 0, 2, 1]),
        local_port: 0,
        peer_port: 443,
        family: AF_INET,
        protocol: TCP,
    };
    let failure = event!(RouteFailure, flow: flow, error: 101, table: 254);
    assert_eq!(
        said(&failure),
        "192.0.2.1:443 ENETUNREACH: no route leads there (TCP, table main)"
    );
    let ping = Flow {
        protocol: 1,
        peer_port: 0,
        ..flow
    };
    let prohibited = event!(RouteFailure, flow: ping, error: 13, table: 77, interface: 3);
    assert_eq!(
        said(&prohibited),
        "192.0.2.1 EACCES: a route of this host prohibits it (ICMP, table 77, bound to interface 3)"
    );
    let error = event!(SocketError, flow: flow, error: 110, retransmits: 4);
    assert_eq!(
        said(&error),
        "TCP ETIMEDOUT from 10.0.0.2:0 to 192.0.2.1:443; sent again 4 times"
    );
    let lonely = Flow {
        peer_address: [0; 16],
        peer_port: 0,
        protocol: UDP,
        ..flow
    };
    let error = event!(SocketError, flow: lonely, error: 113);
    assert_eq!(said(&error), "UDP EHOSTUNREACH from 10.0.0.2:0");
    let call = |family: u16, address: &[u8]| {
        let bytes = [&family.to_ne_bytes()[..], address].concat();
        let length = u16::try_from(bytes.len()).expect("short");
        said(
            &event!(ConnectError, error: 2, family: family, address: samples::bytes(&bytes), address_len: length),
        )
    };
    assert_eq!(call(1, b"/run/a\x1b[2J\0"), "/run/a\\x1b[2J ENOENT");
    assert_eq!(call(1, b"\0a\0b"), "@a\\x00b ENOENT");
    assert_eq!(call(2, &[0, 80, 10, 0, 0, 1]), "10.0.0.1:80 ENOENT");
    assert_eq!(call(40, &[]), "an address of family 40 ENOENT");
    assert_eq!(style(&failure), Some(Style::Bad));
}

#[test]
fn what_is_dropped_on_the_network() {
    let flow = Flow {
        local_address: samples::bytes(&[10, 0, 0, 1]),
        peer_address: samples::bytes(&[10, 0, 0, 2]),
        local_port: 80,
        peer_port: 5_000,
        family: AF_INET,
        protocol: TCP,
    };
    let packet = event!(PacketDrop, flow: flow, class: 3, tcp_flags: 18, length: 60);
    assert_eq!(
        said(&packet),
        "incoming TCP SYN+ACK 10.0.0.2:5000 > 10.0.0.1:80 (60 B) dropped: by netfilter"
    );
    let sent = event!(PacketDrop, outgoing: 1, class: 4, length: 42);
    assert_eq!(
        said(&sent),
        "outgoing packet that is not IP (42 B) dropped: by traffic control"
    );
    let listener = event!(ListenOverflow, flow: flow, queue: 129, limit: 128, drops: 7);
    assert_eq!(
        said(&listener),
        "accept queue of 10.0.0.1:80 is full: 129 wait, limit 128; 7 packets dropped so far"
    );
    let socket = event!(SocketOverflow, flow: flow, limit: 1, used: 2_048, buffer: 2_560);
    assert_eq!(
        said(&socket),
        "TCP 10.0.0.1:80 - 10.0.0.2:5000: receive buffer is full, 2.0 KiB of 2.5 KiB"
    );
}
