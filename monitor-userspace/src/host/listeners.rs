//! The TCP listeners of this network namespace: how many connections wait for `accept`, and how many may.
//!
//! Asked of the kernel by netlink (`NETLINK_SOCK_DIAG`, see `sock_diag(7)`), which walks the listeners alone, where `/proc/net/tcp` has every
//! connection. Needs no rights. The totals are those of `/proc/net/netstat`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};

use crate::model::ListenQueue;
use crate::model::kernel_view::ListenTotals;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
/// The bit of the state `TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;

/// A listener, and the number of its socket's inode.
pub type Numbered = (ListenQueue, u32);

/// All of them, of both families.
pub fn listeners() -> io::Result<Vec<ListenQueue>> {
    Ok(numbered()?.into_iter().map(|(found, _)| found).collect())
}

/// All of them, of both families, with the inodes by which it is found who has them open.
pub fn numbered() -> io::Result<Vec<Numbered>> {
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    // An answer is there at once, or none will come.
    set_socket_timeout(&netlink, Timeout::Recv, Some(Duration::from_secs(1)))?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    for family in [AF_INET, AF_INET6] {
        send(&netlink, &request(family), SendFlags::empty())?;
        loop {
            let (length, _) = recv(&netlink, buffer.as_mut_slice(), RecvFlags::empty())?;
            if take(buffer.get(..length).unwrap_or_default(), &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

fn request(family: u8) -> Vec<u8> {
    let length = u32::try_from(HEADER + REQUEST).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence number and port: the kernel's answers are all that comes.
    bytes.extend([0; 8]);
    bytes.extend([family, TCP, 0, 0]);
    bytes.extend(LISTENING.to_ne_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

/// Takes the listeners out of an answer; true when it was the last one.
fn take(mut bytes: &[u8], found: &mut Vec<Numbered>) -> io::Result<bool> {
    while let Some(length) = number(bytes, 0) {
        let length = length as usize;
        let kind = bytes.get(4..6).map_or(NLMSG_DONE, |kind| {
            u16::from_ne_bytes(kind.try_into().unwrap_or_default())
        });
        let body = bytes
            .get(HEADER..length)
            .ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = number(body, 0).unwrap_or(0).cast_signed();
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => found.extend(listener(body)),
            _ => {}
        }
        let aligned = length.next_multiple_of(4);
        bytes = bytes.get(aligned..).unwrap_or_default();
    }
    Ok(false)
}

/// A `struct inet_diag_msg`.
fn listener(body: &[u8]) -> Option<Numbered> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let address: [u8; 16] = body.get(8..24)?.try_into().ok()?;
    let address = if *body.first()? == AF_INET {
        let [a, b, c, d, ..] = address;
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(address)
    };
    let queue = ListenQueue {
        address: SocketAddr::new(address, port),
        queue: number(body, 56)?,
        limit: number(body, 60)?,
    };
    Some((queue, number(body, 68)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// What the kernel counts of all listeners; none where it does not.
pub fn totals() -> Option<ListenTotals> {
    totals_of(&std::fs::read_to_string("/proc/net/netstat").ok()?)
}

/// Lines come in pairs: names, then values.
fn totals_of(text: &str) -> Option<ListenTotals> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let place = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(place)?.parse().ok()
    };
    Some(ListenTotals {
        overflows: value("ListenOverflows")?,
        drops: value("ListenDrops")?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_and_what_waits_for_it_are_found() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).expect("a free port");
            let address = listener.local_addr().expect("its address");
            let of = || {
                let all = listeners().expect("the kernel answers");
                all.into_iter().find(|found| found.address == address)
            };
            let idle = of().expect("it is there");
            assert_eq!(idle.queue, 0);
            assert!(idle.limit > 0 && !idle.is_full());
            let _waiting = TcpStream::connect(address).expect("it listens");
            assert_eq!(of().map(|found| found.queue), Some(1));
            drop(listener);
            assert_eq!(of(), None);
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error_and_nothing_worse() {
        let mut found = Vec::new();
        let whole = request(AF_INET);
        for length in 4..whole.len() {
            let cut = whole.get(..length).expect("shorter");
            assert!(take(cut, &mut found).is_err(), "{length}");
        }
        assert!(take(&[0; 64], &mut found).is_err(), "a length of 0");
    }

    #[test]
    fn totals_stand_under_their_names() {
        let text = "IpExt: InNoRoutes\nIpExt: 5\nTcpExt: A ListenOverflows ListenDrops\nTcpExt: 1 22 333\n";
        let totals = ListenTotals {
            overflows: 22,
            drops: 333,
        };
        assert_eq!(totals_of(text), Some(totals));
        assert_eq!(totals_of("TcpExt: A\nTcpExt: 1\n"), None);
    }
}
