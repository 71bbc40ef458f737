//! Links, addresses, routes and neighbours of the daemon's network namespace, as they are now (`rtnetlink(7)`). Needs no rights.
//!
//! Layouts: `linux/if_link.h`, `linux/if_addr.h`, `linux/rtnetlink.h`, `linux/neighbour.h`. Left out: routes with several next hops.

use std::io;
use std::net::IpAddr;

use super::wire::{Netlink, address, attribute, number, short, text};
use crate::model::network::IpFamily;
use crate::model::way::{Address, Device, FOREVER, NeighbourEntry, Prefix, Route};

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
/// `IFF_UP`, and `IFF_LOWER_UP` for carrier.
pub(super) const UP: u32 = 1;
const CARRIER: u32 = 1 << 16;
const IFLA_IFNAME: u16 = 3;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_CACHEINFO: u16 = 6;
pub(super) const IFA_FLAGS: u16 = 8;
/// `IFA_F_TEMPORARY` (of IPv6; of IPv4, where it means "secondary", it says nothing), `DADFAILED`, `DEPRECATED`, `TENTATIVE`.
const SHORT_LIVED: u32 = 0x01;
const UNUSABLE: u32 = 0x08 | 0x40;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
pub(super) const MAIN: u32 = 254;
pub(super) const RTN_UNICAST: u8 = 1;
/// `RTNH_F_ONLINK`
pub(super) const ONLINK: u32 = 4;
/// `RTM_F_CLONED`: what is only remembered of a route.
const CLONED: u32 = 0x200;
/// `RTPROT_KERNEL`: it comes with an address.
const BY_KERNEL: u8 = 2;
pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NUD_REACHABLE: u16 = 0x02;
pub(super) const NUD_STALE: u16 = 0x04;
pub(super) const NUD_PROBE: u16 = 0x10;
pub(super) const NUD_PERMANENT: u16 = 0x80;

/// A link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) device: Device,
    pub(super) up: bool,
    pub(super) carrier: bool,
}

/// What is believed of a neighbour, and how sure that is (`NUD_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) entry: NeighbourEntry,
    pub(super) state: u16,
}

/// The link of this number; else, where none is asked for or it is gone, the one of this name.
pub(super) fn link(netlink: &Netlink, index: u32, name: &str) -> io::Result<Option<Link>> {
    let all = netlink.table(RTM_GETLINK, &[0; 16], |kind, body| {
        (kind == RTM_NEWLINK).then(|| link_of(body)).flatten()
    })?;
    let by_name = all.iter().find(|link| link.device.name == name);
    let by_index = all.iter().find(|link| link.device.index == index);
    Ok(by_name.or(by_index).cloned())
}

fn link_of(body: &[u8]) -> Option<Link> {
    // Ports of bridges are told of as links of another family.
    if body.first() != Some(&0) {
        return None;
    }
    let flags = number(body, 8)?;
    Some(Link {
        device: Device {
            index: number(body, 4)?,
            name: text(attribute(body.get(16..)?, IFLA_IFNAME)?),
        },
        up: flags & UP != 0,
        carrier: flags & CARRIER != 0,
    })
}

/// Addresses of a device that stay: not those that the host makes for itself (link-local, temporary), and none that does not work.
pub(super) fn addresses(netlink: &Netlink, device: u32) -> io::Result<Vec<Address>> {
    netlink.table(RTM_GETADDR, &[0; 8], |kind, body| {
        let mine = kind == RTM_NEWADDR && number(body, 4) == Some(device);
        mine.then(|| address_of(body)).flatten()
    })
}

