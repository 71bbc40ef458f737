//! Failures without a state of a connection: no route, calls of `connect` that fail at once, errors that come to a socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Child;

use monitor_common::flow::{TCP, UDP};
use monitor_common::probes::connect_error::{Asked, ConnectError};
use monitor_common::probes::route_failure::RouteFailure;
use monitor_common::probes::socket_error::SocketError;
use monitor_common::{Event, Kind};
use smart_monitor::host::clock;
use smart_monitor::identity::Who;
use smart_monitor::kernel::Options;

use super::namespaces::{DEVICE, Namespace, pair};
use super::support::{Lane, Live, command};

const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOENT: u32 = 2;
const ENETUNREACH: i32 = 101;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
const EHOSTUNREACH: i32 = 113;

/// Reads lines of "tcp|udp ADDRESS PORT" and answers each with the errno, 0 for none.
const CALLER: &str = "
import socket, sys
kinds = {'tcp': socket.SOCK_STREAM, 'udp': socket.SOCK_DGRAM}
for line in sys.stdin:
    kind, address, port = line.split()
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, kinds[kind]) as one:
        try:
            one.sendto(b'x', (address, int(port))) if kind == 'udp' else one.connect((address, int(port)))
            print(0, flush=True)
        except OSError as error:
            print(error.errno, flush=True)
";

/// A process in a namespace that connects and sends where it is told.
struct Caller {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Caller {
    fn new(namespace: &Namespace) -> Self {
        let mut child = namespace.spawn("python3", &["-c", CALLER]);
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, answers }
    }

