//! What is thrown away on the loopback device.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use monitor_common::{DropClass, Event};
use rustix::net::{AddressFamily, SocketType};
use smart_monitor::kernel::Kernel;
use smart_monitor_tests::free_port;

use crate::stage::Stage;

/// The first packet of a connection to a port that nobody listens on.
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

/// A connection of which the listener wants to see data first, and others that fill its queue: when the first is answered once more, after a
/// second, the queue is full. Kernels before 6.3 tell only of such handshakes.
pub(super) fn listen_overflow(stage: &mut Stage) -> Result<()> {
    let filled = |_: &mut Kernel| {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
        // Room for three; and for two handshakes at a time, without which older kernels drop the next one's first packet.
        rustix::net::listen(&listener, 2)?;
        defer_accept(&listener, 1)?;
        let listener = TcpListener::from(listener);
        let address = listener.local_addr()?;
        let connect = || TcpStream::connect(address).context("it is answered");
        let silent = connect()?;
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut other = connect()?;
            other.write_all(b"data")?;
            others.push(other);
        }
        Ok((address, listener, silent, others))
    };
    stage.see(filled, |(address, ..), event| {
        matches!(event, Event::ListenOverflow(full) if full.listener() == *address)
    })
}

/// `TCP_DEFER_ACCEPT`, seconds.
#[expect(unsafe_code, reason = "rustix does not know this option")]
fn defer_accept(listener: &OwnedFd, seconds: libc::c_int) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&seconds))?;
    // SAFETY: the value is as long as is said.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size,
        )
    };
    ensure!(
        done == 0,
        "TCP_DEFER_ACCEPT: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
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
