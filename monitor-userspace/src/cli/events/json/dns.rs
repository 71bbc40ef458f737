//! Fields of a question to a DNS server.

use monitor_common::probes::dns_query::{DnsQuery, qtype_name, rcode_name};
use serde::Serialize;

use super::super::words;
use super::network::{Ends, ends};

#[derive(Serialize)]
pub(super) struct Dns {
    outcome: &'static str,
    name: String,
    name_cut: bool,
    qtype: u16,
    qtype_name: Option<&'static str>,
    /// The peer is the server.
    #[serde(flatten)]
    ends: Ends,
    latency_ns: u64,
    /// None without an answer.
    rcode: Option<u16>,
    rcode_name: Option<&'static str>,
    answers: Option<u16>,
    truncated: bool,
    sendings: u32,
    id: u16,
    socket_inode: Option<u64>,
}

pub(super) fn dns(event: &DnsQuery) -> Dns {
    let answered = event.is_answered();
    Dns {
        outcome: words::dns_outcome(event.outcome),
        name: event.domain().to_string(),
        name_cut: event.is_cut(),
        qtype: event.qtype,
        qtype_name: qtype_name(event.qtype),
        ends: ends(&event.flow),
        latency_ns: event.latency_ns,
        rcode: answered.then_some(event.rcode),
        rcode_name: rcode_name(event.rcode).filter(|_| answered),
        answers: answered.then_some(event.answers),
        truncated: event.truncated != 0,
        sendings: event.sendings,
        id: event.id,
        socket_inode: (event.inode != 0).then_some(event.inode),
    }
}
