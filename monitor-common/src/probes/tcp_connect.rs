//! An outgoing TCP connection was made or failed.
//!
//! `SYN_SENT` is entered in the caller's context, so the owner is noted then; the answer comes in some other context.

use crate::event::{Header, Task};
use crate::offsets::{self, CURRENT};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "tcp_connect",
    summary: "an outgoing TCP connection: its latency or its error, with the process that asked for it",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "tcp_connect",
        attach: Attach::tracepoint("inet_sock_set_state"),
    }],
    offsets: &[
        CURRENT,
        &[
            offsets::SOCK_PROTOCOL,
            offsets::SOCK_ERROR,
            offsets::SOCK_FAMILY,
            offsets::SOCK_PEER_PORT,
            offsets::SOCK_LOCAL_PORT,
            offsets::SOCK_PEER_V4,
            offsets::SOCK_LOCAL_V4,
        ],
    ],
    optional: &[&[
        offsets::SOCK_SOURCE_PORT,
        offsets::SOCK_PEER_V6,
        offsets::SOCK_LOCAL_V6,
    ]],
};

/// As [`TcpConnect::error`]: no local port was free, so that nothing was sent.
pub const EADDRNOTAVAIL: u32 = 99;

/// As [`TcpConnect::error`]: the connection ended before an answer came, and the network did not say why: the caller closed the
/// socket, gave up or was killed.
pub const ECONNABORTED: u32 = 103;

/// Failures that one CPU may report at once in a second; more of them wait with the successes.
pub const URGENT_PER_SECOND: u64 = 1_000;

/// `AF_INET`, as in [`TcpConnect::family`].
pub const AF_INET: u16 = 2;
/// `AF_INET6`, as in [`TcpConnect::family`].
pub const AF_INET6: u16 = 10;

/// Emitted when a connection leaves `SYN_SENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TcpConnect {
    /// First bytes of every record.
    pub header: Header,
    /// The task that called `connect`.
    pub task: Task,
    /// Nanoseconds in `SYN_SENT`.
    pub latency_ns: u64,
    /// The kernel's address of the socket, to join events of one connection; never shown to users.
    pub socket: u64,
    /// 0 when established, else the errno that the kernel left on the socket (`ECONNREFUSED` 111, `ETIMEDOUT` 110, ...);
    /// when it left none, [`EADDRNOTAVAIL`] or [`ECONNABORTED`].
    pub error: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Peer's port, host byte order.
    pub peer_port: u16,
    /// Peer's address, network byte order; IPv4 in the first four bytes.
    pub peer_address: [u8; 16],
    /// Local address, as above.
    pub local_address: [u8; 16],
    /// Local port, host byte order; 0 when the connection was not made.
    pub local_port: u16,
    /// Always 0.
    pub padding: [u16; 3],
}

impl TcpConnect {
    /// The peer, as an address and a port.
    pub fn peer(&self) -> core::net::SocketAddr {
        let bytes = self.peer_address;
        let address = if self.family == AF_INET {
            let [a, b, c, d, ..] = bytes;
            core::net::IpAddr::from([a, b, c, d])
        } else {
            core::net::IpAddr::from(bytes)
        };
        core::net::SocketAddr::new(address.to_canonical(), self.peer_port)
    }
}

const _: () = assert!(size_of::<TcpConnect>() == 120);
