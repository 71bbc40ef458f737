//! A TCP connection was ended by a reset, from the peer or by this host.
//!
//! Resets that answer the first packet of a connection belong to `tcp_connect` on the side that asked, and to `packet_drop` on the
//! side that has no listener; they are only counted here.

use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP, SOCKET_OWNER};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "tcp_reset",
    summary: "a TCP connection was ended by a reset, from the peer or by this host",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "tcp_reset_received",
            attach: Attach::tracepoint("tcp_receive_reset"),
        },
        ProgramSpec {
            name: "tcp_reset_sent",
            attach: Attach::tracepoint("tcp_send_reset"),
        },
    ],
    offsets: &[CURRENT, FLOW, SOCKET_OWNER, &[offsets::SOCK_STATE]],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[
            offsets::SOCK_SOURCE_PORT,
            offsets::SOCK_SOCKET,
            offsets::SOCKET_INODE_NUMBER,
            offsets::TCP_TOTAL_RETRANSMITS,
            offsets::TCP_SMOOTHED_RTT,
        ],
    ],
};

/// [`TcpReset::sent`]: it came from the peer.
pub const RECEIVED: u16 = 0;
/// [`TcpReset::sent`]: this host sent it.
pub const SENT: u16 = 1;

/// Emitted for a connection that was being made or was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TcpReset {
    /// First bytes of every record.
    pub header: Header,
    /// Who connected; of a connection that came in, or whose start was not seen, only the cgroup of the socket is known.
    pub task: Task,
    /// The two ends.
    pub flow: Flow,
    /// Number of the socket's inode, as in `/proc/PID/fd`; 0 once nobody has it open.
    pub inode: u64,
    /// Smoothed round-trip time, microseconds; 0 when unknown.
    pub rtt_us: u32,
    /// Packets of the connection that were sent again.
    pub retransmits: u32,
    /// Whether it was sent: [`RECEIVED`] or [`SENT`].
    pub sent: u16,
    /// State of the connection before, as in `include/net/tcp_states.h`: 1 established, 3 SYN received, ...
    pub state: u16,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<TcpReset>() == 120);

/// Name of a TCP state, as `ss` shows it.
pub const fn state_name(state: u16) -> &'static str {
    match state {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 | 12 => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        6 => "TIME_WAIT",
        7 => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "unknown",
    }
}
