//! A path that swallows large packets, between two network namespaces.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use monitor_common::Event;
use smart_monitor::kernel::Options;

use super::namespaces::{Namespace, pair};
use super::support::Live;

/// Larger IPv4 packets do not arrive, and nobody says so.
const SWALLOW: &str = "table ip path { chain whatever { type filter hook prerouting priority 0; ip length > 1300 drop; }; }";

#[test]
fn large_packets_that_never_arrive_are_told_as_such_and_a_silent_peer_is_not() {
    let mut live = Live::new(&Options::default());
    let (near, far) = (Namespace::new("near"), Namespace::new("far"));
    let (_, end) = pair(&near, &far);
    let listener = far.inside(|| TcpListener::bind((end.v4, 0)).expect("a free port"));
    let peer = listener.local_addr().expect("its address");
    let mut client = near.inside(|| TcpStream::connect(peer).expect("the wire is up"));
    let (mut server, from) = listener.accept().expect("one waits");
    far.must("nft", &[SWALLOW]);
    client.write_all(&[1; 200]).expect("there is room");
    server
        .read_exact(&mut [0; 200])
        .expect("a small one arrives");
    client.write_all(&[2; 20_000]).expect("there is room");
    let suspected = live.wait_for("a large segment that is lost again", |event| match event {
        Event::TcpRetransmit(again) if again.flow.local() == from && again.suggests_mtu() => {
            Some(*again)
        }
        _ => None,
    });
    assert_eq!(suspected.flow.peer(), peer);
    assert_eq!(suspected.task.pid, std::process::id());
    assert!(suspected.bytes >= suspected.segment_size.into(), "{suspected:?}");
    // The path is whole again; what was held up arrives, and then the peer falls silent altogether.
    far.must("nft", &["delete", "table", "ip", "path"]);
    server.read_exact(&mut [0; 20_000]).expect("it arrives");
    far.must(
        "nft",
        &["table ip path { chain whatever { type filter hook prerouting priority 0; drop; }; }"],
    );
    client.write_all(&[3; 20_000]).expect("there is room");
    let last = live.wait_for("a segment that times out again", |event| match event {
        Event::TcpRetransmit(again)
            if again.flow.local() == from && again.bytes_acked > 20_000 && again.timeouts >= 2 =>
        {
            Some(*again)
        }
        _ => None,
    });
    assert!(!last.suggests_mtu(), "{last:?}");
}