    /// The errno of the call.
    fn call(&mut self, kind: &str, address: &str, port: u16) -> i32 {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{kind} {address} {port}").expect("it reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().parse().expect("a number")
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn route_failures(live: &mut Live, pid: u32) -> Vec<RouteFailure> {
    live.all(|event| match event {
        Event::RouteFailure(failure) if failure.task.pid == pid => Some(*failure),
        _ => None,
    })
}

/// Waits for the failure to reach this address, and looks whether it says what the caller was told.
fn expect_no_route(live: &mut Live, caller: &mut Caller, call: (&str, &str), errno: i32) {
    let (kind, address) = call;
    assert_eq!(caller.call(kind, address, 4_242), errno, "{address}");
    let pid = caller.child.id();
    let wanted = address.parse::<std::net::IpAddr>().expect("an address");
    let failure = live.wait_for("a missing route", |event| match event {
        Event::RouteFailure(failure) if failure.peer().ip() == wanted => Some(*failure),
        _ => None,
    });
    assert_eq!(i32::try_from(failure.error), Ok(errno), "{address}");
    assert_eq!((failure.task.pid, failure.task.comm()), (pid, "python3"));
    assert_eq!((failure.peer().port(), failure.table), (4_242, 254));
    let protocol = if kind == "udp" { UDP } else { TCP };
    assert_eq!(failure.flow.protocol, protocol);
    let urgent = live.seen.iter().any(|(lane, event)| {
        *lane == Lane::Urgent
            && matches!(event, Event::RouteFailure(it) if it.peer().ip() == wanted)
    });
    assert_eq!(urgent, protocol == TCP, "only a connection is urgent");
}

#[test]
fn a_missing_route_is_told_with_its_errno_and_its_process() {
    let mut live = Live::new(&Options::default());
    let namespace = Namespace::new("route");
    let mut caller = Caller::new(&namespace);
    for call in [
        ("tcp", "10.9.8.7"),
        ("udp", "10.9.8.6"),
        ("tcp", "2001:db8::7"),
        ("udp", "2001:db8::6"),
    ] {
        expect_no_route(&mut live, &mut caller, call, ENETUNREACH);
    }
    for (route, errno) in [
        ("unreachable", EHOSTUNREACH),
        ("blackhole", EINVAL),
        ("prohibit", EACCES),
    ] {
        let (v4, v6) = (
            format!("10.1.{errno}.0/24"),
            format!("2001:db8:{errno}::/48"),
        );
        namespace.must("ip", &["route", "add", route, &v4]);
        namespace.must("ip", &["-6", "route", "add", route, &v6]);
        let (v4, v6) = (format!("10.1.{errno}.1"), format!("2001:db8:{errno}::1"));
        expect_no_route(&mut live, &mut caller, ("tcp", &v4), errno);
        expect_no_route(&mut live, &mut caller, ("tcp", &v6), errno);
    }
    let told = route_failures(&mut live, caller.child.id());
    assert_eq!(told.len(), 10, "each failure once: {told:?}");
}

#[test]
fn a_table_without_an_answer_is_no_failure_while_another_one_is_asked() {
    let mut live = Live::new(&Options::default());
    let (namespace, other) = (Namespace::new("rules"), Namespace::new("peer"));
    let (_, far) = pair(&namespace, &other);
    let mut caller = Caller::new(&namespace);
    let ip = |args: &[&str]| {
        namespace.must("ip", args);
    };
    ip(&["rule", "add", "table", "77", "priority", "100"]);
    ip(&["-6", "rule", "add", "table", "77", "priority", "100"]);
    // A table that has something, but nothing for this.
    ip(&["route", "add", "throw", "10.0.0.0/8", "table", "77"]);
    for peer in far.addresses() {
        assert_eq!(caller.call("udp", &peer.to_string(), 9), 0);
    }
    // What every later event of the same process shows: nothing came before it.
    expect_no_route(&mut live, &mut caller, ("tcp", "192.0.2.1"), ENETUNREACH);
    expect_no_route(&mut live, &mut caller, ("tcp", "2001:db8::1"), ENETUNREACH);
    // A rule that asks the main table first, as VPNs make it: which of the two look-ups is the last cannot be told.
    ip(&["rule", "add", "table", "main", "priority", "90"]);
    assert_eq!(caller.call("tcp", "192.0.2.2", 9), ENETUNREACH);
    ip(&["rule", "del", "table", "main", "priority", "90"]);
    expect_no_route(&mut live, &mut caller, ("tcp", "192.0.2.3"), ENETUNREACH);
    // A table behind the main one that has the answer.
    ip(&["rule", "add", "table", "88", "priority", "32800"]);
    let through = far.v4.to_string();
    ip(&[
        "route",
        "add",
        "192.0.2.0/24",
        "via",
        &through,
        "table",
        "88",
    ]);
    assert_eq!(caller.call("udp", "192.0.2.4", 9), 0);
    ip(&["rule", "del", "table", "88", "priority", "32800"]);
    expect_no_route(&mut live, &mut caller, ("udp", "192.0.2.5"), ENETUNREACH);
    let told = route_failures(&mut live, caller.child.id());
    assert_eq!(told.len(), 4, "{told:?}");
}

fn refused(live: &mut Live, pid: u32, asked: Asked<'_>) -> ConnectError {
    live.wait_for("a failed connect", |event| match event {
        Event::ConnectError(event) if event.task.pid == pid && event.asked() == asked => {
            Some(*event)
        }
        _ => None,
    })
}

#[test]
fn a_connect_that_fails_at_once_is_told_with_what_it_asked_for() {
    let mut live = Live::new(&Options::default());
    let programs = live.kernel.programs();
    programs.attach(Kind::ConnectError).expect("it attaches");
    let folder = std::env::temp_dir().join(format!("sm-connect-{}", std::process::id()));
    let stale = folder.to_string_lossy().into_owned();
    drop(std::os::unix::net::UnixListener::bind(&folder).expect("a free path"));
    // Names of every kind, lengths that are too short and too long, memory that is not there, and a 32-bit call: the number of
    // connect is that of pipe there, which fails with EFAULT. The last call ends the list.
    let script = format!(
        "
import ctypes, mmap, os, socket
unix = lambda: socket.socket(socket.AF_UNIX)
unix().connect_ex('/nonexistent/socket')
unix().connect_ex('{stale}')
unix().connect_ex('\\0abs\\0tract')
unix().connect_ex('/' + 'x' * 106)
libc = ctypes.CDLL(None, use_errno=True)
inet = socket.socket()
for family, length in (2, 3), (10, 20), (1, 2), (2, 4096), (99, 16):
    address = ctypes.create_string_buffer(family.to_bytes(2, 'little') + b'\\0' * 4096)
    assert libc.connect(inet.fileno(), address, length) == -1
assert libc.connect(inet.fileno(), ctypes.c_void_p(8), 16) == -1
assert libc.connect(-1, ctypes.c_void_p(8), -5) == -1
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('53b82a000000bb08000000cd805bc3'))
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
if os.uname().machine == 'x86_64':
    print(ctypes.CFUNCTYPE(ctypes.c_int)(at)())
unix().connect_ex('/the/end')
"
    );
    let python = command("python3")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let pid = python.id();
    let said = python.wait_with_output().expect("it ends");
    let _ = std::fs::remove_file(&folder);
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    if cfg!(target_arch = "x86_64") {
        assert_eq!(
            String::from_utf8_lossy(&said.stdout).trim(),
            "-14",
            "the 32-bit call was made"
        );
    }
    let long = [&b"/"[..], &[b'x'; 106]].concat();
    for (asked, error) in [
        (Asked::Path(b"/nonexistent/socket"), ENOENT),
        (Asked::Path(stale.as_bytes()), ECONNREFUSED),
        (Asked::Abstract(b"abs\0tract"), ECONNREFUSED),
        (Asked::Path(&long), ENOENT),
        (Asked::Path(b"/the/end"), ENOENT),
    ] {
        let told = refused(&mut live, pid, asked);
        assert_eq!(told.error, error, "{asked:?}");
        assert_eq!(told.task.comm(), "python3");
    }
    let all = live.all(|event| match event {
        Event::ConnectError(event) if event.task.pid == pid => Some(*event),
        _ => None,
    });
    // What the interpreter itself asks for before the script (where there is no HOME, the name service) is not the script's.
    let odd: Vec<_> = all
        .iter()
        .map(|event| event.asked())
        .skip_while(|asked| *asked != Asked::Path(b"/nonexistent/socket"))
        .collect();
    let odd = odd.get(4..odd.len() - 1).expect("the calls between");
    assert_eq!(
        odd,
        [
            Asked::Family(2),
            Asked::Family(10),
            Asked::Family(1),
            Asked::Internet(([0, 0, 0, 0], 0).into()),
            Asked::Family(99),
            Asked::Family(0),
            Asked::Family(0),
        ],
        "and none of a 32-bit program's"
    );
    programs.detach(Kind::ConnectError);
}

/// Connects UDP sockets to a port where nobody listens and sends: as it is, from another thread, and through a socket that a child has
/// inherited and that was handed to another process. Each time it says the number of the oldest holder and that of the inode, the first
/// time it waits for a line, and it ends with its input.
const DATAGRAMS: &str = "
import os, socket, sys, threading
def connected():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.connect(('127.0.0.1', int(sys.argv[1])))
    return one
def say(what, one, pid):
    print(what, pid, os.fstat(one.fileno()).st_ino, flush=True)
own = []
thread = threading.Thread(target=lambda: own.append(connected()))
thread.start()
thread.join()
own[0].send(b'x')
say('threads', own[0], os.getpid())
sys.stdin.readline()
left, right = socket.socketpair()
forked = connected()
given = connected()
child = os.fork()
if child == 0:
    given.close()
    own[0].close()
    left.close()
    _, files, _, _ = socket.recv_fds(right, 1, 1)
    mine = socket.socket(fileno=files[0])
    right.recv(1)
    forked.send(b'x')
    say('forked', forked, os.getppid())
    mine.send(b'x')
    say('given', mine, os.getpid())
    sys.stdin.read()
    os._exit(0)
right.close()
socket.send_fds(left, [b'x'], [given.fileno()])
given.close()
left.send(b'y')
sys.stdin.read()
os.waitpid(child, 0)
";

#[test]
fn an_error_of_a_datagram_socket_leads_to_its_processes() {
    let mut live = Live::new(&Options::default());
    let port = smart_monitor_tests::free_port()
        .expect("a free port")
        .port();
    let mut python = command("python3")
        .args(["-c", DATAGRAMS, &port.to_string()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut said = BufReader::new(python.stdout.take().expect("it is piped"));
    let mut who = Who::open();
    for (what, holders) in [("threads", 1), ("forked", 2), ("given", 1)] {
        let mut answer = String::new();
        said.read_line(&mut answer).expect("it says who it is");
        let words: Vec<&str> = answer.split_whitespace().collect();
        let [said, pid, inode] = words.as_slice() else {
            panic!("{answer:?}")
        };
        assert_eq!(*said, what);
        let inode: u64 = inode.parse().expect("a number");
        let error: SocketError = live.wait_for("an error of the socket", |event| match event {
            Event::SocketError(error) if error.inode == inode => Some(*error),
            _ => None,
        });
        assert_eq!((error.error, error.flow.protocol), (ECONNREFUSED, UDP));
        assert_eq!(error.flow.peer().port(), port);
        assert_eq!(error.task.pid, 0, "the kernel knows no process");
        assert_eq!(Event::SocketError(error).socket_inode(), Some(inode));
        let found = who.of_socket(inode, error.task.cgroup_id, clock::now());
        let found = found.expect("it is open");
        assert_eq!(
            (found.first.pid.to_string(), found.count),
            ((*pid).to_owned(), holders)
        );
        assert_eq!(found.comm, "python3");
        if what == "threads" {
            let stdin = python.stdin.as_mut().expect("it is piped");
            stdin.write_all(b"\n").expect("it waits for it");
        }
    }
    drop(python.stdin.take());
    assert!(python.wait().expect("it ends").success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("it is text");
    assert_eq!(rest, "");
}

#[test]
fn what_other_probes_tell_of_a_connection_is_not_told_twice() {
    let mut live = Live::new(&Options::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = listener.local_addr().expect("its address");
    drop(listener);
    std::net::TcpStream::connect(peer).expect_err("nobody listens");
    // An established connection whose peer resets it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let second = listener.local_addr().expect("its address");
    let mut stream = std::net::TcpStream::connect(second).expect("it listens");
    let (accepted, _) = listener.accept().expect("one waits");
    rustix::net::sockopt::set_socket_linger(&accepted, Some(std::time::Duration::ZERO))
        .expect("a socket has it");
    drop(accepted);
    stream.read(&mut [0]).expect_err("it is reset");
    // A later one of another kind, that shows all before it have come.
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    udp.connect(peer).expect("it is local");
    udp.send(b"x").expect("it is sent");
    live.wait_for("the last one", |event| match event {
        Event::SocketError(error) if error.flow.protocol == UDP && error.peer() == Some(peer) => {
            Some(())
        }
        _ => None,
    });
    let told = live.all(|event| match event {
        Event::SocketError(error) if error.flow.protocol == TCP => {
            (error.peer() == Some(peer) || error.peer() == Some(second)).then_some(*error)
        }
        _ => None,
    });
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn an_established_connection_without_an_answer_is_told_when_it_is_given_up() {
    let mut live = Live::new(&Options::default());
    let (here, there) = (Namespace::new("here"), Namespace::new("there"));
    let (_, far) = pair(&here, &there);
    let listener = there.inside(|| std::net::TcpListener::bind((far.v4, 0)).expect("a free port"));
    let peer = listener.local_addr().expect("its address");
    let mut stream = here.inside(|| std::net::TcpStream::connect(peer).expect("the wire is up"));
    rustix::net::sockopt::set_tcp_user_timeout(&stream, 400).expect("a socket has it");
    // What comes for an address of nobody is thrown away without a word.
    let gone = format!("{}/24", far.v4);
    there.must("ip", &["addr", "del", &gone, "dev", DEVICE]);
    stream.write_all(b"hello").expect("there is room");
    let error: SocketError = live.wait_for("the end of patience", |event| match event {
        Event::SocketError(error) if error.peer() == Some(peer) => Some(*error),
        _ => None,
    });
    assert_eq!(error.error, ETIMEDOUT);
    assert_eq!(error.task.pid, std::process::id(), "who connected it");
    assert!(error.retransmits > 0, "{error:?}");
}
