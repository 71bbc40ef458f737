//! What changes in a network namespace: links, default routes, neighbours.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One change, as the kernel told it (rtnetlink) or as two readings of its tables differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum NetworkChange {
    /// A link has begun or ceased to carry packets.
    Link {
        /// Its name.
        name: String,
        /// What made it, such as `veth` or `bridge`; none for hardware and for the loopback device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// What it is now.
        state: LinkState,
    },
    /// The last default route of a family has gone, or there is one again.
    DefaultRoute {
        /// Which family.
        family: IpFamily,
        /// Whether there is one now.
        present: bool,
        /// The device of the one that went, or that came; `device N` when its name is unknown.
        device: String,
    },
    /// A neighbour stopped answering when its link address was asked for, or was heard again.
    Neighbour {
        /// Its address.
        address: IpAddr,
        /// The device on whose wire it should be.
        device: String,
        /// Whether it can be reached now.
        reachable: bool,
    },
    /// Changes were lost: they came faster than they were read. The tables are read anew, and what differs is told.
    Missed,
}

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Switched on, with carrier.
    Up,
    /// Switched on, without carrier.
    NoCarrier,
    /// Switched off.
    Off,
    /// There is no such device any more in this namespace.
    Removed,
    /// The device goes by another name now.
    Renamed,
}

impl LinkState {
    /// In words, after the name of the link.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Up => "is up",
            Self::NoCarrier => "has lost its carrier",
            Self::Off => "was switched off",
            Self::Removed => "was removed",
            Self::Renamed => "has another name now",
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}
