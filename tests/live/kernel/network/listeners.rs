//! Listeners that do not accept: the queue is full, and whoever connects hears nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use monitor_common::probes::listen_overflow::ListenOverflow;
use monitor_common::probes::tcp_connect::{ConnectCause, TcpConnect};
use monitor_common::{DropClass, Event};
use rustix::net::{AddressFamily, SocketType};
use smart_monitor::kernel::Options;

use super::super::namespaces::{Namespace, pair};
use super::super::support::Live;

/// Listens, and never accepts: one connection is what the queue holds.
fn deaf(on: SocketAddr) -> (OwnedFd, SocketAddr) {
    let family = match on {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let listener = rustix::net::socket(family, SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&listener, &on).expect("a free port");
    rustix::net::listen(&listener, 0).expect("it listens");
    let address = rustix::net::getsockname(&listener).expect("its address");
    let address = SocketAddr::try_from(address).expect("an address of the internet");
    (listener, address)
}

fn overflow(live: &mut Live, on: SocketAddr) -> ListenOverflow {
    live.wait_for("a full queue", |event| match event {
        Event::ListenOverflow(full) if full.listener() == on => Some(*full),
        _ => None,
    })
}

fn gives_up(live: &mut Live, peer: SocketAddr, connect: impl FnOnce()) -> TcpConnect {
    live.seen.clear();
    connect();
    live.wait_for("a failed connection", |event| match event {
        Event::TcpConnect(connect) if connect.peer() == peer && connect.error != 0 => {
            Some(*connect)
        }
        _ => None,
    })
}

fn times_out(peer: SocketAddr) {
    TcpStream::connect_timeout(&peer, Duration::from_millis(200)).expect_err("the queue is full");
}

const FULL: ConnectCause = ConnectCause::Dropped(DropClass::AcceptQueueFull);

#[test]
fn a_full_queue_is_told_of_with_its_listener_and_named_to_whoever_waits() {
    let mut live = Live::new(&Options::default());
    let loopback = [
        (
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        // One that takes both families.
        (Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
    ];
    for (on, to) in loopback {
        let (listener, on) = deaf((on, 0).into());
        let peer = SocketAddr::new(to, on.port());
        let _first = TcpStream::connect(peer).expect("the queue holds one");
        let full = overflow(&mut live, on);
        assert_eq!((full.queue, full.limit, full.waiting), (1, 0, 0));
        let fd = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let inode = std::fs::metadata(fd).expect("it is open").ino();
        assert_eq!(full.inode, inode);
        let given_up = gives_up(&mut live, peer, || times_out(peer));
        assert_eq!(given_up.cause(), FULL, "{peer} at {on}");
        // Long since full, as far as the next one is concerned.
        let again = gives_up(&mut live, peer, || times_out(peer));
        assert_eq!(again.cause(), FULL, "{peer} at {on}");
    }
}

#[test]
fn a_queue_that_is_full_no_longer_is_not_blamed() {
    let mut live = Live::new(&Options::default());
    let (listener, peer) = deaf((Ipv4Addr::LOCALHOST, 0).into());
    let first = TcpStream::connect(peer).expect("the queue holds one");
    overflow(&mut live, peer);
    rustix::net::accept(&listener).expect("one waits");
    drop((first, listener));
    let refused = gives_up(&mut live, peer, || {
        TcpStream::connect(peer).expect_err("nobody listens now");
    });
    assert_eq!(
        refused.cause(),
        ConnectCause::Dropped(DropClass::NoListener)
    );
}

#[test]
fn a_listener_in_another_namespace_is_found_by_the_address_it_is_connected_to() {
    let mut live = Live::new(&Options::default());
    let (client, server) = (Namespace::new("client"), Namespace::new("server"));
    let (_, far) = pair(&client, &server);
    for address in far.addresses() {
        let any = match address {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        for on in [address, any] {
            let (_listener, on) = server.inside(|| deaf((on, 0).into()));
            let peer = SocketAddr::new(address, on.port());
            let first = client.inside(|| TcpStream::connect(peer));
            let _first = first.expect("the queue holds one");
            overflow(&mut live, on);
            let given_up = gives_up(&mut live, peer, || client.inside(|| times_out(peer)));
            assert_eq!(given_up.cause(), FULL, "{peer} at {on}");
        }
    }
}

/// The same port of another network namespace's loopback says nothing about this one's.
#[test]
fn a_full_queue_elsewhere_is_not_blamed() {
    let mut live = Live::new(&Options::default());
    let (one, other) = (Namespace::new("one"), Namespace::new("other"));
    let (_deaf, on) = one.inside(|| deaf((Ipv4Addr::UNSPECIFIED, 0).into()));
    let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), on.port());
    let first = one.inside(|| TcpStream::connect(peer));
    let _first = first.expect("the queue holds one");
    overflow(&mut live, on);
    // Dropped where no probe is told the reason: a route that leads nowhere.
    other.must("ip", &["route", "add", "10.254.254.0/24", "dev", "lo"]);
    let away = SocketAddr::new(Ipv4Addr::new(10, 254, 254, 1).into(), on.port());
    let given_up = gives_up(&mut live, away, || {
        other
            .inside(|| TcpStream::connect_timeout(&away, Duration::from_millis(200)))
            .expect_err("it leads nowhere");
    });
    assert_ne!(given_up.cause(), FULL, "{given_up:?}");
}
