//! Between whom: the two ends of a connection, or of what would have been one.

use core::net::{IpAddr, SocketAddr};

/// `AF_INET`, as in [`Flow::family`].
pub const AF_INET: u16 = 2;
/// `AF_INET6`, as in [`Flow::family`].
pub const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`, as in [`Flow::protocol`].
pub const TCP: u16 = 6;
/// `IPPROTO_UDP`, as in [`Flow::protocol`].
pub const UDP: u16 = 17;

/// The two ends, as a socket has them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Flow {
    /// Local address, network byte order; IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    /// Peer's address, as above.
    pub peer_address: [u8; 16],
    /// Local port, host byte order; 0 when there is none, also where a kernel forgets that of a closed socket.
    pub local_port: u16,
    /// Peer's port, host byte order; 0 when there is none.
    pub peer_port: u16,
    /// `AF_INET` or `AF_INET6`; the family of the socket, which may carry IPv4 in an IPv6 address.
    pub family: u16,
    /// Protocol of the internet: [`TCP`], [`UDP`] or another.
    pub protocol: u16,
}

impl Flow {
    /// The peer, as an address and a port. IPv4 in an IPv6 address comes out as IPv4.
    pub fn peer(&self) -> SocketAddr {
        end(self.family, self.peer_address, self.peer_port)
    }

    /// The local end, likewise.
    pub fn local(&self) -> SocketAddr {
        end(self.family, self.local_address, self.local_port)
    }
}

fn end(family: u16, bytes: [u8; 16], port: u16) -> SocketAddr {
    let address = if family == AF_INET {
        let [a, b, c, d, ..] = bytes;
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(bytes)
    };
    SocketAddr::new(address.to_canonical(), port)
}

const _: () = assert!(size_of::<Flow>() == 40 && align_of::<Flow>() == 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_peer_of_an_ipv6_socket_is_shown_as_ipv4() {
        let mapped = Flow {
            peer_address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3],
            peer_port: 80,
            family: AF_INET6,
            ..Flow::default()
        };
        assert_eq!(mapped.peer(), SocketAddr::from(([10, 1, 2, 3], 80)));
        let plain = Flow {
            family: AF_INET,
            local_address: [10, 1, 2, 3, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
            local_port: 5,
            ..Flow::default()
        };
        assert_eq!(plain.local(), SocketAddr::from(([10, 1, 2, 3], 5)));
    }
}
