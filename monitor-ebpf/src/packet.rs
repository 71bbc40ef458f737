//! Who a packet is from and for, read from its headers by checked reads: a `struct sk_buff` says where they begin, but the verifier
//! does not follow it there.

use monitor_common::flow::{AF_INET, AF_INET6, TCP, UDP};
use monitor_common::{Flow, Task};

use crate::offsets::{
    DEVICE_INDEX, KernelPtr, SKB_DEVICE, SKB_HEAD, SKB_INTERFACE, SKB_NETWORK, SKB_PROTOCOL,
    SKB_SOCKET, SOCK_STATE, known,
};
use crate::socket::{self, Address, bytes};

/// `ETH_P_IP`
const IPV4: u16 = 0x0800;
/// `ETH_P_IPV6`
const IPV6: u16 = 0x86dd;

/// Flags of the TCP header.
const SYN: u16 = 2;
const ACK: u16 = 16;

/// States of what only begins as a `struct sock` does.
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;

/// What the headers say. The family is 0 when it is not IP, the ports are 0 where there are none.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) family: u16,
    pub(crate) protocol: u16,
    pub(crate) tcp_flags: u16,
}

impl Packet {
    /// Reads the headers of IP and of TCP or UDP. Extension headers of IPv6 are not gone through.
    #[inline(always)]
    pub(crate) fn read(skb: KernelPtr) -> Self {
        let mut packet = Self {
            source: [0; 4],
            destination: [0; 4],
            source_port: 0,
            destination_port: 0,
            family: 0,
            protocol: 0,
            tcp_flags: 0,
        };
        let ethernet = u16::from_be(skb.load(&SKB_PROTOCOL));
        let network = u64::from(skb.load::<u16>(&SKB_NETWORK));
        let header = KernelPtr::new((skb.load::<u64>(&SKB_HEAD) + network) as *const u8);
        let first: u8 = header.read_checked(0);
        let transport = match (ethernet, first >> 4) {
            (IPV4, 4) => {
                packet.family = AF_INET;
                packet.protocol = u16::from(header.read_checked::<u8>(9));
                packet.source[0] = header.read_checked(12);
                packet.destination[0] = header.read_checked(16);
                let fragment = u16::from_be(header.read_checked(6)) & 0x1fff;
                if fragment != 0 {
                    return packet;
                }
                u64::from(first & 15) * 4
            }
            (IPV6, 6) => {
                packet.family = AF_INET6;
                packet.protocol = u16::from(header.read_checked::<u8>(6));
                packet.source = header.read_checked(8);
                packet.destination = header.read_checked(24);
                40
            }
            _ => return packet,
        };
        if packet.protocol == TCP || packet.protocol == UDP {
            packet.source_port = u16::from_be(header.read_checked(transport));
            packet.destination_port = u16::from_be(header.read_checked(transport + 2));
        }
        if packet.protocol == TCP {
            packet.tcp_flags = u16::from(header.read_checked::<u8>(transport + 13));
        }
        packet
    }

    /// Whether it tells of something wrong that no socket was there for it: not when it is what is left of a connection that was closed.
    #[inline(always)]
    pub(crate) fn asks(&self) -> bool {
        self.is_addressed() && (self.protocol != TCP || self.tcp_flags & (SYN | ACK) == SYN)
    }

    /// Whether it tells of something wrong that it went nowhere: not when it was for all who care, or an answer to a ping.
    #[inline(always)]
    pub(crate) fn is_addressed(&self) -> bool {
        let first = self.destination[0].to_ne_bytes()[0];
        let multicast = if self.family == AF_INET {
            first >= 224
        } else {
            first == 255
        };
        (self.protocol == TCP || self.protocol == UDP) && !multicast
    }

    /// A number for its way, see [`socket::way`].
    #[inline(always)]
    pub(crate) fn way(&self) -> u64 {
        socket::way(
            self.source,
            self.source_port,
            self.destination,
            self.destination_port,
        )
    }

    /// Its ends, as this host sees them.
    #[inline(always)]
    pub(crate) fn flow(&self, outgoing: bool) -> Flow {
        let from = (self.source, self.source_port);
        let to = (self.destination, self.destination_port);
        let (local, peer) = if outgoing { (from, to) } else { (to, from) };
        Flow {
            local_address: bytes(local.0),
            peer_address: bytes(peer.0),
            local_port: local.1,
            peer_port: peer.1,
            family: self.family,
            protocol: self.protocol,
        }
    }
}

/// Whether this host sent it: what came in has a device that it came in by.
#[inline(always)]
pub(crate) fn is_outgoing(skb: KernelPtr) -> bool {
    skb.load::<u32>(&SKB_INTERFACE) == 0
}

/// Index of the device it came in by, or is to leave by; 0 when none.
#[inline(always)]
pub(crate) fn interface(skb: KernelPtr) -> u32 {
    if !is_outgoing(skb) {
        return skb.load(&SKB_INTERFACE);
    }
    if !known([&SKB_DEVICE, &DEVICE_INDEX]) {
        return 0;
    }
    let device = skb.follow_checked(&SKB_DEVICE, 0);
    if device.is_null() {
        return 0;
    }
    device.load_checked(&DEVICE_INDEX, 0)
}

/// The socket it belongs to: the one that refused it, or its own. Null when there is none, or only the beginnings of one.
#[inline(always)]
pub(crate) fn socket(skb: KernelPtr, refused_by: KernelPtr) -> KernelPtr {
    let socket = if refused_by.is_null() {
        skb.follow_checked(&SKB_SOCKET, 0)
    } else {
        refused_by.untyped()
    };
    if socket.is_null() {
        return socket;
    }
    match socket.load_checked::<u8>(&SOCK_STATE, 0) {
        TIME_WAIT | NEW_SYN_RECV => KernelPtr::new(core::ptr::null()),
        _ => socket,
    }
}

/// Whose it is, by [`socket`], and the inode of that.
#[inline(always)]
pub(crate) fn owner(socket: KernelPtr) -> (Task, u64) {
    if socket.is_null() {
        return (socket::NOBODY, 0);
    }
    (socket::owner_checked(socket), socket::inode(socket))
}
