//! What was thrown away on the network, in words.

use monitor_common::DropClass;
use monitor_common::flow::{Flow, TCP, UDP};
use monitor_common::probes::listen_overflow::ListenOverflow;
use monitor_common::probes::packet_drop::PacketDrop;
use monitor_common::probes::socket_overflow::{RECEIVE_BUFFER, SEND_MEMORY, SocketOverflow};

use super::super::names;
use super::pages;
use crate::cli::render::{self, add};

/// A packet.
pub(super) fn packet(drop: &PacketDrop) -> String {
    let mut text = if drop.outgoing == 0 {
        "incoming ".to_owned()
    } else {
        "outgoing ".to_owned()
    };
    let protocol = match drop.flow.protocol {
        _ if drop.flow.family == 0 => "packet that is not IP".to_owned(),
        TCP => format!("TCP {}", flags(drop.tcp_flags)),
        UDP => "UDP".to_owned(),
        number => format!("packet of protocol {number}"),
    };
    text.push_str(&protocol);
    if drop.flow.family != 0 {
        let (from, to) = drop.way();
        add(&mut text, format_args!(" {from} > {to}"));
    }
    let length = u64::from(drop.length);
    add(
        &mut text,
        format_args!(
            " ({}) dropped: {}",
            render::bytes(length),
            why(drop.class())
        ),
    );
    if let Some(reason) = names::drop_reason(drop.reason) {
        add(&mut text, format_args!(" ({reason})"));
    }
    text
}

fn why(class: DropClass) -> &'static str {
    match class {
        DropClass::Unknown => "for no reason known here",
        DropClass::NoListener => "nobody listens on that port",
        DropClass::AcceptQueueFull => "the listener's accept queue is full",
        DropClass::Firewall => "by netfilter",
        DropClass::TrafficControl => "by traffic control",
        DropClass::NeighbourUnresolved => "nobody on the local network has the address",
        DropClass::NoRoute => "no route leads there",
        DropClass::BufferFull => "the socket's buffer is full",
        DropClass::TooBig => "too big for the path",
        DropClass::Backlog => "a queue of the kernel overflowed",
        DropClass::Malformed => "damaged, or not understood",
        DropClass::Program => "by a program or a security module",
        DropClass::ReversePath => "not from where it should come",
        DropClass::Protocol => "it does not fit the connection",
        DropClass::NoMemory => "no memory for it",
    }
}

fn flags(bits: u16) -> String {
    const NAMES: [(u16, &str); 5] = [(2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH")];
    let set = NAMES.iter().filter(|(bit, _)| bits & bit != 0);
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    set.join("+")
}

/// A listener.
pub(super) fn listener(full: &ListenOverflow) -> String {
    let mut text = format!(
        "accept queue of {} is full: {} wait, limit {}",
        full.listener(),
        full.queue,
        full.limit
    );
    if full.drops > 0 {
        add(
            &mut text,
            format_args!("; {} packets dropped so far", full.drops),
        );
    }
    text
}

/// A socket.
pub(super) fn socket(full: &SocketOverflow) -> String {
    let what = match full.limit {
        RECEIVE_BUFFER => "receive buffer is full",
        SEND_MEMORY => "no more memory to send, by its protocol's limit",
        _ => "no more memory to receive, by its protocol's limit",
    };
    let mut text = format!("{}: {what}", ends(&full.flow));
    let (used, buffer) = (u64::from(full.used), u64::from(full.buffer));
    add(
        &mut text,
        format_args!(", {} of {}", render::bytes(used), render::bytes(buffer)),
    );
    if full.protocol_pages > 0 {
        add(
            &mut text,
            format_args!("; the protocol holds {}", pages(full.protocol_pages)),
        );
    }
    text
}

fn ends(flow: &Flow) -> String {
    let protocol = match flow.protocol {
        TCP => "TCP",
        UDP => "UDP",
        _ => "socket",
    };
    let local = flow.local();
    if flow.peer_port == 0 {
        format!("{protocol} {local}")
    } else {
        format!("{protocol} {local} - {}", flow.peer())
    }
}
