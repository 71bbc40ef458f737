//! Fields of what was thrown away on the network.

use std::net::IpAddr;

use monitor_common::Flow;
use monitor_common::probes::listen_overflow::ListenOverflow;
use monitor_common::probes::packet_drop::PacketDrop;
use monitor_common::probes::socket_overflow::SocketOverflow;
use serde::Serialize;

use super::super::{names, words};
use super::network::{self, some};
use crate::host::procfs;

/// The two ends of what was IP, and its protocol's number there.
#[derive(Serialize)]
struct Ends {
    protocol: u16,
    #[serde(flatten)]
    ends: network::Ends,
}

fn ends(flow: &Flow) -> Option<Ends> {
    (flow.family != 0).then(|| Ends {
        protocol: flow.protocol,
        ends: network::ends(flow),
    })
}

#[derive(Serialize)]
pub(super) struct Packet {
    class: &'static str,
    reason: u16,
    reason_name: Option<&'static str>,
    outgoing: bool,
    #[serde(flatten)]
    ends: Option<Ends>,
    tcp_flags: u16,
    length: u32,
    interface: u32,
    inode: Option<u64>,
}

pub(super) fn packet(event: &PacketDrop) -> Packet {
    Packet {
        class: event.class().name(),
        reason: event.reason,
        reason_name: names::drop_reason(event.reason),
        outgoing: event.outgoing != 0,
        ends: ends(&event.flow),
        tcp_flags: event.tcp_flags,
        length: event.length,
        interface: event.interface,
        inode: some(event.inode),
    }
}

#[derive(Serialize)]
pub(super) struct Listen {
    listener_address: IpAddr,
    listener_port: u16,
    queue: u32,
    limit: u32,
    drops: u32,
    waiting: bool,
    inode: Option<u64>,
}

pub(super) fn listen(event: &ListenOverflow) -> Listen {
    let listener = event.listener();
    Listen {
        listener_address: listener.ip(),
        listener_port: listener.port(),
        queue: event.queue,
        limit: event.limit,
        drops: event.drops,
        waiting: event.waiting != 0,
        inode: some(event.inode),
    }
}

#[derive(Serialize)]
pub(super) struct Socket {
    full: &'static str,
    #[serde(flatten)]
    ends: Option<Ends>,
    used_bytes: u32,
    buffer_bytes: u32,
    protocol_bytes: Option<u64>,
    inode: Option<u64>,
}

pub(super) fn socket(event: &SocketOverflow) -> Socket {
    let protocol_bytes = event.protocol_pages.saturating_mul(procfs::page_size());
    Socket {
        full: words::socket_limit(event.limit),
        ends: ends(&event.flow),
        used_bytes: event.used,
        buffer_bytes: event.buffer,
        protocol_bytes: some(protocol_bytes),
        inode: some(event.inode),
    }
}
