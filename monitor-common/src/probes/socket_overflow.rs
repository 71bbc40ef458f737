//! What came for a socket did not fit: its buffer, or the memory of its protocol, is full.

use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP, SOCKET_OWNER};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "socket_overflow",
    summary: "a socket's buffer or its protocol's memory is full: which socket, which limit, and how much is in use",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "socket_overflow_udp",
            attach: Attach::tracepoint("udp_fail_queue_rcv_skb"),
        },
        ProgramSpec {
            name: "socket_overflow_queue",
            attach: Attach::tracepoint("sock_rcvqueue_full"),
        },
        ProgramSpec {
            name: "socket_overflow_memory",
            attach: Attach::tracepoint("sock_exceed_buf_limit"),
        },
    ],
    offsets: &[
        CURRENT,
        FLOW,
        SOCKET_OWNER,
        &[
            offsets::SOCK_RECEIVE_BUFFER,
            offsets::SOCK_RECEIVE_USED,
            offsets::SOCK_SEND_BUFFER,
            offsets::SOCK_SEND_USED,
        ],
    ],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[
            offsets::SOCK_SOURCE_PORT,
            offsets::SOCK_SOCKET,
            offsets::SOCKET_INODE_NUMBER,
        ],
    ],
};

/// Events that one CPU makes in a second; more are counted as held back.
pub const PER_SECOND: u64 = 200;

/// Emitted when something does not fit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SocketOverflow {
    /// First bytes of every record.
    pub header: Header,
    /// Who connected the socket; of any other, process 0 and the cgroup it was made in.
    pub task: Task,
    /// The two ends of the socket, the peer's empty where it has none.
    pub flow: Flow,
    /// Inode of the socket; 0 when unknown.
    pub inode: u64,
    /// Bytes that it holds in the direction of the limit.
    pub used: u32,
    /// Bytes that it may hold in that direction.
    pub buffer: u32,
    /// Pages that all sockets of the protocol hold; 0 when the limit is the socket's own.
    pub protocol_pages: u64,
    /// Which limit: `RECEIVE_BUFFER`, `RECEIVE_MEMORY` or `SEND_MEMORY`.
    pub limit: u32,
    /// Always 0.
    pub padding: u32,
}

/// As [`SocketOverflow::limit`]: the socket's receive buffer. Its process does not read fast enough, or the buffer is too small.
pub const RECEIVE_BUFFER: u32 = 1;
/// As [`SocketOverflow::limit`]: the memory that the protocol may use, for something received.
pub const RECEIVE_MEMORY: u32 = 2;
/// As [`SocketOverflow::limit`]: the memory that the protocol may use, for something to be sent.
pub const SEND_MEMORY: u32 = 3;

/// Limits, and 0.
pub const LIMITS: usize = 4;

const _: () = assert!(size_of::<SocketOverflow>() == 128);
