//! Connections: made, refused, given up, and without a port.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use monitor_common::Event;
use smart_monitor::kernel::{Options, Rings};

use super::support::{Lane, alone, command, load, wait_for};

#[path = "network/drops.rs"]
mod drops;
#[path = "network/listeners.rs"]
mod listeners;

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
            made.flow.local_port,
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
