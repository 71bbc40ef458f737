//! What events say of a socket, read from its `struct sock`.

use monitor_common::flow::AF_INET6;
use monitor_common::probes::tcp_connect;
use monitor_common::{Flow, Task};

use crate::maps::{DROPPED, Dropped, FULL_LISTENERS, Owner, SOCKETS};
use crate::offsets::{
    CGROUP_NODE, KernelPtr, NODE_ID, SOCK_ACCEPT_LIMIT, SOCK_ACCEPT_QUEUE, SOCK_CGROUP,
    SOCK_CGROUP_BITS, SOCK_FAMILY, SOCK_LOCAL_PORT, SOCK_LOCAL_V4, SOCK_LOCAL_V6, SOCK_NETWORK,
    SOCK_PEER_PORT, SOCK_PEER_V4, SOCK_PEER_V6, SOCK_PROTOCOL, SOCK_PROTOTYPE, SOCK_SOCKET,
    SOCK_SOURCE_PORT, SOCK_STATE, SOCKET_INODE_NUMBER, TCP_SMOOTHED_RTT, TCP_TOTAL_RETRANSMITS,
    known,
};

/// An address as the kernel has it, in network byte order; IPv4 in the first word.
pub(crate) type Address = [u32; 4];

/// The third word of an IPv6 address that holds an IPv4 address, as it lies in memory.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// The two ends of a socket.
#[inline(always)]
pub(crate) fn flow(socket: KernelPtr) -> Flow {
    let family: u16 = socket.load(&SOCK_FAMILY);
    let (local, peer) = addresses(socket, family);
    let local_port = match socket.load(&SOCK_LOCAL_PORT) {
        // A closed socket has given its port back, but a copy for the packets stays behind the `struct sock` that the verifier knows of.
        0 if known([&SOCK_SOURCE_PORT]) => u16::from_be(socket.load_checked(&SOCK_SOURCE_PORT, 0)),
        port => port,
    };
    Flow {
        local_address: bytes(local),
        peer_address: bytes(peer),
        local_port,
        peer_port: u16::from_be(socket.load(&SOCK_PEER_PORT)),
        family,
        protocol: socket.load(&SOCK_PROTOCOL),
    }
}

/// Local and peer's address.
#[inline(always)]
pub(crate) fn addresses(socket: KernelPtr, family: u16) -> (Address, Address) {
    if family == AF_INET6 && known([&SOCK_PEER_V6, &SOCK_LOCAL_V6]) {
        let words = |offset| [0, 4, 8, 12].map(|past| socket.load_past(offset, past));
        (words(&SOCK_LOCAL_V6), words(&SOCK_PEER_V6))
    } else {
        (
            [socket.load(&SOCK_LOCAL_V4), 0, 0, 0],
            [socket.load(&SOCK_PEER_V4), 0, 0, 0],
        )
    }
}

/// The bytes of an address.
#[inline(always)]
pub(crate) fn bytes(address: Address) -> [u8; 16] {
    // SAFETY: both are 16 bytes of which every value is valid.
    unsafe { core::mem::transmute::<Address, [u8; 16]>(address) }
}

/// The words of an address.
#[inline(always)]
pub(crate) fn words(address: [u8; 16]) -> Address {
    // SAFETY: both are 16 bytes of which every value is valid.
    unsafe { core::mem::transmute::<[u8; 16], Address>(address) }
}

/// IPv4 in an IPv6 address as IPv4.
#[inline(always)]
fn plain(address: Address) -> Address {
    let v4 = address[0] == 0 && address[1] == 0 && address[2] == MAPPED;
    if v4 { [address[3], 0, 0, 0] } else { address }
}

