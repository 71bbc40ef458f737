//! A packet was thrown away on this host, for a reason that tells of something wrong.
//!
//! Every packet that the kernel throws away is counted by the kernel's reason; an event comes only of those whose reason has a
//! [`DropClass`]. Before 5.17 the kernel gives no reasons, and the probe is off.

use core::net::SocketAddr;

use crate::drops::DropClass;
use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_CGROUP, SOCKET_OWNER};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "packet_drop",
    summary: "a packet thrown away on this host: between whom, and why (firewall, no listener, full queue, no route, ...)",
    mode: Mode::Optional,
    programs: &[ProgramSpec {
        name: "packet_drop",
        attach: Attach::BtfTracepoint {
            name: "kfree_skb",
            first_argument: "",
            // The packet, the place in the kernel, the reason.
            arguments: 3,
        },
    }],
    offsets: &[
        CURRENT,
        FLOW,
        SOCKET_OWNER,
        &[
            offsets::SKB_HEAD,
            offsets::SKB_NETWORK,
            offsets::SKB_PROTOCOL,
            offsets::SKB_LENGTH,
            offsets::SKB_INTERFACE,
            offsets::SKB_SOCKET,
            offsets::SOCK_STATE,
        ],
    ],
    optional: &[
        FLOW_V6,
        SOCKET_CGROUP,
        &[
            offsets::SKB_DEVICE,
            offsets::DEVICE_INDEX,
            offsets::SOCK_SOCKET,
            offsets::SOCKET_INODE_NUMBER,
        ],
    ],
};

/// Events of one class that one CPU makes in a second; more are counted as held back.
pub const PER_SECOND: u64 = 100;

/// Packets that one CPU notes in a second for connections to know of.
pub const NOTED_PER_SECOND: u64 = 4_000;

/// Reasons that are counted each for itself: the last one stands for those of the kernel's subsystems, whose numbers are above.
pub const REASONS: usize = 256;

/// As a reason's number: one that a subsystem of the kernel (Open vSwitch, a wireless driver) gave.
pub const SUBSYSTEM: u16 = 255;

/// Emitted when the packet is freed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PacketDrop {
    /// First bytes of every record.
    pub header: Header,
    /// Whose socket sent it or was to receive it; process 0 where it is not known, with the socket's cgroup where that is.
    pub task: Task,
    /// The two ends: the local one is the sender of an outgoing packet, else the addressee. The family is 0 when it is not IP, the
    /// ports are 0 where there are none.
    pub flow: Flow,
    /// Inode of the socket, see [`Self::task`]; 0 when there is none.
    pub inode: u64,
    /// Bytes of the packet.
    pub length: u32,
    /// Index of the network device it came from or was to leave by; 0 when none.
    pub interface: u32,
    /// The running kernel's number of the reason; [`SUBSYSTEM`] for one of a subsystem.
    pub reason: u16,
    /// A [`DropClass`] as a number.
    pub class: u16,
    /// Flags of the TCP header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub tcp_flags: u16,
    /// 1 when this host sent it, 0 when it came in.
    pub outgoing: u16,
}

impl PacketDrop {
    /// What it was thrown away for.
    pub fn class(&self) -> DropClass {
        DropClass::from_number(self.class).unwrap_or_default()
    }

    /// From where, and to where.
    pub fn way(&self) -> (SocketAddr, SocketAddr) {
        if self.outgoing == 0 {
            (self.flow.peer(), self.flow.local())
        } else {
            (self.flow.local(), self.flow.peer())
        }
    }
}

const _: () = assert!(size_of::<PacketDrop>() == 120);
