//! Looks at a way from the bottom up: link, addresses, routes, neighbour, gateway, what is beyond it, resolvers, endpoints.
//!
//! Changes nothing, but that the kernel is made to ask a neighbour that it would ask sooner or later. Which layer is broken is judged in `judge`.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::judge::{Answers, judge};
use super::probe::{Ask, ask};
use super::tables::{self, Neighbour};
use super::wire::Netlink;
use super::{change, files};
use crate::model::way::{Anchor, Baseline, Diagnosis, Seen, Way};

/// A port of a gateway that accepts or refuses connections, where it does not drop them.
const WEB: u16 = 80;
/// `NLM_F_REPLACE`
const REPLACE: u16 = 0x100;

/// A look, and how long the slowest of the anchors took that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What was found.
    pub diagnosis: Diagnosis,
    /// Round trip.
    pub rtt: Option<Duration>,
    /// Place of the first anchor that answered.
    pub anchor: Option<usize>,
}

/// Looks. `within`: how long an answer is waited for. `suspicious`: the gateway is asked at once, not only when nothing beyond it answers.
pub(super) fn look(
    way: &Way,
    before: &Baseline,
    within: Duration,
    suspicious: bool,
) -> io::Result<Looked> {
    let netlink = Netlink::open()?;
    let mut seen = read(&netlink, way, before)?;
    let resolvers = wanted_resolvers(way, before, &seen);
    let gateways = way.gateways(before);
    let current = way.current(before, &seen).or(way.primary(before));
    if suspicious {
        for gateway in &gateways {
            provoke(&netlink, seen.device.index, *gateway);
        }
    }
    let mut questions: Vec<Ask> = way.anchors.iter().map(anchor).collect();
    let name = way.names.first();
    questions.extend(name.iter().flat_map(|name| {
        let all = resolvers.iter();
        all.map(|resolver| Ask::Dns(*resolver, (*name).clone()))
    }));
    let endpoints: Vec<SocketAddr> = way
        .endpoints
        .iter()
        .flat_map(|endpoint| endpoint.addresses.iter().copied())
        .collect();
    questions.extend(endpoints.iter().map(|address| Ask::Serves(*address)));
    if let (true, Some(gateway)) = (suspicious, current) {
        questions.push(Ask::Icmp(gateway));
        questions.push(Ask::Tcp(SocketAddr::new(gateway, WEB)));
    }
    let answers = ask(&questions, within);
    let (anchors, rest) = answers
        .split_at_checked(way.anchors.len())
        .unwrap_or_default();
    let asked = if name.is_some() { resolvers.len() } else { 0 };
    let (dns, rest) = rest.split_at_checked(asked).unwrap_or_default();
    let (served, gateway) = rest.split_at_checked(endpoints.len()).unwrap_or_default();
    if !suspicious && anchors.iter().all(Option::is_none) && seen.up && seen.carrier {
        return look(way, before, within, true);
    }
    seen.resolvers = good(&resolvers, dns);
    seen.endpoints = good(&endpoints, served);
    let mut pinged = gateway.iter().any(Option::is_some);
    if suspicious {
        let reached = |address: IpAddr| {
            let found = tables::neighbour(&netlink, seen.device.index, address);
            found.ok().flatten().is_some_and(|found| is_reached(&found))
        };
        seen.gateways = gateways.into_iter().filter(|it| reached(*it)).collect();
        pinged |= current.is_some_and(|current| seen.gateways.contains(&current));
    }
    let answers = Answers {
        anchors: anchors.iter().map(Option::is_some).collect(),
        gateway: pinged,
        asked_gateway: suspicious,
    };
    let rtt = anchors.iter().flatten().max().copied();
    Ok(Looked {
        anchor: anchors.iter().position(Option::is_some),
        diagnosis: judge(way, before, seen, &answers),
        rtt,
    })
}

/// One anchor, the resolver and the endpoints that are used: whether all is as well as it was.
pub(super) fn glance(
    way: &Way,
    anchor_at: usize,
    resolver: Option<IpAddr>,
    within: Duration,
) -> bool {
    let mut questions: Vec<Ask> = way.anchors.get(anchor_at).map(anchor).into_iter().collect();
    if let (Some(resolver), Some(name)) = (resolver, way.names.first()) {
        questions.push(Ask::Dns(resolver, name.clone()));
    }
    let hosts = files::read(&way.hosts).unwrap_or_default();
    for endpoint in &way.endpoints {
        let in_file = files::host(&hosts, &endpoint.name, &endpoint.addresses);
        questions.extend(Way::used_endpoint(&endpoint.addresses, in_file).map(Ask::Serves));
    }
    ask(&questions, within).iter().all(Option::is_some)
}