/// A number for a way of packets: from this end to that one. Packets of an IPv4 connection have the same number whether its socket is one
/// of IPv4 or of IPv6.
#[inline(always)]
pub(crate) fn way(from: Address, from_port: u16, to: Address, to_port: u16) -> u64 {
    let mut hash = u64::from(from_port) << 16 | u64::from(to_port);
    for address in [from, to] {
        let address = plain(address);
        for pair in [[address[0], address[1]], [address[2], address[3]]] {
            hash ^= u64::from(pair[0]) << 32 | u64::from(pair[1]);
            hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
    }
    hash
}

/// What this host threw away between the two ends, in either direction, since then.
#[inline(always)]
pub(crate) fn dropped(flow: &Flow, since_ns: u64) -> Dropped {
    let (local, peer) = (words(flow.local_address), words(flow.peer_address));
    let mut sum = Dropped::NONE;
    let out = way(local, flow.local_port, peer, flow.peer_port);
    let back = way(peer, flow.peer_port, local, flow.local_port);
    for key in [out, back] {
        if let Some(drop) = DROPPED.get_ptr(key) {
            // SAFETY: the entry may change meanwhile, which mixes two truths about the same way.
            let drop = unsafe { *drop };
            if drop.at_ns >= since_ns {
                sum.count += drop.count;
                sum.class = drop.class;
            }
        }
    }
    sum
}

/// Id of the cgroup whose task made the socket; a server's connections have that of their listener. 0 when unknown.
#[inline(always)]
pub(crate) fn cgroup_id(socket: KernelPtr) -> u64 {
    if known([&SOCK_CGROUP, &CGROUP_NODE, &NODE_ID]) {
        // Checked, since sockets found in packets and in maps are nothing that the verifier knows.
        let cgroup = socket.follow_checked(&SOCK_CGROUP, 0);
        cgroup
            .follow_checked(&CGROUP_NODE, 0)
            .load_checked(&NODE_ID, 0)
    } else if known([&SOCK_CGROUP_BITS, &CGROUP_NODE, &NODE_ID]) {
        let bits: u64 = socket.load_checked(&SOCK_CGROUP_BITS, 0);
        if bits & 1 != 0 {
            return 0;
        }
        KernelPtr::new((bits & !3) as *const u8)
            .follow_checked(&CGROUP_NODE, 0)
            .load_checked(&NODE_ID, 0)
    } else {
        0
    }
}

/// Number of its inode, as in `/proc/PID/fd` (`socket:[N]`); 0 once its last file is closed.
#[inline(always)]
pub(crate) fn inode(socket: KernelPtr) -> u64 {
    if !known([&SOCK_SOCKET, &SOCKET_INODE_NUMBER]) {
        return 0;
    }
    // A `struct socket_alloc` begins with its `struct socket`.
    let file = socket.follow_checked(&SOCK_SOCKET, 0);
    if file.is_null() {
        return 0;
    }
    file.load_checked(&SOCKET_INODE_NUMBER, 0)
}

/// The place of a socket in [`SOCKETS`]: computed, not looked up, since a hash map would cost a connection three times as much. Two sockets
/// may have the same place, so that what is in there must be checked.
#[inline(always)]
pub(crate) fn place(socket: KernelPtr) -> Option<*mut Owner> {
    // The distance from its operations stands for the address: the verifier lets nobody reckon with an address itself.
    let operations = socket.follow(&SOCK_PROTOTYPE);
    slot(socket.address().wrapping_sub(operations.address()))
}

#[inline(always)]
fn slot(distance: u64) -> Option<*mut Owner> {
    let mixed = distance.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    SOCKETS.get_ptr_mut((mixed >> 49) as u32 & (tcp_connect::SOCKETS - 1))
}

/// Who connected it, if that is remembered. The peer must be the same: what is there of a closed socket does not pass for what another that
/// was put in its place in memory, and came in, is.
#[inline(always)]
pub(crate) fn remembered(socket: KernelPtr) -> Option<*mut Owner> {
    let owner = place(socket)?;
    // SAFETY: a slot of the map, valid while the program runs.
    let (address, whose) = unsafe { ((*owner).socket, (*owner).peer) };
    (address == socket.address() && whose == peer(socket)).then_some(owner)
}

/// The peer, as a number.
#[inline(always)]
pub(crate) fn peer(socket: KernelPtr) -> u64 {
    let port: u16 = socket.load(&SOCK_PEER_PORT);
    let mut address = u64::from(socket.load::<u32>(&SOCK_PEER_V4));
    if socket.load::<u16>(&SOCK_FAMILY) == AF_INET6 && known([&SOCK_PEER_V6]) {
        for past in [0, 4, 8, 12] {
            address =
                address.rotate_left(11) ^ u64::from(socket.load_past::<u32>(&SOCK_PEER_V6, past));
        }
    }
    address << 16 ^ u64::from(port)
}

/// Who connected it; of a socket that this host did not connect, or that was forgotten, only the cgroup.
#[inline(always)]
pub(crate) fn owner(socket: KernelPtr) -> Task {
    match remembered(socket) {
        // SAFETY: a slot of the map, valid while the program runs.
        Some(owner) => unsafe { (*owner).task },
        None => stranger(socket),
    }
}

/// As [`owner`], of a socket that is a mere number to the verifier.
#[inline(always)]
pub(crate) fn owner_checked(socket: KernelPtr) -> Task {
    let operations = socket.follow_checked(&SOCK_PROTOTYPE, 0);
    let Some(owner) = slot(socket.address().wrapping_sub(operations.address())) else {
        return stranger(socket);
    };
    let port: u16 = socket.load_checked(&SOCK_PEER_PORT, 0);
    let mut peer = u64::from(socket.load_checked::<u32>(&SOCK_PEER_V4, 0));
    if socket.load_checked::<u16>(&SOCK_FAMILY, 0) == AF_INET6 && known([&SOCK_PEER_V6]) {
        let address: Address = socket.load_checked(&SOCK_PEER_V6, 0);
        for word in address {
            peer = peer.rotate_left(11) ^ u64::from(word);
        }
    }
    let peer = peer << 16 ^ u64::from(port);
    // SAFETY: a slot of the map, valid while the program runs.
    let owner = unsafe { &*owner };
    if owner.socket == socket.address() && owner.peer == peer {
        owner.task
    } else {
        stranger(socket)
    }
}

/// Of whose socket only the cgroup is known.
#[inline(always)]
pub(crate) fn stranger(socket: KernelPtr) -> Task {
    Task {
        cgroup_id: cgroup_id(socket),
        ..NOBODY
    }
}

/// No task.
pub(crate) const NOBODY: Task = Task {
    pid: 0,
    tid: 0,
    start_time_ns: 0,
    cgroup_id: 0,
    comm: [0; 16],
};

/// How often a TCP socket sent something again; 0 when unknown.
#[inline(always)]
pub(crate) fn retransmits(socket: KernelPtr) -> u32 {
    if known([&TCP_TOTAL_RETRANSMITS]) {
        socket.load_checked(&TCP_TOTAL_RETRANSMITS, 0)
    } else {
        0
    }
}

/// Smoothed round-trip time of a TCP socket, microseconds; 0 when unknown.
#[inline(always)]
pub(crate) fn rtt_us(socket: KernelPtr) -> u32 {
    if known([&TCP_SMOOTHED_RTT]) {
        socket.load_checked::<u32>(&TCP_SMOOTHED_RTT, 0) >> 3
    } else {
        0
    }
}

/// State of a listener.
pub(crate) const LISTEN: u8 = 10;

/// Whether this is the address of a listener that listens on all.
#[inline(always)]
pub(crate) fn is_any(address: Address) -> bool {
    address == [0; 4]
}

/// Whether every network namespace has this address for itself.
#[inline(always)]
fn is_loopback(address: Address) -> bool {
    let address = plain(address);
    let v4 = address[0].to_ne_bytes()[0] == 127 && address[1] | address[2] | address[3] == 0;
    v4 || address == [0, 0, 0, 1_u32.to_be()]
}

/// Its network namespace, to tell one from another; 0 when there is only one.
#[inline(always)]
pub(crate) fn network(socket: KernelPtr) -> u64 {
    if known([&SOCK_NETWORK]) {
        socket.load_checked(&SOCK_NETWORK, 0)
    } else {
        0
    }
}

/// A number for where a listener is connected to. Addresses that every network namespace has are told apart by it; the others are taken
/// to be unique on this host.
#[inline(always)]
pub(crate) fn seat(address: Address, port: u16, network: u64) -> u64 {
    let network = if is_any(address) || is_loopback(address) {
        network
    } else {
        0
    };
    let namespace = [network as u32, (network >> 32) as u32, 0, 0];
    way(address, port, namespace, 0)
}

/// The local address of a connection that the verifier knows nothing of.
#[inline(always)]
pub(crate) fn local_address_checked(connection: KernelPtr, family: u16) -> Address {
    if family == AF_INET6 && known([&SOCK_LOCAL_V6]) {
        connection.load_checked(&SOCK_LOCAL_V6, 0)
    } else {
        [connection.load_checked(&SOCK_LOCAL_V4, 0), 0, 0, 0]
    }
}

/// Whether the peer is a listener of this host whose queue is full, or was since then.
#[inline(always)]
pub(crate) fn peer_queue_full(socket: KernelPtr, flow: &Flow, since_ns: u64) -> bool {
    if !known([&SOCK_ACCEPT_QUEUE, &SOCK_ACCEPT_LIMIT]) {
        return false;
    }
    let (local, peer) = (words(flow.local_address), words(flow.peer_address));
    let network = network(socket);
    if queue_full(
        seat(peer, flow.peer_port, network),
        flow.peer_port,
        since_ns,
    ) {
        return true;
    }
    // A listener on any address says nothing of other namespaces and hosts; who connects to his own address has it as local one too.
    let own = is_loopback(peer) || plain(local) == plain(peer);
    own && queue_full(
        seat([0; 4], flow.peer_port, network),
        flow.peer_port,
        since_ns,
    )
}

#[inline(always)]
fn queue_full(seat: u64, port: u16, since_ns: u64) -> bool {
    let Some(listener) = FULL_LISTENERS.get_ptr(seat) else {
        return false;
    };
    // SAFETY: the value is copied at once.
    let listener = unsafe { *listener };
    if listener.at_ns >= since_ns {
        return true;
    }
    // It may be something else by now, and then it is no listener on this port.
    let socket = KernelPtr::new(listener.socket as *const u8);
    socket.load_checked::<u8>(&SOCK_STATE, 0) == LISTEN
        && socket.load_checked::<u16>(&SOCK_LOCAL_PORT, 0) == port
        && socket.load_checked::<u32>(&SOCK_ACCEPT_QUEUE, 0)
            > socket.load_checked::<u32>(&SOCK_ACCEPT_LIMIT, 0)
}
