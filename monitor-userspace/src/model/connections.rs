//! Connections of a process, and which of them are meant.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::way::Prefix;

/// Which connections of a process are meant: those for which all of it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFilter {
    /// The other end is in this network; any when none.
    pub peer: Option<Prefix>,
    /// The other end has this port.
    pub peer_port: Option<u16>,
    /// This end has this port.
    pub local_port: Option<u16>,
    /// It is in one of these states; any but listening when empty.
    pub states: Vec<TcpState>,
    /// No data came or went for so long.
    pub idle: Duration,
    /// So many at most; where there are more, none is touched.
    pub at_most: u32,
}

/// A state of a TCP connection (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpState {
    /// Both ends may send.
    Established,
    /// Asked for, and not answered yet.
    SynSent,
    /// Asked for by the other end.
    SynReceived,
    /// This end has closed it.
    FinWait1,
    /// This end has closed it, and the other knows.
    FinWait2,
    /// The other end has closed it, and the program here has not.
    CloseWait,
    /// Both ends have closed it, this one last.
    LastAck,
    /// Both ends have closed it at once.
    Closing,
}

impl TcpState {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::LastAck,
        Self::Closing,
    ];

    /// The kernel's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Established => 1,
            Self::SynSent => 2,
            Self::SynReceived => 3,
            Self::FinWait1 => 4,
            Self::FinWait2 => 5,
            Self::CloseWait => 8,
            Self::LastAck => 9,
            Self::Closing => 11,
        }
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Closing => "closing",
        }
    }
}

/// A TCP connection of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// Its state.
    pub state: TcpState,
    /// No data came or went for so long.
    pub idle: Duration,
}

impl ConnectionFilter {
    /// Whether a connection is meant.
    pub fn takes(&self, connection: &Connection) -> bool {
        let Connection {
            local,
            peer,
            state,
            idle,
        } = connection;
        self.peer.is_none_or(|net| contains(net, peer.ip()))
            && self.peer_port.is_none_or(|port| port == peer.port())
            && self.local_port.is_none_or(|port| port == local.port())
            && (self.states.is_empty() || self.states.contains(state))
            && *idle >= self.idle
    }
}

impl std::fmt::Display for ConnectionFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        if let Some(peer) = self.peer {
            words.push(format!("with {peer}"));
        }
        if let Some(port) = self.peer_port {
            words.push(format!("to port {port}"));
        }
        if let Some(port) = self.local_port {
            words.push(format!("at its own port {port}"));
        }
        if !self.states.is_empty() {
            let names: Vec<&str> = self.states.iter().map(|state| state.name()).collect();
            words.push(format!("that are {}", names.join(" or ")));
        }
        if !self.idle.is_zero() {
            words.push(format!("idle for {:?} or more", self.idle));
        }
        words.push(format!("at most {}", self.at_most));
        f.write_str(&words.join(", "))
    }
}

/// Whether an address is in a network. One of IPv4 that IPv6 carries counts as that of IPv4.
fn contains(net: Prefix, address: IpAddr) -> bool {
    match (net.address, address.to_canonical()) {
        (IpAddr::V4(net_address), IpAddr::V4(address)) => {
            let both = u32::from(net_address) ^ u32::from(address);
            both.leading_zeros() >= u32::from(net.bits)
        }
        (IpAddr::V6(net_address), IpAddr::V6(address)) => {
            let both = u128::from(net_address) ^ u128::from(address);
            both.leading_zeros() >= u32::from(net.bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_must_hold() {
        let connection = Connection {
            local: "10.0.0.2:80".parse().expect("an address"),
            peer: "10.0.0.9:4000".parse().expect("an address"),
            state: TcpState::CloseWait,
            idle: Duration::from_mins(1),
        };
        let all = ConnectionFilter {
            at_most: 1,
            ..ConnectionFilter::default()
        };
        assert!(all.takes(&connection));
        let with = |change: &dyn Fn(&mut ConnectionFilter)| {
            let mut filter = all.clone();
            change(&mut filter);
            filter.takes(&connection)
        };
        assert!(with(&|it| it.peer = Prefix::parse("10.0.0.0/24")));
        assert!(!with(&|it| it.peer = Prefix::parse("10.0.1.0/24")));
        assert!(with(&|it| it.peer = Prefix::parse("0.0.0.0/0")));
        assert!(!with(&|it| it.peer = Prefix::parse("::/0")));
        assert!(with(&|it| it.local_port = Some(80)));
        assert!(!with(&|it| it.peer_port = Some(80)));
        assert!(with(&|it| it.states = vec![TcpState::CloseWait]));
        assert!(!with(&|it| it.states = vec![TcpState::Established]));
        assert!(with(&|it| it.idle = Duration::from_mins(1)));
        assert!(!with(&|it| it.idle = Duration::from_secs(61)));
    }

    #[test]
    fn an_address_of_ipv4_that_ipv6_carries_is_one_of_ipv4() {
        let net = Prefix::parse("10.0.0.0/8").expect("it reads");
        assert!(contains(
            net,
            "::ffff:10.1.2.3".parse().expect("an address")
        ));
        assert!(!contains(
            net,
            "::ffff:11.1.2.3".parse().expect("an address")
        ));
    }
}