fn address_of(body: &[u8]) -> Option<Address> {
    let &[family, bits, short_flags, ..] = body else {
        return None;
    };
    let attributes = body.get(8..)?;
    let flags = attribute(attributes, IFA_FLAGS).and_then(|flags| number(flags, 0));
    let flags = flags.unwrap_or(u32::from(short_flags));
    let own = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS));
    let own = address(own?)?;
    let temporary = family == AF_INET6 && flags & SHORT_LIVED != 0;
    let local = matches!(own, IpAddr::V6(own) if own.is_unicast_link_local());
    if temporary || local || flags & UNUSABLE != 0 {
        return None;
    }
    let times = attribute(attributes, IFA_CACHEINFO);
    let time = |at| times.and_then(|times| number(times, at)).unwrap_or(FOREVER);
    Some(Address {
        prefix: Prefix { address: own, bits },
        valid: time(4),
        preferred: time(0),
    })
}

/// Routes of the main table that lead over this device, and those to everywhere. Not those that come with addresses.
pub(super) fn routes(netlink: &Netlink, device: u32) -> io::Result<Vec<Route>> {
    netlink.table(RTM_GETROUTE, &[0; 12], |kind, body| {
        let route = (kind == RTM_NEWROUTE).then(|| route_of(body)).flatten()?;
        (route.device == device || route.to.is_none()).then_some(route)
    })
}

fn route_of(body: &[u8]) -> Option<Route> {
    let &[family, bits, from_bits, _, table, protocol, _, kind, ..] = body else {
        return None;
    };
    let (family, any) = match family {
        AF_INET => (IpFamily::Ipv4, IpAddr::from([0; 4])),
        AF_INET6 => (IpFamily::Ipv6, IpAddr::from([0; 16])),
        _ => return None,
    };
    let attributes = body.get(12..)?;
    let named = attribute(attributes, RTA_TABLE).and_then(|table| number(table, 0));
    let flags = number(body, 8)?;
    let main = named.unwrap_or(u32::from(table)) == MAIN;
    let plain =
        attribute(attributes, RTA_MULTIPATH).is_none() && attribute(attributes, RTA_VIA).is_none();
    let not_mine = protocol == BY_KERNEL || flags & CLONED != 0 || from_bits != 0;
    if !main || kind != RTN_UNICAST || !plain || not_mine {
        return None;
    }
    let place = attribute(attributes, RTA_DST)
        .and_then(address)
        .unwrap_or(any);
    let value = |kind| attribute(attributes, kind).and_then(|value| number(value, 0));
    Some(Route {
        family,
        to: (bits != 0).then_some(Prefix {
            address: place,
            bits,
        }),
        via: attribute(attributes, RTA_GATEWAY).and_then(address),
        device: value(RTA_OIF)?,
        metric: value(RTA_PRIORITY).unwrap_or(0),
        source: attribute(attributes, RTA_PREFSRC).and_then(address),
        protocol,
        onlink: flags & ONLINK != 0,
    })
}

/// What is believed of a neighbour on this device.
pub(super) fn neighbour(
    netlink: &Netlink,
    device: u32,
    of: IpAddr,
) -> io::Result<Option<Neighbour>> {
    let all = netlink.table(RTM_GETNEIGH, &[0; 12], |kind, body| {
        let found = (kind == RTM_NEWNEIGH).then(|| neighbour_of(body)).flatten();
        found.filter(|(on, found)| *on == device && found.entry.address == of)
    })?;
    Ok(all.into_iter().next().map(|(_, found)| found))
}

/// `struct ndmsg`
pub(super) fn neighbour_of(body: &[u8]) -> Option<(u32, Neighbour)> {
    if !matches!(body.first(), Some(&(AF_INET | AF_INET6))) {
        return None;
    }
    let attributes = body.get(12..)?;
    let state = short(body, 8)?;
    let neighbour = Neighbour {
        entry: NeighbourEntry {
            address: address(attribute(attributes, NDA_DST)?)?,
            link: attribute(attributes, NDA_LLADDR)
                .unwrap_or_default()
                .to_vec(),
            permanent: state & NUD_PERMANENT != 0,
        },
        state,
    };
    Some((number(body, 4)?, neighbour))
}
