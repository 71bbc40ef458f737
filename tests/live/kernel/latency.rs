//! How long a watched service takes to answer, next to what its client measures. Server and clients are Python processes; they
//! serve a connection at a time each, so that what a client sees is one exchange.

use std::time::Duration;

use monitor_common::probes::service_latency::{LatencyTotals, ServiceLatency};
use monitor_common::{Event, Kind};
use smart_monitor::kernel::{CgroupWatch, Options};

use super::stage::{Actor, Group};
use super::support::Live;

/// Serves each connection by a thread: a line in, after so many seconds as it says a line out. Says its port.
const SERVER: &str = "
import socket
def serve(connection):
    with connection:
        lines = connection.makefile('rb')
        for line in lines:
            time.sleep(float(line)); connection.sendall(b'x' * 100)
def listen(host, backlog=511):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((host, 0)); listener.listen(backlog)
    return listener
def accept(listener, then=serve):
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=then, args=(connection,), daemon=True).start()
";

/// Connects, and asks: `times` exchanges of so many seconds each on one connection, all told in milliseconds.
const CLIENT: &str = "
import socket
def connect(host, port):
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
def ask(connection, delay):
    began = time.monotonic()
    connection.sendall(b'%f\\n' % delay)
    size = 0
    while size < 100:
        size += len(connection.recv(100 - size))
    return (time.monotonic() - began) * 1000
";

fn totals(watch: &CgroupWatch, group: &Group) -> LatencyTotals {
    let figures = watch.read();
    let figures = figures.get(&group.id()).expect("it is watched");
    figures.latency.expect("one of the first")
}

/// The median of what a client measured, and of what the kernel counted, in milliseconds.
fn medians(mut client: Vec<f64>, totals: &LatencyTotals) -> (f64, f64) {
    client.sort_by(f64::total_cmp);
    let own = totals.quantile_ns(0.5).expect("counted");
    let middle = client.get(client.len() / 2).expect("it asked");
    (*middle, own / 1e6)
}

struct Stage {
    live: Live,
    watch: CgroupWatch,
    group: Group,
    server: Actor,
    port: String,
}

impl Stage {
    /// A server of a watched cgroup that listens on this address.
    fn new(host: &str, part: &str) -> Self {
        Self::with(&Options::default(), host, part)
    }

    fn with(options: &Options, host: &str, part: &str) -> Self {
        let live = Live::new(options);
        let watch = live.kernel.cgroups();
        let group = Group::new();
        watch.watch(group.id()).expect("a slot");
        let part = format!(
            "{SERVER}{CLIENT}\nlistener = listen('{host}')\nsay(listener.getsockname()[1])\n{part}"
        );
        let mut server = Actor::new(&[&group], &part);
        server.go();
        let listens_on = server.line();
        Self {
            live,
            watch,
            group,
            server,
            port: listens_on,
        }
    }

    fn client(&self, host: &str, part: &str) -> Actor {
        let part = format!("{CLIENT}\nhost, port = '{host}', {}\n{part}", self.port);
        let mut client = Actor::new(&[], &part);
        client.go();
        client
    }

    fn totals(&self) -> LatencyTotals {
        totals(&self.watch, &self.group)
    }

    fn slow(&mut self) -> Vec<ServiceLatency> {
        let id = self.group.id();
        self.live.all(|event| match event {
            Event::ServiceLatency(slow) if slow.task.cgroup_id == id => Some(*slow),
            _ => None,
        })
    }
}

#[test]
fn what_a_service_takes_to_answer_is_what_its_client_waits() {
    for host in ["127.0.0.1", "::1"] {
        let stage = Stage::new(host, "accept(listener)");
        let mut client = stage.client(
            host,
            "connection = connect(host, port)\nsay(*[ask(connection, 0.02) for _ in range(50)]); hear()",
        );
        let times = client.numbers();
        let totals = stage.totals();
        assert_eq!(
            (totals.requests, totals.overlapping, totals.displaced),
            (50, 0, 0)
        );
        let (client, own) = medians(times, &totals);
        println!("{host}: client {client} ms, kernel {own} ms");
        assert!((own - client).abs() < client * 0.1, "{own} of {client} ms");
    }
}

