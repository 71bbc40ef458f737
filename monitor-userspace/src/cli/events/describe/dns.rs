//! What a question to a DNS server tells.

use monitor_common::probes::dns_query::{DnsQuery, LATE, PORT, qtype_name};

use super::time;
use crate::cli::render::add;

/// What was asked of whom, and what came of it.
pub(super) fn resolved(query: &DnsQuery) -> String {
    let mut name = query.domain().to_string();
    if query.is_cut() {
        name.push('…');
    }
    let qtype = qtype_name(query.qtype);
    let qtype = qtype.map_or_else(|| format!("TYPE{}", query.qtype), str::to_owned);
    let server = query.server();
    let server = if server.port() == PORT {
        server.ip().to_string()
    } else {
        server.to_string()
    };
    let mut text = format!("{name} {qtype} from {server}: ");
    let after = time(query.latency_ns);
    add(&mut text, format_args!("{} in {after}", query.result()));
    if query.sendings > 1 {
        add(&mut text, format_args!(" ({} sendings)", query.sendings));
    }
    if query.truncated != 0 {
        text.push_str("; cut, to be asked again over TCP");
    }
    if query.outcome == LATE {
        text.push_str("; it was given up before");
    }
    text
}
