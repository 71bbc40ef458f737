//! A TCP segment was sent again, since no acknowledgement came.

use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP, SOCKET_OWNER};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "tcp_retransmit",
    summary: "a TCP segment was sent again: how often in a row, how large, and whether the path's MTU is to blame",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "tcp_retransmit",
            attach: Attach::tracepoint("tcp_retransmit_skb"),
        },
        ProgramSpec {
            name: "tcp_retransmit_answer",
            attach: Attach::tracepoint("tcp_retransmit_synack"),
        },
    ],
    offsets: &[
        CURRENT,
        FLOW,
        SOCKET_OWNER,
        &[offsets::SOCK_STATE, offsets::TCP_TOTAL_RETRANSMITS],
    ],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[
            offsets::SOCK_SOURCE_PORT,
            offsets::SOCK_SOCKET,
            offsets::SOCKET_INODE_NUMBER,
            offsets::TCP_SMOOTHED_RTT,
            offsets::TCP_TIMEOUTS,
            offsets::TCP_SEGMENT_SIZE,
            offsets::TCP_SELECTIVE_ACKS,
            offsets::TCP_BYTES_ACKED,
            offsets::SKB_CB,
        ],
    ],
};

/// Emitted at each segment that is sent again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TcpRetransmit {
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
    /// Segments of the connection that were sent again, this one included or not, as the kernel counts it.
    pub retransmits: u32,
    /// Bytes of this segment, without headers.
    pub bytes: u32,
    /// Bytes that the peer has acknowledged; 4 GiB and more come out as `u32::MAX`.
    pub bytes_acked: u32,
    /// Bytes of the largest segment that is sent to the peer.
    pub segment_size: u16,
    /// Segments behind this one that have arrived; 65,535 for more.
    pub arrived_behind: u16,
    /// Timeouts in a row without an acknowledgement; 0 when the peer asked for the segment, or at the first timeout.
    pub timeouts: u8,
    /// State of the connection, as [`super::tcp_reset::state_name`] names it.
    pub state: u8,
    /// Always 0.
    pub padding: u16,
}

impl TcpRetransmit {
    /// Whether it looks as if the path swallowed large packets: a full segment times out again, while smaller ones behind it arrived or no
    /// full one was ever acknowledged.
    pub const fn suggests_mtu(&self) -> bool {
        let full = self.segment_size > 0 && self.bytes >= self.segment_size as u32;
        full && self.timeouts >= 2
            && (self.arrived_behind > 0 || self.bytes_acked < self.segment_size as u32)
    }
}

const _: () = assert!(size_of::<TcpRetransmit>() == 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_segments_that_never_arrive_suggest_the_mtu() {
        let lost = TcpRetransmit {
            header: Header::of::<TcpRetransmit>(0, 0),
            task: Task {
                pid: 0,
                tid: 0,
                start_time_ns: 0,
                cgroup_id: 0,
                comm: [0; 16],
            },
            flow: Flow::default(),
            inode: 0,
            bytes_acked: 200,
            rtt_us: 1_000,
            retransmits: 2,
            bytes: 1_448,
            segment_size: 1_448,
            arrived_behind: 0,
            timeouts: 2,
            state: 1,
            padding: 0,
        };
        assert!(lost.suggests_mtu());
        let small = TcpRetransmit { bytes: 100, ..lost };
        assert!(!small.suggests_mtu());
        let first = TcpRetransmit {
            timeouts: 1,
            ..lost
        };
        assert!(!first.suggests_mtu());
        let arrived = TcpRetransmit {
            bytes_acked: 1_000_000,
            ..lost
        };
        assert!(!arrived.suggests_mtu(), "full segments have arrived before");
        let behind = TcpRetransmit {
            arrived_behind: 1,
            ..arrived
        };
        assert!(behind.suggests_mtu());
    }
}
