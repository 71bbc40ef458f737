//! An error came to a socket from outside of any call on it: an ICMP message, or an established connection that got no answer for too long.
//!
//! Of TCP, a connection that was never made is `tcp_connect`'s, and a reset is `tcp_reset`'s; both are left out.

use crate::event::{Header, Task};
use crate::flow::{Flow, TCP};
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP, SOCKET_OWNER};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "socket_error",
    summary: "an error that came to a socket: a UDP port that cannot be reached, ICMP, an established connection without an answer",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "socket_error",
        attach: Attach::tracepoint("inet_sk_error_report"),
    }],
    offsets: &[
        // The owner of a connection is written down as the current task is.
        CURRENT,
        SOCKET_OWNER,
        FLOW,
        &[
            offsets::SOCK_ERROR,
            offsets::SOCK_STATE,
            offsets::TCP_RECEIVED,
        ],
    ],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[
            offsets::SOCK_SOCKET,
            offsets::SOCKET_INODE_NUMBER,
            offsets::TCP_TOTAL_RETRANSMITS,
        ],
    ],
};

/// Errors of TCP that one CPU may report at once in a second; more of them wait with the others.
pub const URGENT_PER_SECOND: u64 = 200;

const SYN_SENT: u16 = 2;
const CLOSE: u16 = 7;
const EPIPE: u32 = 32;
const ECONNRESET: u32 = 104;

/// Whether an error is told of elsewhere: a connection that failed before an answer came (`received`, the number of the next byte that is
/// awaited, is 0 until then; kernels close the socket before or after they report), or a reset.
#[inline]
pub const fn is_told_elsewhere(protocol: u16, state: u16, received: u32, error: u32) -> bool {
    protocol == TCP
        && (state == SYN_SENT
            || state == CLOSE && received == 0
            || error == ECONNRESET
            || error == EPIPE)
}

/// Emitted when the socket's owner is told.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SocketError {
    /// First bytes of every record.
    pub header: Header,
    /// Who connected it; process 0, with the socket's cgroup, when that is not known in the kernel.
    pub task: Task,
    /// The two ends; no peer for a socket that is not connected.
    pub flow: Flow,
    /// Number of its inode, by which its processes are found; 0 when no process has it any more.
    pub inode: u64,
    /// The kernel's address of the socket, to join events of one connection; never shown to users.
    pub socket: u64,
    /// The errno that the next call on the socket will return.
    pub error: u32,
    /// How often it sent something again, of TCP.
    pub retransmits: u32,
    /// State as in TCP (`TCP_ESTABLISHED` 1, ...); a socket that the kernel has closed for the error is in 7.
    pub state: u16,
    /// Always 0.
    pub padding: [u16; 3],
}

impl SocketError {
    /// The peer, when there is one.
    pub fn peer(&self) -> Option<core::net::SocketAddr> {
        let peer = self.flow.peer();
        (peer.port() != 0 || !peer.ip().is_unspecified()).then_some(peer)
    }
}

const _: () = assert!(size_of::<SocketError>() == 128);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::UDP;

    #[test]
    fn nothing_is_told_twice() {
        const ESTABLISHED: u16 = 1;
        const ETIMEDOUT: u32 = 110;
        const ECONNREFUSED: u32 = 111;
        assert!(is_told_elsewhere(TCP, SYN_SENT, 0, ECONNREFUSED));
        assert!(is_told_elsewhere(TCP, CLOSE, 0, ECONNREFUSED));
        assert!(is_told_elsewhere(TCP, CLOSE, 77, ECONNRESET));
        assert!(is_told_elsewhere(TCP, CLOSE, 77, EPIPE));
        assert!(!is_told_elsewhere(TCP, CLOSE, 77, ETIMEDOUT));
        assert!(!is_told_elsewhere(TCP, ESTABLISHED, 77, ETIMEDOUT));
        assert!(!is_told_elsewhere(UDP, CLOSE, 0, ECONNREFUSED));
    }
}
