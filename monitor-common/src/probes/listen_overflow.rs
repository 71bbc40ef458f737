//! A listener's queue of connections that wait for `accept` is full: from now on, connections to it are dropped.
//!
//! The kernel drops their first packets without a word, so that neither the caller nor [`super::packet_drop`] hears of it. It is seen
//! when the connection that fills the queue is put into it (since 6.3), and when the answer to a first packet is sent again.

use core::net::SocketAddr;

use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "listen_overflow",
    summary: "a listener's accept queue is full: which listener, how long the queue, and its limit",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "listen_overflow_synack",
            attach: Attach::tracepoint("tcp_retransmit_synack"),
        },
        ProgramSpec {
            name: "listen_overflow",
            attach: Attach::IfThere("sk_data_ready"),
        },
    ],
    offsets: &[
        CURRENT,
        FLOW,
        &[
            offsets::SOCK_STATE,
            offsets::SOCK_ACCEPT_QUEUE,
            offsets::SOCK_ACCEPT_LIMIT,
        ],
    ],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[
            offsets::ACCEPT_QUEUE_LAST,
            offsets::SOCK_NETWORK,
            offsets::SOCK_DROPS,
            offsets::SOCK_SOURCE_PORT,
            offsets::SOCK_SOCKET,
            offsets::SOCKET_INODE_NUMBER,
        ],
    ],
};

/// Addresses of full listeners that are remembered.
pub const LISTENERS: u32 = 1_024;

/// Events of one listener are at least so far apart, nanoseconds.
pub const EVERY_NS: u64 = 1_000_000_000;

/// Emitted when a queue is seen full.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ListenOverflow {
    /// First bytes of every record.
    pub header: Header,
    /// The listener's cgroup; the process is 0, since the kernel does not know who will accept.
    pub task: Task,
    /// The listener's address and port as the local end; the peer's is empty.
    pub flow: Flow,
    /// Inode of the listening socket; 0 when unknown.
    pub inode: u64,
    /// Connections that wait for `accept`.
    pub queue: u32,
    /// More than so many make it full: the backlog of `listen`, or `net.core.somaxconn` if that is less.
    pub limit: u32,
    /// Packets that this listener has dropped since it listens; 0 when unknown.
    pub drops: u32,
    /// 1 when a connection had to wait for the queue since its handshake could not be finished, 0 when one has just filled it.
    pub waiting: u32,
}

impl ListenOverflow {
    /// Where it listens.
    pub fn listener(&self) -> SocketAddr {
        self.flow.local()
    }
}

const _: () = assert!(size_of::<ListenOverflow>() == 120);
