//! What is thrown away on the loopback device.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context as _, Result, bail};
use monitor_common::{DropClass, Event};
use rustix::net::{AddressFamily, SocketType};
use smart_monitor::kernel::Kernel;
use smart_monitor_tests::free_port;

use crate::stage::Stage;

/// The first packet of a connection to a port that nobody listens on. Kernels before 5.17 do not say why, so that there is no event.
pub(super) fn packet_drop(stage: &mut Stage) -> Result<()> {
    let refused = |_: &mut Kernel| {
        let peer = free_port()?;
        if TcpStream::connect(peer).is_ok() {
            bail!("somebody listens on {peer}");
        }
        Ok(peer)
    };
    stage.see(refused, |peer, event| {
        matches!(event, Event::PacketDrop(drop)
            if drop.way().1 == *peer && drop.class() == DropClass::NoListener)
    })
}

/// The one connection that the queue holds. Kernels before 6.3 tell only of handshakes that wait for the queue.
pub(super) fn listen_overflow(stage: &mut Stage) -> Result<()> {
    let filled = |_: &mut Kernel| {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
        rustix::net::listen(&listener, 0)?;
        let listener = TcpListener::from(listener);
        let address = listener.local_addr()?;
        let first = TcpStream::connect(address).context("the queue holds one")?;
        Ok((address, listener, first))
    };
    stage.see(filled, |(address, _, _), event| {
        matches!(event, Event::ListenOverflow(full) if full.listener() == *address)
    })
}

/// Datagrams to a socket that does not read.
pub(super) fn socket_overflow(stage: &mut Stage) -> Result<()> {
    let overrun = |_: &mut Kernel| {
        let reader = UdpSocket::bind("127.0.0.1:0")?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&reader, 4_096)?;
        let writer = UdpSocket::bind("127.0.0.1:0")?;
        for _ in 0..100 {
            writer.send_to(&[0; 1_000], reader.local_addr()?)?;
        }
        Ok((reader.local_addr()?, reader))
    };
    stage.see(overrun, |(address, _), event| {
        matches!(event, Event::SocketOverflow(full) if full.flow.local() == *address)
    })
}
