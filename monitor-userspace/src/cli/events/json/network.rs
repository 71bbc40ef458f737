//! Fields of events of the network.

use std::net::IpAddr;

use monitor_common::Flow;
use monitor_common::probes::service_latency::ServiceLatency;
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::probes::tcp_reset::{TcpReset, state_name};
use monitor_common::probes::tcp_retransmit::TcpRetransmit;
use serde::Serialize;

use super::super::{names, words};

/// The two ends of a connection.
#[derive(Serialize)]
pub(super) struct Ends {
    local_address: IpAddr,
    /// None where there was none.
    local_port: Option<u16>,
    peer_address: IpAddr,
    peer_port: u16,
}

pub(super) fn ends(flow: &Flow) -> Ends {
    Ends {
        local_address: flow.local().ip(),
        local_port: some(flow.local_port),
        peer_address: flow.peer().ip(),
        peer_port: flow.peer_port,
    }
}

/// None for 0.
pub(super) fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

#[derive(Serialize)]
pub(super) struct Connect {
    #[serde(flatten)]
    ends: Ends,
    latency_ns: u64,
    error: Option<u32>,
    error_name: Option<&'static str>,
    cause: &'static str,
    retransmits: u32,
    rtt_us: Option<u32>,
    drops: u32,
    elsewhere: bool,
}

pub(super) fn connect(event: &TcpConnect) -> Connect {
    Connect {
        ends: ends(&event.flow),
        latency_ns: event.latency_ns,
        error: some(event.error),
        error_name: names::error(event.error),
        cause: event.cause().name(),
        retransmits: event.retransmits,
        rtt_us: some(event.rtt_us),
        drops: event.drops,
        elsewhere: event.elsewhere != 0,
    }
}

#[derive(Serialize)]
pub(super) struct Reset {
    #[serde(flatten)]
    ends: Ends,
    direction: &'static str,
    state: &'static str,
    rtt_us: Option<u32>,
    retransmits: u32,
}

pub(super) fn reset(event: &TcpReset) -> Reset {
    Reset {
        ends: ends(&event.flow),
        direction: words::direction(event.sent),
        state: state_name(event.state),
        rtt_us: some(event.rtt_us),
        retransmits: event.retransmits,
    }
}

#[derive(Serialize)]
pub(super) struct Retransmit {
    #[serde(flatten)]
    ends: Ends,
    state: &'static str,
    bytes: u32,
    segment_size: u16,
    timeouts: u8,
    retransmits: u32,
    bytes_acked: u32,
    rtt_us: Option<u32>,
    suggests_mtu: bool,
}

pub(super) fn retransmit(event: &TcpRetransmit) -> Retransmit {
    Retransmit {
        ends: ends(&event.flow),
        state: state_name(event.state.into()),
        bytes: event.bytes,
        segment_size: event.segment_size,
        timeouts: event.timeouts,
        retransmits: event.retransmits,
        bytes_acked: event.bytes_acked,
        rtt_us: some(event.rtt_us),
        suggests_mtu: event.suggests_mtu(),
    }
}

#[derive(Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    ends: Ends,
    latency_ns: u64,
    overlapping: bool,
}

pub(super) fn answer(event: &ServiceLatency) -> Answer {
    Answer {
        ends: ends(&event.flow),
        latency_ns: event.latency_ns,
        overlapping: event.overlapping != 0,
    }
}
