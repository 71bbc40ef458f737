//! Connections whose packets this host throws away: each for a reason of its own, brought about between two network namespaces.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use monitor_common::probes::packet_drop::PacketDrop;
use monitor_common::probes::socket_overflow::{RECEIVE_BUFFER, SocketOverflow};
use monitor_common::probes::tcp_connect::{ConnectCause, TcpConnect};
use monitor_common::{DropClass, Event};
use smart_monitor::kernel::Options;

use super::super::namespaces::{DEVICE, End, Namespace, pair};
use super::super::support::Live;

const PORT: u16 = 4_777;
const SYN: u16 = 2;

/// A client's namespace and a server's, with a wire between, and a loaded kernel half.
struct Wire {
    live: Live,
    client: Namespace,
    server: Namespace,
    far: End,
}

impl Wire {
    fn new() -> Self {
        let live = Live::new(&Options::default());
        let (client, server) = (Namespace::new("client"), Namespace::new("server"));
        let (_, far) = pair(&client, &server);
        // Neighbours that are known already, so that only what the test brings about can happen.
        for (address, flag) in [(far.v4.to_string(), "-4"), (far.v6.to_string(), "-6")] {
            client.must("ping", &[flag, "-c1", "-w10", &address]);
        }
        Self {
            live,
            client,
            server,
            far,
        }
    }

    /// Tries to connect, and waits for what is told of it.
    fn fail(&mut self, to: IpAddr, timeout: Duration) -> TcpConnect {
        let peer = SocketAddr::new(to, PORT);
        let connect = || TcpStream::connect_timeout(&peer, timeout);
        self.client.inside(connect).expect_err("nothing gets there");
        let failed = self
            .live
            .wait_for("a failed connection", |event| match event {
                Event::TcpConnect(connect) if connect.peer() == peer && connect.error != 0 => {
                    Some(*connect)
                }
                _ => None,
            });
        assert_eq!(failed.task.pid, std::process::id());
        failed
    }

    /// As [`Self::fail`]; the packet that was thrown away must have been told of too.
    fn dropped(
        &mut self,
        to: IpAddr,
        class: DropClass,
        outgoing: bool,
    ) -> (TcpConnect, PacketDrop) {
        let failed = self.fail(to, Duration::from_millis(200));
        assert_eq!(failed.cause(), ConnectCause::Dropped(class), "{failed:?}");
        assert!(failed.drops > 0);
        let (own, peer) = (failed.flow.local(), failed.peer());
        let drop = self.live.wait_for("a dropped packet", |event| match event {
            Event::PacketDrop(drop) if drop.way() == (own, peer) => Some(*drop),
            _ => None,
        });
        assert_eq!((drop.class(), drop.tcp_flags), (class, SYN), "{drop:?}");
        assert_eq!(drop.outgoing, u16::from(outgoing));
        assert!(drop.length >= 40, "{}", drop.length);
        self.live.seen.clear();
        (failed, drop)
    }
}

/// A rule for packets to [`PORT`].
fn rule(namespace: &Namespace, hook: &str, verdict: &str) {
    let script = format!(
        "add table inet t; add chain inet t c {{ type filter hook {hook} priority 0; }}; \
         add rule inet t c tcp dport {PORT} {verdict}"
    );
    namespace.must("nft", &[&script]);
}

#[test]
fn a_port_that_nobody_listens_on() {
    const ECONNREFUSED: u32 = 111;
    let mut wire = Wire::new();
    for to in wire.far.addresses() {
        let (failed, _) = wire.dropped(to, DropClass::NoListener, false);
        assert_eq!((failed.error, failed.reset), (ECONNREFUSED, 1));
    }
    let counters = wire.live.kernel.counters();
    let drops = counters.packet_drops();
    let no_socket = drops.iter().find(|(reason, _)| *reason == "no_socket");
    assert!(no_socket.is_some_and(|(_, count)| *count >= 2), "{drops:?}");
}

