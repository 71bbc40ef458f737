//! Connections over the loopback device.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use monitor_common::Event;
use monitor_common::probes::tcp_reset::RECEIVED;
use rustix::net::{AddressFamily, SocketType};
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
