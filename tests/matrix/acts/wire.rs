//! Failures without a state of a connection.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, anyhow, bail};
use monitor_common::Event;
use monitor_common::probes::connect_error::Asked;
use monitor_common::probes::route_failure::ENETUNREACH;
use rustix::net::{AddressFamily, SendFlags, SocketType};
use rustix::thread::UnshareFlags;
use smart_monitor::kernel::Kernel;
use smart_monitor_tests::free_port;

use crate::stage::Stage;

/// Connections to addresses for documents (RFC 3849 and 5737), where nothing but the loopback device is.
pub(super) fn route_failure(stage: &mut Stage) -> Result<()> {
    let peer = SocketAddr::from(([192, 0, 2, 1], 80));
    let of_ipv6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 80));
    let lost = |_: &mut Kernel| alone(|| connect(of_ipv6).and_then(|()| connect(peer)));
    stage.see(lost, |(), event| {
        matches!(event, Event::RouteFailure(failure)
            if failure.peer() == peer && failure.error == ENETUNREACH && failure.task.pid == std::process::id())
    })
}

fn connect(peer: SocketAddr) -> Result<()> {
    match TcpStream::connect(peer) {
        Ok(_) => bail!("somebody answers at {peer}"),
        Err(_) => Ok(()),
    }
}

/// Calls it on a thread in a network namespace of its own, in which the loopback device is up.
fn alone(call: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            #[expect(
                deprecated,
                reason = "what may not be shared by threads of one program are files, and they stay shared"
            )]
            rustix::thread::unshare(UnshareFlags::NEWNET).context("a network namespace")?;
            loopback_up().context("the loopback device")?;
            call()
        });
        thread.join().map_err(|_| anyhow!("the thread died"))?
    })
}

/// `RTM_NEWLINK` for interface 1, with `IFF_UP` set and to be changed: rtnetlink(7).
fn loopback_up() -> Result<()> {
    let words: [u32; 8] = [32, 16 | 5 << 16, 1, 0, 0, 1, 1, 1];
    let message: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 64];
    rustix::net::recv(&socket, &mut answer, rustix::net::RecvFlags::empty())?;
    // Behind the header of 16 bytes: 0, or an errno below 0.
    match answer.get(16..20) {
        Some([0, 0, 0, 0]) => Ok(()),
        other => bail!("the kernel answers {other:?}"),
    }
}

/// A datagram to a port that nobody listens on.
pub(super) fn socket_error(stage: &mut Stage) -> Result<()> {
    let sent = |_: &mut Kernel| {
        let peer = free_port()?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(peer)?;
        socket.send(b"x")?;
        Ok((peer, socket))
    };
    stage.see(
        sent,
        |(peer, _), event| matches!(event, Event::SocketError(error) if error.peer() == Some(*peer) && error.inode != 0),
    )
}

/// A unix socket that is not there.
pub(super) fn connect_error(stage: &mut Stage) -> Result<()> {
    let path = format!("/nonexistent/{}", std::process::id());
    let missing = |_: &mut Kernel| {
        if UnixStream::connect(&path).is_ok() {
            bail!("somebody listens at {path}");
        }
        Ok(())
    };
    stage.see(missing, |(), event| {
        matches!(event, Event::ConnectError(error) if error.asked() == Asked::Path(path.as_bytes()) && error.error == 2)
    })
}