#[test]
fn a_firewall_before_the_listener() {
    let mut wire = Wire::new();
    rule(&wire.server, "input", "drop");
    for to in wire.far.addresses() {
        let (_, drop) = wire.dropped(to, DropClass::Firewall, false);
        assert!(drop.interface > 0);
        assert_eq!(drop.task.pid, 0, "it crossed into another namespace");
    }
    wire.server.must("nft", &["flush", "ruleset"]);
    rule(&wire.server, "input", "reject with tcp reset");
    let (failed, _) = wire.dropped(wire.far.v4.into(), DropClass::Firewall, false);
    assert_eq!(failed.reset, 1, "the firewall answers in the server's name");
}

#[test]
fn a_firewall_behind_the_caller() {
    let mut wire = Wire::new();
    rule(&wire.client, "output", "drop");
    for to in wire.far.addresses() {
        let (_, drop) = wire.dropped(to, DropClass::Firewall, true);
        assert_eq!(drop.task.pid, std::process::id(), "the socket's owner");
        assert!(drop.inode > 0);
    }
}

#[test]
fn a_queue_that_takes_nothing() {
    let mut wire = Wire::new();
    // A bucket smaller than any packet, and no queue.
    let tbf = [
        "qdisc", "add", "dev", DEVICE, "root", "tbf", "rate", "1kbit", "burst", "10", "limit", "10",
    ];
    wire.client.must("tc", &tbf);
    wire.dropped(wire.far.v4.into(), DropClass::TrafficControl, true);
}

#[test]
fn an_address_that_nobody_has() {
    const EHOSTUNREACH: u32 = 113;
    let mut wire = Wire::new();
    let [a, b, c, _] = wire.far.v4.octets();
    let failed = wire.fail(IpAddr::from([a, b, c, 99]), Duration::from_secs(20));
    assert_eq!(failed.error, EHOSTUNREACH);
    let cause = failed.cause().name();
    assert!(
        ["neighbour_unresolved", "host_unreachable"].contains(&cause),
        "{cause}"
    );
}

#[test]
fn a_router_that_does_not_route() {
    let mut wire = Wire::new();
    let far = wire.far.v4.to_string();
    let route = ["route", "add", "10.255.255.0/24", "via", &far];
    wire.client.must("ip", &route);
    wire.server
        .must("sysctl", &["-wq", "net.ipv4.ip_forward=0"]);
    wire.dropped(IpAddr::from([10, 255, 255, 1]), DropClass::NoRoute, false);
}

/// Names the socket that did not read, by its inode: the kernel knows no more of who would have.
#[test]
fn a_socket_that_is_not_read() {
    let mut wire = Wire::new();
    for address in wire.far.addresses() {
        let reader = wire.server.inside(|| UdpSocket::bind((address, 0)));
        let reader = reader.expect("a free port");
        rustix::net::sockopt::set_socket_recv_buffer_size(&reader, 4_096).expect("it is taken");
        let to = reader.local_addr().expect("its address");
        let writer = wire.client.inside(|| {
            UdpSocket::bind(match address {
                IpAddr::V4(_) => "0.0.0.0:0",
                IpAddr::V6(_) => "[::]:0",
            })
        });
        let writer = writer.expect("a free port");
        for _ in 0..100 {
            writer.send_to(&[0; 1_000], to).expect("it is sent");
        }
        let full: SocketOverflow = wire.live.wait_for("a full socket", |event| match event {
            Event::SocketOverflow(full) if full.flow.local() == to => Some(*full),
            _ => None,
        });
        assert_eq!(full.limit, RECEIVE_BUFFER);
        assert!(
            full.used <= full.buffer + 4_096 && full.used > 1_000,
            "{full:?}"
        );
        let folder = "/proc/self/fd";
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let inode = std::fs::metadata(format!("{folder}/{fd}"))
            .expect("it is open")
            .ino();
        assert_eq!(full.inode, inode);
        let drop = wire.live.wait_for("a dropped packet", |event| match event {
            Event::PacketDrop(drop) if drop.flow.local() == to => Some(*drop),
            _ => None,
        });
        assert_eq!((drop.class(), drop.inode), (DropClass::BufferFull, inode));
    }
    let [_, receive_buffer, ..] = wire.live.kernel.counters().socket_overflows();
    assert!(receive_buffer > 0);
}