#[test]
fn many_connections_at_a_time_are_all_counted() {
    let stage = Stage::new("127.0.0.1", "accept(listener)");
    let mut client = stage.client(
        "127.0.0.1",
        "
times = []
def busy():
    connection = connect(host, port)
    for _ in range(10): times.append(ask(connection, 0.05))
threads = [threading.Thread(target=busy) for _ in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
say(*times); hear()",
    );
    let times = client.numbers();
    let totals = stage.totals();
    assert_eq!((totals.requests, totals.overlapping), (640, 0));
    assert_eq!(totals.displaced, 0);
    let (client, own) = medians(times, &totals);
    println!("64 connections: client {client} ms, kernel {own} ms");
    assert!((own - client).abs() < client * 0.1, "{own} of {client} ms");
}

/// A server of the test's own cgroup answers; the watched one only asks.
#[test]
fn what_a_service_asks_others_is_not_counted() {
    let part = "
threading.Thread(target=accept, args=(listener,), daemon=True).start()
other = int(hear())
connection = connect('127.0.0.1', other)
for _ in range(20): ask(connection, 0.001)
say('asked'); hear()";
    let mut stage = Stage::new("127.0.0.1", part);
    let mut other = Actor::new(
        &[],
        &format!(
            "{SERVER}\nlistener = listen('127.0.0.1')\nsay(listener.getsockname()[1])\naccept(listener)"
        ),
    );
    other.go();
    stage.server.tell(&other.line());
    assert_eq!(stage.server.line(), "asked");
    assert_eq!(stage.totals().requests, 0);
    let mut client = stage.client(
        "127.0.0.1",
        "ask(connect(host, port), 0.001); say('done'); hear()",
    );
    assert_eq!(client.line(), "done");
    assert_eq!(stage.totals().requests, 1, "it is asked itself");
}

#[test]
fn a_slow_answer_is_an_event_and_others_are_not() {
    let options = Options {
        slow_request: Duration::from_millis(100),
        ..Options::default()
    };
    let mut stage = Stage::with(&options, "127.0.0.1", "accept(listener)");
    let mut client = stage.client(
        "127.0.0.1",
        "
connection = connect(host, port)
for delay in 0.01, 0.15, 0.01: ask(connection, delay)
say(connection.getsockname()[1]); hear()",
    );
    let port: u16 = client.line().parse().expect("its port");
    let slow = stage.slow();
    let [slow] = slow[..] else { panic!("{slow:?}") };
    assert_eq!(slow.flow.peer_port, port);
    assert_eq!(slow.flow.local_port.to_string(), stage.port);
    assert!(
        (150_000_000..200_000_000).contains(&slow.latency_ns),
        "{slow:?}"
    );
    assert_eq!((slow.task.pid, slow.overlapping), (0, 0));
}

#[test]
fn requests_that_overlap_are_told_apart() {
    let stage = Stage::new("127.0.0.1", "accept(listener)");
    let mut client = stage.client(
        "127.0.0.1",
        "
connection = connect(host, port)
for _ in range(10):
    for _ in range(2):
        connection.sendall(b'0.02\\n'); time.sleep(0.005)
    size = 0
    while size < 200: size += len(connection.recv(200))
for _ in range(10): ask(connection, 0.001)
say('done'); hear()",
    );
    assert_eq!(client.line(), "done");
    let totals = stage.totals();
    assert_eq!((totals.requests, totals.overlapping), (20, 10));
}

#[test]
fn a_connection_that_another_process_serves_is_still_the_services() {
    let part = "
import array
ours, theirs = socket.socketpair()
if os.fork() == 0:
    libc.prctl(1, 9)
    _, ancillary, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
    serve(socket.socket(fileno=array.array('i', ancillary[0][2])[0]))
    os._exit(0)
connection, _ = listener.accept()
ours.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [connection.fileno()]))])
connection.close()
hear()";
    let stage = Stage::new("127.0.0.1", part);
    let mut client = stage.client(
        "127.0.0.1",
        "
connection = connect(host, port)
say(*[ask(connection, 0.02) for _ in range(10)]); hear()",
    );
    let times = client.numbers();
    let totals = stage.totals();
    assert_eq!(totals.requests, 10);
    let (client, own) = medians(times, &totals);
    assert!((own - client).abs() < client * 0.1, "{own} of {client} ms");
}

#[test]
fn a_request_without_an_answer_is_not_the_next_connections() {
    let stage = Stage::new(
        "127.0.0.1",
        "accept(listener, lambda connection: connection.recv(1) == b'-' or serve(connection))",
    );
    let mut client = stage.client(
        "127.0.0.1",
        "
import struct
def connect_from(port_of_ours):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # It ends with a reset, so that its port is free at once.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.bind(('127.0.0.1', port_of_ours)); connection.connect((host, port))
    return connection
first = connect_from(0); own = first.getsockname()[1]
first.sendall(b'-'); time.sleep(0.3); first.close()
second = connect_from(own)
second.sendall(b'+')
say(ask(second, 0.02)); hear()",
    );
    let waited = client.numbers();
    let totals = stage.totals();
    assert_eq!(totals.requests, 1);
    let own = totals.quantile_ns(0.5).expect("counted") / 1e6;
    println!("client {waited:?} ms, kernel {own} ms");
    assert!(own < 200.0, "{own} ms: the wait of the first connection");
}

#[test]
fn programs_are_attached_only_while_somebody_is_watched() {
    let live = Live::new(&Options::default());
    let (watch, programs) = (live.kernel.cgroups(), live.kernel.programs());
    let (one, other) = (Group::new(), Group::new());
    assert!(!programs.is_attached(Kind::ServiceLatency));
    watch.watch(one.id()).expect("a slot");
    watch.watch(other.id()).expect("a slot");
    assert!(programs.is_attached(Kind::ServiceLatency));
    assert_eq!(totals(&watch, &one), LatencyTotals::NONE);
    watch.unwatch(one.id()).expect("it is watched");
    assert!(programs.is_attached(Kind::ServiceLatency));
    watch.unwatch(other.id()).expect("it is watched");
    assert!(!programs.is_attached(Kind::ServiceLatency));
}
