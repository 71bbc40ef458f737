//! What events of the network tell.

use std::time::Duration;

use monitor_common::Flow;
use monitor_common::probes::service_latency::ServiceLatency;
use monitor_common::probes::tcp_connect::TcpConnect;
use monitor_common::probes::tcp_reset::{SENT, TcpReset, state_name};
use monitor_common::probes::tcp_retransmit::TcpRetransmit;

use super::super::names;
use super::time;
use crate::cli::render::{self, add};

/// An outgoing connection.
pub(super) fn connected(connect: &TcpConnect) -> String {
    let peer = connect.peer();
    let after = time(connect.latency_ns);
    let mut text = if connect.error == 0 {
        format!("{peer} connected in {after}")
    } else {
        let error = names::error(connect.error);
        let error = error.map_or_else(|| format!("error {}", connect.error), str::to_owned);
        let cause = connect.cause().describe();
        format!("{peer} {error} after {after}: {cause}")
    };
    if connect.retransmits > 0 {
        let sent = connect.retransmits.saturating_add(1);
        add(&mut text, format_args!("; SYN sent {sent} times"));
    }
    text
}

/// A reset.
pub(super) fn reset(reset: &TcpReset) -> String {
    let state = state_name(reset.state);
    let ends = ends(&reset.flow);
    let by = if reset.sent == SENT {
        "reset by this host"
    } else {
        "reset by the peer"
    };
    let mut text = format!("{ends} {by} in {state}");
    round_trip(&mut text, reset.rtt_us);
    text
}

/// A segment that was sent again.
pub(super) fn retransmit(again: &TcpRetransmit) -> String {
    let state = state_name(again.state.into());
    let ends = ends(&again.flow);
    let bytes = again.bytes;
    let mut text = format!("{ends} {bytes} bytes sent again in {state}");
    if again.timeouts > 0 {
        let timeouts = again.timeouts;
        add(&mut text, format_args!(", {timeouts} timeouts before"));
    }
    round_trip(&mut text, again.rtt_us);
    if again.suggests_mtu() {
        text.push_str("; only large packets are lost: the path's MTU is smaller than assumed");
    }
    text
}

/// A slow answer of a service.
pub(super) fn answered(slow: &ServiceLatency) -> String {
    let (port, peer) = (slow.flow.local_port, slow.flow.peer());
    let after = time(slow.latency_ns);
    let mut text = format!("port {port} answered {peer} after {after}");
    if slow.overlapping != 0 {
        text.push_str("; more requests came meanwhile, or its request in parts");
    }
    text
}

fn ends(flow: &Flow) -> String {
    format!("{} -> {}", flow.local(), flow.peer())
}

fn round_trip(text: &mut String, rtt_us: u32) {
    if rtt_us > 0 {
        let rtt = render::duration(Duration::from_micros(rtt_us.into()));
        add(text, format_args!(", round trip {rtt}"));
    }
}
