//! Messages of rtnetlink, from bytes. What ends early or contradicts itself is an error, never a panic.
//!
//! Layouts: `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`, `linux/neighbour.h`. Numbers are in the order of the host.

use std::io;
use std::net::IpAddr;

use crate::model::network::IpFamily;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_GETNEIGH: u16 = 30;

/// `NLM_F_REQUEST | NLM_F_DUMP`
const REQUEST_DUMP: u16 = 0x301;
/// `NLM_F_DUMP_INTR`: the table changed while it was read.
const INTERRUPTED: u16 = 0x10;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct ifinfomsg`.
const LINK: usize = 16;
/// Bytes of `struct rtmsg` and of `struct ndmsg`.
const SHORT: usize = 12;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `IFF_UP`, and `IFF_LOWER_UP` for carrier.
const UP: u32 = 1;
const CARRIER: u32 = 1 << 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
/// `RTNH_F_DEAD`, and `RTM_F_CLONED` for what is only remembered of a route.
const NOT_IN_USE: u32 = 1 | 0x200;
const NDA_DST: u16 = 1;
const NUD_FAILED: u16 = 0x20;
/// `NUD_REACHABLE`, `STALE`, `DELAY`, `PROBE`, `NOARP` and `PERMANENT`: its link address is known.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// A link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) up: bool,
    pub(super) carrier: bool,
}

/// Which way a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    Failed,
    Valid,
    Asked,
    Forgotten,
}

/// What a message says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Link(Link),
    LinkRemoved(u32),
    /// There is such a default route in the main table, or was one until now: index of its first device, 0 when it names none.
    DefaultRoute {
        family: IpFamily,
        device: u32,
    },
    /// An address went, and routes may have gone with it without a word.
    AddressRemoved,
    Neighbour {
        device: u32,
        address: IpAddr,
        state: Neighbour,
    },
    /// A dump is complete.
    Done,
}

/// A request for a whole table.
pub(super) fn request(kind: u16, sequence: u32) -> Vec<u8> {
    let body = if kind == RTM_GETLINK { LINK } else { SHORT };
    let length = u32::try_from(HEADER + body).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEADER + body);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // Port and body: from the kernel, of every family.
    bytes.resize(HEADER + body, 0);
    bytes
}

/// Takes all messages out of a datagram; with a sequence number, only answers to that request.
pub(super) fn parse(
    mut bytes: &[u8],
    sequence: Option<u32>,
    found: &mut Vec<Message>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let length = number(bytes, 0).ok_or_else(cut)? as usize;
        let body = bytes.get(HEADER..length).ok_or_else(cut)?;
        let kind = short(bytes, 4).ok_or_else(cut)?;
        let flags = short(bytes, 6).ok_or_else(cut)?;
        if sequence.is_none() || number(bytes, 8) == sequence {
            if flags & INTERRUPTED != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            found.extend(message(kind, body)?);
        }
        let aligned = length.next_multiple_of(4);
        bytes = bytes.get(aligned..).unwrap_or_default();
    }
    Ok(())
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message of rtnetlink ends early",
    )
}

fn message(kind: u16, body: &[u8]) -> io::Result<Option<Message>> {
    Ok(match kind {
        NLMSG_DONE => Some(Message::Done),
        NLMSG_ERROR => {
            let errno = number(body, 0).ok_or_else(cut)?.cast_signed();
            return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
        }
        // Ports of bridges are told of as links of another family: that one is taken out of a bridge removes no link.
        RTM_NEWLINK if body.first() == Some(&AF_UNSPEC) => Some(link(body).ok_or_else(cut)?),
        RTM_DELLINK if body.first() == Some(&AF_UNSPEC) => {
            Some(Message::LinkRemoved(number(body, 4).ok_or_else(cut)?))
        }
        RTM_DELADDR => Some(Message::AddressRemoved),
        RTM_NEWROUTE | RTM_DELROUTE => route(body)?,
        RTM_NEWNEIGH | RTM_DELNEIGH => neighbour(body, kind == RTM_DELNEIGH)?,
        _ => None,
    })
}

/// `struct ifinfomsg`
fn link(body: &[u8]) -> Option<Message> {
    let attributes = body.get(LINK..)?;
    let flags = number(body, 8)?;
    let info = attribute(attributes, IFLA_LINKINFO);
    Some(Message::Link(Link {
        index: number(body, 4)?,
        name: text(attribute(attributes, IFLA_IFNAME)?),
        kind: info
            .and_then(|info| attribute(info, IFLA_INFO_KIND))
            .map(text),
        up: flags & UP != 0,
        carrier: flags & CARRIER != 0,
    }))
}

/// `struct rtmsg`; none for what is no default route of the main table.
fn route(body: &[u8]) -> io::Result<Option<Message>> {
    let attributes = body.get(SHORT..).ok_or_else(cut)?;
    let &[family, to_bits, from_bits, _, table, _, _, kind, ..] = body else {
        return Err(cut());
    };
    let family = match family {
        AF_INET => IpFamily::Ipv4,
        AF_INET6 => IpFamily::Ipv6,
        _ => return Ok(None),
    };
    let flags = number(body, 8).ok_or_else(cut)?;
    let named = attribute(attributes, RTA_TABLE).and_then(|table| number(table, 0));
    let main = named.unwrap_or(u32::from(table)) == MAIN;
    let default = to_bits == 0 && from_bits == 0 && kind == RTN_UNICAST;
    if !main || !default || flags & NOT_IN_USE != 0 {
        return Ok(None);
    }
    let only = attribute(attributes, RTA_OIF).and_then(|device| number(device, 0));
    // `struct rtnexthop`: its device is its second word.
    let first = || attribute(attributes, RTA_MULTIPATH).and_then(|hops| number(hops, 4));
    let device = only.or_else(first).unwrap_or(0);
    Ok(Some(Message::DefaultRoute { family, device }))
}

/// `struct ndmsg`
fn neighbour(body: &[u8], forgotten: bool) -> io::Result<Option<Message>> {
    let attributes = body.get(SHORT..).ok_or_else(cut)?;
    if !matches!(body.first(), Some(&(AF_INET | AF_INET6))) {
        return Ok(None);
    }
    let address = attribute(attributes, NDA_DST).ok_or_else(cut)?;
    let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(cut()),
    };
    let state = short(body, 8).ok_or_else(cut)?;
    Ok(Some(Message::Neighbour {
        device: number(body, 4).ok_or_else(cut)?,
        address,
        state: if forgotten {
            Neighbour::Forgotten
        } else if state & NUD_FAILED != 0 {
            Neighbour::Failed
        } else if state & NUD_VALID != 0 {
            Neighbour::Valid
        } else {
            Neighbour::Asked
        },
    }))
}

/// The content of the first attribute of this type (`struct nlattr`). The two highest bits of a type are flags.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(bytes, 0)?);
        let content = bytes.get(4..length)?;
        if short(bytes, 2)? & 0x3fff == wanted {
            return Some(content);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}