const fn anchor(anchor: &Anchor) -> Ask {
    match anchor {
        Anchor::Tcp(address) => Ask::Tcp(*address),
        Anchor::Icmp(address) => Ask::Icmp(*address),
    }
}

fn good<T: Copy>(all: &[T], answers: &[Option<Duration>]) -> Vec<T> {
    let both = all.iter().zip(answers);
    both.filter_map(|(one, answer)| answer.map(|_| *one))
        .collect()
}

fn read(netlink: &Netlink, way: &Way, before: &Baseline) -> io::Result<Seen> {
    let mut seen = Seen {
        resolv_conf: files::read(&way.resolv_conf),
        ..Seen::default()
    };
    if !way.endpoints.is_empty() {
        seen.hosts = files::read(&way.hosts);
    }
    let Some(link) = tables::link(netlink, before.device, &way.device)? else {
        return Ok(seen);
    };
    let index = link.device.index;
    seen.device = link.device;
    seen.up = link.up;
    seen.carrier = link.carrier;
    seen.addresses = tables::addresses(netlink, index)?;
    seen.routes = tables::routes(netlink, index)?;
    if let Some(gateway) = way.current(before, &seen).or(way.primary(before)) {
        let found = tables::neighbour(netlink, index, gateway)?;
        let known = found.filter(|found| !found.entry.link.is_empty());
        seen.neighbour = known.map(|found| found.entry);
    }
    Ok(seen)
}

/// Those that the file names, and those that are tried in their place.
fn wanted_resolvers(way: &Way, before: &Baseline, seen: &Seen) -> Vec<IpAddr> {
    let named = [&seen.resolv_conf, &before.resolv_conf]
        .into_iter()
        .flatten();
    let named = named.flat_map(|text| files::resolvers(text));
    let mut all: Vec<IpAddr> = Vec::new();
    for resolver in named.chain(way.backup_resolvers.iter().copied()) {
        if !all.contains(&resolver) {
            all.push(resolver);
        }
    }
    all
}

fn is_reached(neighbour: &Neighbour) -> bool {
    neighbour.state & tables::NUD_REACHABLE != 0
}

/// Makes the kernel ask a neighbour now whether it is there, as it does by itself when it has doubts.
fn provoke(netlink: &Netlink, device: u32, of: IpAddr) {
    let known = tables::neighbour(netlink, device, of).ok().flatten();
    let valid = known.as_ref().is_some_and(|it| !it.entry.link.is_empty());
    if known.as_ref().is_some_and(|it| it.entry.permanent) {
        return;
    }
    if valid {
        let probe = change::neighbour(tables::RTM_NEWNEIGH, REPLACE, device, of, tables::NUD_PROBE);
        // Without the right to, a ping must do.
        let _ = netlink.change(probe);
        return;
    }
    if known.is_some() {
        // It was asked for a moment ago, in vain, and the kernel would wait for a second before it asks again.
        let forget = change::neighbour(tables::RTM_DELNEIGH, 0, device, of, 0);
        let _ = netlink.change(forget);
    }
    let any = if of.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    if let Ok(socket) = UdpSocket::bind(any) {
        // The discard port: what counts is that its link address must be asked for before.
        let _ = socket.send_to(b"", (of, 9));
    }
}

/// Whether a gateway is there, by whatever it is asked.
pub(super) fn reaches(device: u32, gateway: IpAddr, within: Duration) -> io::Result<bool> {
    let netlink = Netlink::open()?;
    provoke(&netlink, device, gateway);
    let questions = [Ask::Icmp(gateway), Ask::Tcp(SocketAddr::new(gateway, WEB))];
    let answers = ask(&questions, within);
    let found = tables::neighbour(&netlink, device, gateway)?;
    let reached = found.is_some_and(|found| is_reached(&found));
    Ok(reached || answers.iter().any(Option::is_some))
}
