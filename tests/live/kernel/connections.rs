//! Whose a connection is, whatever becomes of who asked for it; resets and what is sent again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use monitor_common::Event;
use monitor_common::flow::{AF_INET6, Flow};
use monitor_common::probes::tcp_connect::{ConnectCause, TcpConnect};
use monitor_common::probes::tcp_reset::{RECEIVED, SENT, TcpReset, state_name};
use rustix::net::{AddressFamily, SocketType, sockopt};
use smart_monitor::kernel::Options;

use super::namespaces::Namespace;
use super::support::{Live, command};

fn to(peer: SocketAddr) -> impl Fn(&Event) -> Option<TcpConnect> {
    move |event| match event {
        Event::TcpConnect(connect) if connect.peer() == peer => Some(*connect),
        _ => None,
    }
}

#[test]
fn a_reset_in_mid_stream_is_told_on_both_sides() {
    let mut live = Live::new(&Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = listener.local_addr().expect("its address");
    let mut client = TcpStream::connect(server).expect("it listens");
    let (mut accepted, from) = listener.accept().expect("one waits");
    client.write_all(b"hello").expect("it is connected");
    accepted.read_exact(&mut [0; 5]).expect("it was sent");
    sockopt::set_socket_linger(&accepted, Some(Duration::ZERO)).expect("it is a socket");
    drop(accepted);
    let about = |flow: &Flow| flow.local() == from || flow.peer() == from;
    let mut told = |sent: u16| -> TcpReset {
        live.wait_for("a reset", |event| match event {
            Event::TcpReset(reset) if reset.sent == sent && about(&reset.flow) => Some(*reset),
            _ => None,
        })
    };
    let received = told(RECEIVED);
    assert_eq!(received.flow.peer(), server);
    assert_eq!(received.task.pid, std::process::id(), "who connected it");
    assert_eq!(state_name(received.state), "ESTABLISHED");
    let link = std::fs::read_link(format!("/proc/self/fd/{}", client.as_raw_fd()));
    assert_eq!(
        link.expect("it is open").to_string_lossy(),
        format!("socket:[{}]", received.inode)
    );
    let sent = told(SENT);
    assert_eq!(sent.flow.local(), server);
    assert_eq!(sent.task.pid, 0, "nobody of this host connected that end");
    assert_eq!(
        sent.task.cgroup_id, received.task.cgroup_id,
        "its listener is of the same cgroup"
    );
    client.read(&mut [0]).expect_err("it is reset");
}

/// A listener that has no room for a further connection: the kernel drops what comes, without an answer.
fn full() -> (std::os::fd::OwnedFd, TcpStream, SocketAddr) {
    let listener =
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    rustix::net::listen(&listener, 0).expect("it listens");
    let address = rustix::net::getsockname(&listener).expect("its address");
    let address = SocketAddr::try_from(address).expect("an address of the internet");
    let first = TcpStream::connect(address).expect("the queue holds one");
    (listener, first, address)
}

#[test]
fn a_connection_is_of_who_asked_for_it_though_that_process_is_gone() {
    let mut live = Live::new(&Options::default());
    let (listener, _first, server) = full();
    // The child asks, without waiting, and ends; the parent still has the socket.
    let script = format!(
        "import os, socket, sys, select\ns = socket.socket()\ns.setblocking(False)\nchild = os.fork()\n\
         if child == 0:\n    s.connect_ex(('127.0.0.1', {}))\n    os._exit(0)\n\
         os.waitpid(child, 0)\nprint(child, flush=True)\nselect.select([], [s], [])\nsys.exit(s.getsockopt(1, 4))",
        server.port()
    );
    let mut parent = command("python3")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut output = std::io::BufReader::new(parent.stdout.take().expect("it is a pipe"));
    let mut text = String::new();
    std::io::BufRead::read_line(&mut output, &mut text).expect("it is text");
    let child: u32 = text.trim().parse().expect("a process id");
    // Room for it: the next of its attempts is answered.
    let _accepted = rustix::net::accept(&listener).expect("the first waits");
    assert!(parent.wait().expect("it ends").success());
    let made = live.wait_for("the connection", |event| {
        to(server)(event).filter(|connect| connect.task.pid == child)
    });
    assert_eq!(made.error, 0);
    assert!(made.retransmits >= 1, "{made:?}");
    assert!(made.latency_ns > 500_000_000, "{}", made.latency_ns);
}

#[test]
fn a_connection_is_of_the_thread_that_asked_whoever_ends_it() {
    let mut live = Live::new(&Options::default());
    let (_listener, _first, server) = full();
    let asked = std::thread::spawn(move || {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .expect("a socket");
        rustix::net::connect(&socket, &server).expect_err("it is under way");
        (socket, rustix::thread::gettid())
    });
    let (socket, tid) = asked.join().expect("no panic");
    drop(socket);
    let ended = live.wait_for("the connection", |event| {
        to(server)(event).filter(|connect| connect.error != 0)
    });
    assert_eq!(ended.task.pid, std::process::id());
    assert_eq!(i64::from(ended.task.tid), i64::from(tid.as_raw_pid()));
}

#[test]
fn an_ipv4_address_in_an_ipv6_socket_is_the_same_peer() {
    let mut live = Live::new(&Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = listener.local_addr().expect("its address");
    drop(listener);
    let mapped: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    TcpStream::connect((mapped, peer.port())).expect_err("nobody listens");
    let refused = live.wait_for("the connection", to(peer));
    assert_eq!(refused.flow.family, AF_INET6);
    assert_eq!(refused.error, 111);
    assert_ne!(refused.cause(), ConnectCause::Rejected, "a reset came");
}

#[test]
fn after_a_failure_every_success_is_told_whatever_the_share() {
    const MADE: usize = 200;
    let options = Options {
        cgroup_events_per_second: 1,
        ..Options::default()
    };
    let mut live = Live::new(&options);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = listener.local_addr().expect("its address");
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr());
    TcpStream::connect(nobody.expect("a free port")).expect_err("nobody listens");
    for _ in 0..MADE {
        let _made = TcpStream::connect(server).expect("it listens");
        listener.accept().expect("one waits");
    }
    // The last thing that is seen, so that all before it has come.
    drop(listener);
    TcpStream::connect(server).expect_err("nobody listens any more");
    live.wait_for("the end", |event| {
        to(server)(event).filter(|connect| connect.error != 0)
    });
    let made = live.all(|event| to(server)(event).filter(|connect| connect.error == 0));
    assert_eq!(made.len(), MADE);
}

#[test]
fn a_connection_of_another_network_namespace_says_so() {
    let mut live = Live::new(&Options::default());
    let far = Namespace::new("far");
    let attempt = |port| {
        TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens");
        SocketAddr::from(([127, 0, 0, 1], port))
    };
    let near = attempt(9);
    let here = live.wait_for("the connection here", to(near));
    let beyond = far.inside(|| attempt(10));
    let there = live.wait_for("the connection there", to(beyond));
    assert_eq!((here.elsewhere, there.elsewhere), (0, 1));
}
