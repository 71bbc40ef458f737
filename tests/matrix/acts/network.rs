//! Connections over the loopback device.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use monitor_common::Event;
use monitor_common::probes::tcp_reset::RECEIVED;
use rustix::net::{AddressFamily, SocketType};
use smart_monitor::host::cgroupfs::CgroupFs;
use smart_monitor::kernel::Kernel;
use smart_monitor_tests::free_port;

use crate::stage::Stage;

/// A connection to a port that nobody listens on.
pub(super) fn tcp_connect(stage: &mut Stage) -> Result<()> {
    const ECONNREFUSED: u32 = 111;
    let refused = |_: &mut Kernel| {
        let peer = free_port()?;
        if TcpStream::connect(peer).is_ok() {
            bail!("somebody listens on {peer}");
        }
        Ok(peer)
    };
    stage.see(refused, |peer, event| {
        matches!(event, Event::TcpConnect(connect)
            if connect.peer() == *peer && connect.error == ECONNREFUSED && connect.task.pid == std::process::id())
    })
}

/// One side ends while words of the other side's are unread: its host resets the connection.
pub(super) fn tcp_reset(stage: &mut Stage) -> Result<()> {
    let reset = |_: &mut Kernel| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let peer = listener.local_addr()?;
        let mut stream = TcpStream::connect(peer)?;
        let (unread, _) = listener.accept()?;
        stream.write_all(b"unread")?;
        // They have arrived, so that it has something not to read.
        unread.peek(&mut [0])?;
        drop(unread);
        Ok((peer, stream))
    };
    stage.see(reset, |(peer, _), event| {
        matches!(event, Event::TcpReset(reset) if reset.sent == RECEIVED && reset.flow.peer() == *peer)
    })
}

/// The first packet of a connection, to one whose queue is full: it drops the packet, and after a second it is sent again.
pub(super) fn tcp_retransmit(stage: &mut Stage) -> Result<()> {
    let sent_again = |_: &mut Kernel| {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
        rustix::net::listen(&listener, 0)?;
        let peer = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
        let _first = TcpStream::connect(peer).context("the queue holds one")?;
        if TcpStream::connect_timeout(&peer, Duration::from_millis(1_500)).is_ok() {
            bail!("the queue holds two");
        }
        Ok(peer)
    };
    stage.see(sent_again, |peer, event| {
        matches!(event, Event::TcpRetransmit(segment) if segment.flow.peer() == *peer)
    })
}

/// A question over sockets that are not connected, to a server that says that it failed.
pub(super) fn dns_query(stage: &mut Stage) -> Result<()> {
    const SERVFAIL: u16 = 2;
    let asked = |_: &mut Kernel| {
        let server = UdpSocket::bind("127.0.0.1:53").context("the server's port is free")?;
        let asker = UdpSocket::bind("0.0.0.0:0")?;
        let question = b"\x53\x4d\x01\0\0\x01\0\0\0\0\0\0\x06matrix\x04test\0\0\x01\0\x01";
        asker.send_to(question, "127.0.0.1:53")?;
        let mut packet = [0; 512];
        let (length, from) = server.recv_from(&mut packet)?;
        let answer = packet.get_mut(..length).context("a question")?;
        if let [_, _, flags, code, ..] = answer {
            (*flags, *code) = (0x81, 0x82);
        }
        server.send_to(answer, from)?;
        asker.recv(&mut [0; 512])?;
        Ok(asker.local_addr()?.port())
    };
    stage.see(asked, |port, event| {
        matches!(event, Event::DnsQuery(query) if query.flow.local_port == *port
            && query.rcode == SERVFAIL && query.qtype == 1
            && query.domain().to_string() == "matrix.test"
            && query.task.pid == std::process::id())
    })
}

/// A word and its answer, to a server in the cgroup that this program is in.
pub(super) fn service_latency(stage: &mut Stage) -> Result<()> {
    let answered = |kernel: &mut Kernel| {
        kernel.cgroups().watch(own_cgroup()?)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, peer) = listener.accept()?;
        client.write_all(b"word")?;
        server.read_exact(&mut [0; 4])?;
        server.write_all(b"answer")?;
        client.read_exact(&mut [0; 6])?;
        Ok(peer)
    };
    let seen = stage.see(
        answered,
        |peer, event| matches!(event, Event::ServiceLatency(answer) if answer.flow.peer() == *peer),
    );
    stage.kernel.cgroups().unwatch(own_cgroup()?)?;
    seen
}

fn own_cgroup() -> Result<u64> {
    let tree = CgroupFs::open()?.context("no cgroup v2 hierarchy is mounted")?;
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    tree.id_of(path.context("in no cgroup of v2")?)
        .context("its own cgroup is not in view")
}
