//! An outgoing TCP connection was made or failed, and what became of its packets on the way.
//!
//! `SYN_SENT` is entered in the caller's context, so the owner is noted then; the answer comes in some other context. What the kernel
//! says of the same socket meanwhile is put together with it: the error, a reset, packets sent again, packets thrown away on this
//! host, a listener on this host whose queue is full. [`TcpConnect::cause`] draws the conclusion.

use crate::drops::DropClass;
use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CURRENT, FLOW, FLOW_V6, SOCKET_OWNER};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "tcp_connect",
    summary: "an outgoing TCP connection: its latency, or its error and the cause, with the process that asked for it",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "tcp_connect",
            attach: Attach::tracepoint("inet_sock_set_state"),
        },
        ProgramSpec {
            name: "tcp_connect_reset",
            attach: Attach::tracepoint("tcp_receive_reset"),
        },
    ],
    offsets: &[
        CURRENT,
        FLOW,
        SOCKET_OWNER,
        &[offsets::SOCK_ERROR, offsets::SOCK_STATE],
    ],
    optional: &[
        FLOW_V6,
        &[
            offsets::SOCK_SOURCE_PORT,
            offsets::TCP_TOTAL_RETRANSMITS,
            offsets::TCP_SMOOTHED_RTT,
            offsets::SOCK_NETWORK,
            offsets::NETWORK_NUMBER,
            offsets::SOCK_ACCEPT_QUEUE,
            offsets::SOCK_ACCEPT_LIMIT,
        ],
    ],
};

/// As [`TcpConnect::error`]: the user may not.
const EPERM: u32 = 1;
/// As [`TcpConnect::error`]: forbidden by a rule.
const EACCES: u32 = 13;
/// As [`TcpConnect::error`]: no local port was free, so that nothing was sent.
pub const EADDRNOTAVAIL: u32 = 99;
/// As [`TcpConnect::error`]: no route to the network.
const ENETUNREACH: u32 = 101;
/// As [`TcpConnect::error`]: the connection ended before an answer came, and the network did not say why: the caller closed the
/// socket, gave up or was killed.
pub const ECONNABORTED: u32 = 103;
/// As [`TcpConnect::error`]: no answer.
pub const ETIMEDOUT: u32 = 110;
/// As [`TcpConnect::error`]: a reset, or ICMP saying that the port cannot be reached.
pub const ECONNREFUSED: u32 = 111;
/// As [`TcpConnect::error`]: no way to the host.
pub const EHOSTUNREACH: u32 = 113;

/// Failures that one CPU may report at once in a second; more of them wait with the successes.
pub const URGENT_PER_SECOND: u64 = 1_000;

/// After a failure every success is told for so long, whatever the share of its cgroup: who counts failures in a row must see what came
/// between.
pub const TOLD_AFTER_FAILURE_NS: u64 = 60_000_000_000;

/// Places for sockets whose owner is remembered. A socket has one place, so that another that has the same may take it.
pub const SOCKETS: u32 = 32_768;

/// Emitted when a connection leaves `SYN_SENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TcpConnect {
    /// First bytes of every record.
    pub header: Header,
    /// The task that called `connect`; process 0 when it was forgotten among too many connections.
    pub task: Task,
    /// The two ends. The local port is 0 when none was found.
    pub flow: Flow,
    /// Nanoseconds in `SYN_SENT`; 0 when the start was forgotten.
    pub latency_ns: u64,
    /// 0 when established, else the errno that the kernel left on the socket (`ECONNREFUSED` 111, `ETIMEDOUT` 110, ...);
    /// when it left none, [`EADDRNOTAVAIL`] or [`ECONNABORTED`].
    pub error: u32,
    /// How often the first packet was sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds; 0 when nothing came back.
    pub rtt_us: u32,
    /// How many packets between the two ends this host is known to have thrown away since the start.
    pub drops: u32,
    /// What the last of them was thrown away for: a [`DropClass`] as a number. That a listener's queue is full is known without one.
    pub drop_class: u16,
    /// 1 when a reset came.
    pub reset: u16,
    /// 1 when it was made in another network namespace than the daemon's: the same address is another host's there.
    pub elsewhere: u32,
}

/// Why a connection was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ConnectCause {
    /// It was made.
    Connected,
    /// This host threw a packet of it away, for this reason.
    Dropped(DropClass),
    /// The peer, or something in its name, sent a reset; why is not known from here.
    Refused,
    /// ICMP said that the port cannot be reached, or must not be.
    Rejected,
    /// No answer came, however often it was asked.
    Unanswered,
    /// ICMP, or this host, said that there is no way to the host.
    HostUnreachable,
    /// There is no way to the network.
    NetworkUnreachable,
    /// No local port was free.
    NoLocalPort,
    /// The caller did not wait for the answer.
    GaveUp,
    /// A rule of this host forbids it.
    Forbidden,
    /// Something else: see the error.
    Other,
}

