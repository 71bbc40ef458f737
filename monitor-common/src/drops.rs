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
}
