//! Numbers of events as stable words: the same ones in JSON and, with spaces, for people.

use std::borrow::Cow;

use monitor_common::probes::{
    cgroup_change, direct_reclaim, dns_query, memory_ceiling, oom_kill, socket_overflow, tcp_reset,
};

/// How a signal got on (`TRACE_SIGNAL_*` of the kernel's `include/trace/events/signal.h`).
pub(super) const fn signal_result(number: u32) -> &'static str {
    match number {
        0 => "delivered",
        1 => "ignored",
        2 => "already_pending",
        3 => "lost",
        4 => "delivered_without_details",
        _ => "unknown",
    }
}

/// Whose memory was short when the kernel killed.
pub(super) const fn oom_cause(number: u32) -> &'static str {
    match number {
        oom_kill::CAUSE_HOST => "host",
        oom_kill::CAUSE_CGROUP => "cgroup",
        _ => "unknown",
    }
}

/// Whose memory was short when a process had to free some.
pub(super) const fn reclaim_scope(number: u32) -> &'static str {
    match number {
        direct_reclaim::SCOPE_HOST => "host",
        direct_reclaim::SCOPE_CGROUP => "cgroup",
        _ => "unknown",
    }
}

/// Which way a reset went.
pub(super) const fn direction(sent: u16) -> &'static str {
    match sent {
        tcp_reset::RECEIVED => "received",
        tcp_reset::SENT => "sent",
        _ => "unknown",
    }
}

/// What a ceiling is on.
pub(super) const fn ceiling_scope(number: u32) -> &'static str {
    match number {
        memory_ceiling::SCOPE_PROCESS => "process",
        memory_ceiling::SCOPE_CGROUP => "cgroup",
        _ => "unknown",
    }
}

/// What came of crossing a ceiling.
pub(super) const fn ceiling_verdict(number: u32) -> &'static str {
    match number {
        memory_ceiling::OBSERVED => "observed",
        memory_ceiling::KILLED => "killed",
        memory_ceiling::SPARED => "spared",
        memory_ceiling::REFUSED => "refused",
        _ => "unknown",
    }
}

/// What became of a cgroup.
pub(super) const fn cgroup_change(number: u32) -> &'static str {
    match number {
        cgroup_change::MADE => "made",
        cgroup_change::RENAMED => "renamed",
        cgroup_change::REMOVED => "removed",
        _ => "changed",
    }
}

/// What became of a question to a DNS server.
pub(super) const fn dns_outcome(number: u16) -> &'static str {
    match number {
        dns_query::ANSWERED => "answered",
        dns_query::UNANSWERED => "no_answer",
        dns_query::LATE => "late",
        _ => "unknown",
    }
}

/// A protocol of the internet (`/etc/protocols`).
pub(super) const fn protocol(number: u16) -> &'static str {
    match number {
        1 | 58 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        136 => "UDP-Lite",
        _ => "another protocol",
    }
}

/// A routing table, by its name where it has one (`/etc/iproute2/rt_tables`).
pub(super) fn table(number: u32) -> Cow<'static, str> {
    match number {
        253 => "default".into(),
        254 => "main".into(),
        255 => "local".into(),
        number => number.to_string().into(),
    }
}

/// Which limit of a socket was reached.
pub(super) const fn socket_limit(number: u32) -> &'static str {
    match number {
        socket_overflow::RECEIVE_BUFFER => "receive_buffer",
        socket_overflow::RECEIVE_MEMORY => "receive_memory",
        socket_overflow::SEND_MEMORY => "send_memory",
        _ => "unknown",
    }
}

/// What a guard against fork storms does.
pub(super) const fn fork_guard(number: u32) -> &'static str {
    match number {
        0 => "none",
        1 => "observes",
        _ => "kills",
    }
}