impl ConnectCause {
    /// Its name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Dropped(class) => class.name(),
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unanswered => "unanswered",
            Self::HostUnreachable => "host_unreachable",
            Self::NetworkUnreachable => "network_unreachable",
            Self::NoLocalPort => "no_local_port",
            Self::GaveUp => "gave_up",
            Self::Forbidden => "forbidden",
            Self::Other => "other",
        }
    }

    /// What it means, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Dropped(DropClass::NoListener) => "nobody listens on that port of this host",
            Self::Dropped(DropClass::AcceptQueueFull) => {
                "the listener's accept queue is full: it does not accept fast enough"
            }
            Self::Dropped(DropClass::Firewall) => {
                "netfilter of this host dropped it: a firewall rule, or a full conntrack table"
            }
            Self::Dropped(DropClass::TrafficControl) => "traffic control of this host dropped it",
            Self::Dropped(DropClass::NeighbourUnresolved) => {
                "nobody on the local network has the address"
            }
            Self::Dropped(DropClass::NoRoute) => "no route leads there",
            Self::Dropped(_) => "this host dropped its packets",
            Self::Refused => "the peer refused it with a reset",
            Self::Rejected => "rejected by ICMP: port unreachable or forbidden",
            Self::Unanswered => "no answer came: lost, dropped by a firewall, or the host is down",
            Self::HostUnreachable => "the host cannot be reached",
            Self::NetworkUnreachable => "the network cannot be reached",
            Self::NoLocalPort => "no local port is free",
            Self::GaveUp => "the caller gave up before an answer came",
            Self::Forbidden => "forbidden by a rule of this host",
            Self::Other => "see the error",
        }
    }
}

impl TcpConnect {
    /// The peer, as an address and a port.
    pub fn peer(&self) -> core::net::SocketAddr {
        self.flow.peer()
    }

    /// Why it failed, from everything that was seen of it.
    pub fn cause(&self) -> ConnectCause {
        let class = DropClass::from_number(self.drop_class).unwrap_or_default();
        let dropped = |otherwise| match class {
            // Says nothing about a first packet.
            DropClass::Unknown | DropClass::Protocol => otherwise,
            class => ConnectCause::Dropped(class),
        };
        match self.error {
            0 => ConnectCause::Connected,
            EADDRNOTAVAIL => ConnectCause::NoLocalPort,
            EPERM | EACCES => dropped(ConnectCause::Forbidden),
            ENETUNREACH => dropped(ConnectCause::NetworkUnreachable),
            EHOSTUNREACH => dropped(ConnectCause::HostUnreachable),
            ECONNREFUSED if self.reset != 0 => dropped(ConnectCause::Refused),
            ECONNREFUSED => dropped(ConnectCause::Rejected),
            ETIMEDOUT => dropped(ConnectCause::Unanswered),
            ECONNABORTED if self.retransmits > 0 => dropped(ConnectCause::Unanswered),
            ECONNABORTED => dropped(ConnectCause::GaveUp),
            _ => dropped(ConnectCause::Other),
        }
    }
}

const _: () = assert!(size_of::<TcpConnect>() == 128);

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(error: u32, change: impl FnOnce(&mut TcpConnect)) -> &'static str {
        let mut connect = TcpConnect {
            header: Header::of::<TcpConnect>(0, 0),
            task: Task {
                pid: 1,
                tid: 1,
                start_time_ns: 1,
                cgroup_id: 1,
                comm: [0; 16],
            },
            flow: Flow::default(),
            latency_ns: 1,
            error,
            retransmits: 0,
            rtt_us: 0,
            drops: 0,
            drop_class: 0,
            reset: 0,
            elsewhere: 0,
        };
        change(&mut connect);
        connect.cause().name()
    }

    #[test]
    fn what_was_seen_of_the_packets_says_more_than_the_error() {
        let dropped = |class: DropClass| move |it: &mut TcpConnect| it.drop_class = class as u16;
        assert_eq!(failed(ECONNREFUSED, |it| it.reset = 1), "refused");
        assert_eq!(failed(ECONNREFUSED, |_| ()), "rejected");
        assert_eq!(
            failed(ECONNREFUSED, dropped(DropClass::NoListener)),
            "no_listener"
        );
        assert_eq!(failed(ETIMEDOUT, |_| ()), "unanswered");
        assert_eq!(failed(ETIMEDOUT, dropped(DropClass::Firewall)), "firewall");
        assert_eq!(failed(ECONNABORTED, |_| ()), "gave_up");
        assert_eq!(failed(ECONNABORTED, |it| it.retransmits = 2), "unanswered");
        assert_eq!(
            failed(ECONNABORTED, dropped(DropClass::AcceptQueueFull)),
            "accept_queue_full"
        );
        assert_eq!(
            failed(ETIMEDOUT, dropped(DropClass::Protocol)),
            "unanswered"
        );
        assert_eq!(failed(5, |_| ()), "other");
    }
}
