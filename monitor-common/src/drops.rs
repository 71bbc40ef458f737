//! Why packets were thrown away, in classes that are the same on every kernel.
//!
//! The kernel's own reasons (`enum skb_drop_reason`, since 5.17) have other numbers in each version, and there are more than a
//! hundred. Userspace sorts those of the running kernel by their names and gives the programs a table.

macro_rules! classes {
    ($($(#[$doc:meta])* $number:literal => $variant:ident($name:literal),)*) => {
        /// What a packet was thrown away for.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
        #[repr(u16)]
        pub enum DropClass {
            $($(#[$doc])* $variant = $number,)*
        }

        impl DropClass {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The class with this number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name in metrics and events.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

classes! {
    /// None that is known, or one that tells of nothing wrong.
    #[default]
    0 => Unknown("unknown"),
    /// No socket has this port.
    1 => NoListener("no_listener"),
    /// The listener's queue of connections that wait for `accept` is full.
    2 => AcceptQueueFull("accept_queue_full"),
    /// A rule of netfilter: a firewall, or the table of connections (conntrack) being full.
    3 => Firewall("firewall"),
    /// Traffic control: a queue's limit, or a filter's verdict.
    4 => TrafficControl("traffic_control"),
    /// Nobody has the address on the local network.
    5 => NeighbourUnresolved("neighbour_unresolved"),
    /// No route leads there.
    6 => NoRoute("no_route"),
    /// The socket's receive buffer, or the protocol's memory, is full.
    7 => BufferFull("buffer_full"),
    /// Larger than the path's MTU, and not to be fragmented.
    8 => TooBig("too_big"),
    /// A queue of the kernel overflowed: too much came in at once.
    9 => Backlog("backlog"),
    /// Damaged, or not understood.
    10 => Malformed("malformed"),
    /// An XDP or socket program, or a security module.
    11 => Program("program"),
    /// The reverse path is not the way it came (`rp_filter`).
    12 => ReversePath("reverse_path"),
    /// It did not fit the state of the connection: old, out of the window, after a reset.
    13 => Protocol("protocol"),
    /// No memory for it.
    14 => NoMemory("no_memory"),
}

impl DropClass {
    /// The class of a reason, by the kernel's name of it without `SKB_DROP_REASON_`. [`Self::Unknown`] for one that happens where
    /// nothing is wrong (packets for others, repeated or closed in good order), that says nothing, or that is not known here.
    ///
    /// The kernel describes them in `include/net/dropreason-core.h`.
    pub fn of_reason(name: &str) -> Self {
        let starts = |start: &str| name.starts_with(start);
        match name {
            "NO_SOCKET" => Self::NoListener,
            "TCP_LISTEN_OVERFLOW" => Self::AcceptQueueFull,
            "NETFILTER_DROP" => Self::Firewall,
            "CAKE_FLOOD" | "DUALPI2_STEP_DROP" => Self::TrafficControl,
            _ if starts("TC_") || starts("QDISC_") || starts("FQ_") => Self::TrafficControl,
            _ if starts("NEIGH_") => Self::NeighbourUnresolved,
            "IP_OUTNOROUTES" | "IP_INNOROUTES" | "IP_INADDRERRORS" | "IPV6DISABLED" => {
                Self::NoRoute
            }
            "SOCKET_RCVBUFF"
            | "SOCKET_BACKLOG"
            | "PROTO_MEM"
            | "TCP_OFO_QUEUE_PRUNE"
            | "TCP_OFO_DROP" => Self::BufferFull,
            "PKT_TOO_BIG" => Self::TooBig,
            "CPU_BACKLOG" | "FULL_RING" => Self::Backlog,
            "PKT_TOO_SMALL" | "IP_INHDR" | "IP_INVALID_SOURCE" | "IP_INVALID_DEST"
            | "INVALID_PROTO" | "HDR_TRUNC" | "DEV_HDR" | "SKB_GSO_SEG" | "FRAG_TOO_FAR"
            | "FRAG_REASM_TIMEOUT" | "IPV6_BAD_EXTHDR" | "TCP_INVALID_SYN" => Self::Malformed,
            _ if name.ends_with("_CSUM") => Self::Malformed,
            "SOCKET_FILTER" | "BPF_CGROUP_EGRESS" | "SECURITY_HOOK" | "XDP" | "XFRM_POLICY"
            | "TAP_FILTER" | "TAP_TXFILTER" => Self::Program,
            "IP_RPFILTER" | "IP_LOCAL_SOURCE" | "IP_LOCALNET" => Self::ReversePath,
            "TCP_AUTH_HDR"
            | "TCP_FLAGS"
            | "TCP_OVERWINDOW"
            | "TCP_ZEROWINDOW"
            | "TCP_ACK_UNSENT_DATA"
            | "TCP_MINTTL" => Self::Protocol,
            _ if starts("TCP_MD5") || starts("TCP_AO") => Self::Protocol,
            _ if starts("TCP_RFC7323_") || starts("TCP_INVALID_") => Self::Protocol,
            "NOMEM" | "PFMEMALLOC" => Self::NoMemory,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places() {
        for (place, class) in DropClass::ALL.iter().enumerate() {
            assert_eq!(*class as usize, place);
            let number = u16::try_from(place).expect("few");
            assert_eq!(DropClass::from_number(number), Some(*class));
        }
        assert_eq!(DropClass::from_number(99), None);
    }

    #[test]
    fn reasons_of_every_day_tell_of_nothing() {
        for name in [
            "NOT_SPECIFIED",
            "SKB_CONSUMED",
            "OTHERHOST",
            "UNHANDLED_PROTO",
            "TCP_OLD_DATA",
            "TCP_OLD_ACK",
            "TCP_OFOMERGE",
            "TCP_RESET",
            "TCP_CLOSE",
            "SOCKET_CLOSE",
            "UNIX_DISCONNECT",
            "QUEUE_PURGE",
            "MAX",
            "one of a later kernel",
        ] {
            assert_eq!(DropClass::of_reason(name), DropClass::Unknown, "{name}");
        }
        assert_eq!(DropClass::of_reason("TC_EGRESS"), DropClass::TrafficControl);
        assert_eq!(DropClass::of_reason("TCP_CSUM"), DropClass::Malformed);
        assert_eq!(
            DropClass::of_reason("NEIGH_FAILED"),
            DropClass::NeighbourUnresolved
        );
    }
}
