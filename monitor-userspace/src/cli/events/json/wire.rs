//! Fields of errors of sockets that have no state of a connection.

use std::borrow::Cow;
use std::net::IpAddr;

use monitor_common::probes::connect_error::{Asked, ConnectError};
use monitor_common::probes::route_failure::RouteFailure;
use monitor_common::probes::socket_error::SocketError;
use monitor_common::probes::tcp_reset::state_name;
use serde::Serialize;

use super::super::{names, text, words};

/// The two ends, as far as there are any.
#[derive(Serialize)]
struct Ends {
    protocol: &'static str,
    protocol_number: u16,
    local_address: Option<IpAddr>,
    local_port: Option<u16>,
    peer_address: Option<IpAddr>,
    peer_port: Option<u16>,
}

fn ends(flow: &monitor_common::Flow) -> Ends {
    let address = |address: IpAddr| (!address.is_unspecified()).then_some(address);
    let port = |port: u16| (port != 0).then_some(port);
    Ends {
        protocol: words::protocol(flow.protocol),
        protocol_number: flow.protocol,
        local_address: address(flow.local().ip()),
        local_port: port(flow.local_port),
        peer_address: address(flow.peer().ip()),
        peer_port: port(flow.peer_port),
    }
}

#[derive(Serialize)]
pub(super) struct Route {
    #[serde(flatten)]
    ends: Ends,
    error: u32,
    error_name: Option<&'static str>,
    cause: &'static str,
    table: u32,
    interface: Option<u32>,
}

pub(super) fn route(event: &RouteFailure) -> Route {
    Route {
        ends: ends(&event.flow),
        error: event.error,
        error_name: names::error(event.error),
        cause: event.cause().name(),
        table: event.table,
        interface: (event.interface != 0).then_some(event.interface),
    }
}

#[derive(Serialize)]
pub(super) struct OnSocket {
    #[serde(flatten)]
    ends: Ends,
    error: u32,
    error_name: Option<&'static str>,
    state: &'static str,
    retransmits: u32,
}

pub(super) fn on_socket(event: &SocketError) -> OnSocket {
    OnSocket {
        ends: ends(&event.flow),
        error: event.error,
        error_name: names::error(event.error),
        state: state_name(event.state),
        retransmits: event.retransmits,
    }
}

#[derive(Serialize)]
pub(super) struct Call<'a> {
    family: u16,
    peer_address: Option<IpAddr>,
    peer_port: Option<u16>,
    path: Option<Cow<'a, str>>,
    abstract_name: Option<Cow<'a, str>>,
    error: u32,
    error_name: Option<&'static str>,
}

pub(super) fn call(event: &ConnectError) -> Call<'_> {
    let mut call = Call {
        family: event.family,
        peer_address: None,
        peer_port: None,
        path: None,
        abstract_name: None,
        error: event.error,
        error_name: names::error(event.error),
    };
    match event.asked() {
        Asked::Internet(peer) => {
            call.peer_address = Some(peer.ip());
            call.peer_port = Some(peer.port());
        }
        Asked::Path(path) => call.path = Some(text::exact(path)),
        Asked::Abstract(name) => call.abstract_name = Some(text::exact(name)),
        Asked::Family(_) => {}
    }
    call
}
