//! No route leads where a task wants to send: the kernel asked its last routing table in vain, or found a route that forbids it.
//!
//! Seen at the look-up itself, before any state of the connection changes. With policy rules, a table that has no answer is
//! followed by others; only the table that is asked last counts, and one that several rules ask is left out, since an answer may follow.

use crate::event::{Header, Task};
use crate::flow::Flow;
use crate::offsets::{self, CGROUP, CURRENT};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "route_failure",
    summary: "no route leads where a process wants to send, or one forbids it: its connect or send fails at once",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "route_failure_v4",
            attach: Attach::tracepoint("fib_table_lookup"),
        },
        ProgramSpec {
            name: "route_failure_v6",
            attach: Attach::tracepoint("fib6_table_lookup"),
        },
    ],
    offsets: &[
        CURRENT,
        &[
            offsets::ROUTE_KEY_OUT,
            offsets::ROUTE_KEY_IN,
            offsets::ROUTE_KEY_PROTOCOL,
            offsets::ROUTE_KEY_V4_FROM,
            offsets::ROUTE_KEY_V4_TO,
            offsets::ROUTE_KEY_V4_PORTS,
            offsets::ROUTE_KEY_V6_FROM,
            offsets::ROUTE_KEY_V6_TO,
            offsets::ROUTE_KEY_V6_PORTS,
            offsets::ROUTE_V6_FOUND,
            offsets::ROUTE_V6_FLAGS,
            offsets::ROUTE_V6_TYPE,
            offsets::ROUTE_TABLE_V6_ID,
            offsets::NET_V6_NULL_ROUTE,
        ],
    ],
    optional: &[
        CGROUP,
        &[
            offsets::REGISTERS_SYSCALL,
            offsets::TASK_NAMESPACES,
            offsets::NAMESPACES_NET,
            offsets::NET_V4_RULES,
            offsets::NET_V4_DEFAULT_TABLE,
            offsets::NET_V6_RULES,
            offsets::RULES_LIST,
            offsets::RULE_TABLE,
            offsets::RULE_ACTION,
        ],
    ],
};

/// Failures that one CPU may report at once in a second; more of them wait with the others.
pub const URGENT_PER_SECOND: u64 = 200;

/// As [`RouteFailure::error`]: a route forbids it (`prohibit`).
pub const EACCES: u32 = 13;
/// As [`RouteFailure::error`]: a route throws it away (`blackhole`).
pub const EINVAL: u32 = 22;
/// As [`RouteFailure::error`]: no route.
pub const ENETUNREACH: u32 = 101;
/// As [`RouteFailure::error`]: a route says that it cannot be reached (`unreachable`).
pub const EHOSTUNREACH: u32 = 113;

/// Emitted when the look-up ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteFailure {
    /// First bytes of every record.
    pub header: Header,
    /// The task that wants to send.
    pub task: Task,
    /// The two ends; the local one as far as it is known before a route is.
    pub flow: Flow,
    /// The errno that the call will return: one of those above.
    pub error: u32,
    /// The table that was asked last.
    pub table: u32,
    /// Number of the interface that the socket is bound to; 0 without one.
    pub interface: u32,
    /// Always 0.
    pub padding: u32,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteCause {
    /// No route.
    NoRoute,
    /// A route of this type.
    Unreachable,
    /// A route of this type.
    Prohibit,
    /// A route of this type.
    Blackhole,
    /// Something else: see the error.
    Other,
}

impl RouteCause {
    /// Its name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Unreachable => "unreachable_route",
            Self::Prohibit => "prohibit_route",
            Self::Blackhole => "blackhole_route",
            Self::Other => "other",
        }
    }

    /// What it means, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::NoRoute => "no route leads there",
            Self::Unreachable => "a route of this host says that it cannot be reached",
            Self::Prohibit => "a route of this host prohibits it",
            Self::Blackhole => "a route of this host leads into a black hole",
            Self::Other => "see the error",
        }
    }
}

impl RouteFailure {
    /// Where it wanted to send.
    pub fn peer(&self) -> core::net::SocketAddr {
        self.flow.peer()
    }

    /// What stands in the way.
    pub const fn cause(&self) -> RouteCause {
        match self.error {
            ENETUNREACH => RouteCause::NoRoute,
            EHOSTUNREACH => RouteCause::Unreachable,
            EACCES => RouteCause::Prohibit,
            EINVAL => RouteCause::Blackhole,
            _ => RouteCause::Other,
        }
    }
}

/// Whether packets of this protocol have ports where TCP has them: TCP, UDP, DCCP, SCTP, UDP-Lite.
#[inline]
pub const fn has_ports(protocol: u16) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// The errno for a route of IPv6 of this type (`RTN_*` of `linux/rtnetlink.h`) that is not one to send by; 0 for a table that is to be
/// passed over.
#[inline]
pub const fn error_of_type(route_type: u8) -> u32 {
    match route_type {
        6 => EINVAL,
        7 => EHOSTUNREACH,
        8 => EACCES,
        9 => 0,
        _ => ENETUNREACH,
    }
}

const _: () = assert!(size_of::<RouteFailure>() == 112);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_what_the_error_says() {
        let causes = [6, 7, 8, 1].map(|route_type| {
            let failure = RouteFailure {
                header: Header::of::<RouteFailure>(0, 0),
                task: Task {
                    pid: 1,
                    tid: 1,
                    start_time_ns: 1,
                    cgroup_id: 1,
                    comm: [0; 16],
                },
                flow: Flow::default(),
                error: error_of_type(route_type),
                table: 254,
                interface: 0,
                padding: 0,
            };
            failure.cause()
        });
        assert_eq!(
            causes,
            [
                RouteCause::Blackhole,
                RouteCause::Unreachable,
                RouteCause::Prohibit,
                RouteCause::NoRoute
            ]
        );
        assert_eq!(error_of_type(9), 0, "throw: the next table is asked");
        assert!(has_ports(17) && !has_ports(1));
    }
}
