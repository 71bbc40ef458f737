//! Errors of sockets that have no state of a connection: no route, a call of `connect` that failed at once, ICMP.

use monitor_common::probes::connect_error::{Asked, ConnectError};
use monitor_common::probes::route_failure::{RouteFailure, has_ports};
use monitor_common::probes::socket_error::SocketError;

use super::super::{names, text, words};
use crate::cli::render::add;

fn error_name(number: u32) -> String {
    names::error(number).map_or_else(|| format!("error {number}"), str::to_owned)
}

/// An end of protocols that have ports, else its address alone.
fn end(address: std::net::SocketAddr, protocol: u16) -> String {
    if has_ports(protocol) {
        address.to_string()
    } else {
        address.ip().to_string()
    }
}

pub(super) fn no_route(failure: &RouteFailure) -> String {
    let protocol = failure.flow.protocol;
    let mut text = format!(
        "{} {}: {} ({}, table {}",
        end(failure.peer(), protocol),
        error_name(failure.error),
        failure.cause().describe(),
        words::protocol(protocol),
        words::table(failure.table),
    );
    if failure.interface != 0 {
        add(
            &mut text,
            format_args!(", bound to interface {}", failure.interface),
        );
    }
    text.push(')');
    text
}

pub(super) fn on_socket(error: &SocketError) -> String {
    let protocol = error.flow.protocol;
    let mut text = format!(
        "{} {} from {}",
        words::protocol(protocol),
        error_name(error.error),
        end(error.flow.local(), protocol)
    );
    if let Some(peer) = error.peer() {
        add(&mut text, format_args!(" to {}", end(peer, protocol)));
    }
    if error.retransmits > 0 {
        let times = error.retransmits;
        add(&mut text, format_args!("; sent again {times} times"));
    }
    text
}

pub(super) fn refused_call(event: &ConnectError) -> String {
    let asked = match event.asked() {
        Asked::Internet(peer) => peer.to_string(),
        Asked::Path(path) => text::printable(path),
        Asked::Abstract(name) => format!("@{}", text::printable(name)),
        Asked::Family(0) => "an address that cannot be read".to_owned(),
        Asked::Family(family) => format!("an address of family {family}"),
    };
    format!("{asked} {}", error_name(event.error))
}
