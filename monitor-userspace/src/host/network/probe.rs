//! Questions to the network: does it accept connections, answer pings, resolve names? Many at once, all with one deadline.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use rustix::net::{connect, recv, send, socket_with};

/// Port of DNS servers.
const DNS: u16 = 53;
/// Most bytes of an answer that are looked at.
const ANSWER: usize = 1500;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A connection that is accepted or refused: either way somebody is there.
    Tcp(SocketAddr),
    /// A connection that is accepted.
    Serves(SocketAddr),
    /// A ping.
    Icmp(IpAddr),
    /// A resolver, about a name.
    Dns(IpAddr, String),
}

/// What is waited for.
struct Asked {
    socket: OwnedFd,
    begun: Instant,
    kind: Kind,
}

enum Kind {
    Connect {
        refused_counts: bool,
    },
    /// Refused before the call came back: the socket remembers it no longer.
    Refused {
        good: bool,
    },
    Echo(Vec<u8>),
    Query(u16),
}

impl Kind {
    const fn waits_for(&self) -> PollFlags {
        match self {
            Self::Connect { .. } | Self::Refused { .. } => PollFlags::OUT,
            Self::Echo(_) | Self::Query(_) => PollFlags::IN,
        }
    }
}

/// How long each took to be answered; none for what was not, within that time.
pub(super) fn ask(all: &[Ask], within: Duration) -> Vec<Option<Duration>> {
    let mut answers = vec![None; all.len()];
    let mut open: Vec<(usize, Asked)> = Vec::new();
    for (at, question) in all.iter().enumerate() {
        // What cannot even be sent has its answer.
        if let Ok(asked) = begin(question) {
            open.push((at, asked));
        }
    }
    let deadline = Instant::now() + within;
    while !open.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|(_, asked)| PollFd::new(&asked.socket, asked.kind.waits_for()))
            .collect();
        let ready = poll(&mut fds, Some(&timeout));
        // The last look is after the deadline: who had no CPU meanwhile misses nothing.
        if matches!(ready, Ok(0)) {
            break;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain(|(at, asked)| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match answered(asked) {
                Some(good) => {
                    if let Some(answer) = answers.get_mut(*at).filter(|_| good) {
                        *answer = Some(asked.begun.elapsed());
                    }
                    false
                }
                None => true,
            }
        });
    }
    answers
}

fn begin(question: &Ask) -> io::Result<Asked> {
    let begun = Instant::now();
    let (socket, kind) = match question {
        Ask::Tcp(to) => connecting(*to, true)?,
        Ask::Serves(to) => connecting(*to, false)?,
        Ask::Icmp(to) => {
            let (socket, payload) = ping(*to)?;
            (socket, Kind::Echo(payload))
        }
        Ask::Dns(server, name) => {
            let (socket, id) = query(*server, name)?;
            (socket, Kind::Query(id))
        }
    };
    Ok(Asked {
        socket,
        begun,
        kind,
    })
}

/// Whether the answer is a good one; none while there is none yet.
fn answered(asked: &Asked) -> Option<bool> {
    let mut buffer = [0; ANSWER];
    match &asked.kind {
        Kind::Refused { good } => Some(*good),
        Kind::Connect { refused_counts } => Some(match socket_error(&asked.socket) {
            Ok(Ok(())) => true,
            Ok(Err(Errno::CONNREFUSED)) => *refused_counts,
            _ => false,
        }),
        Kind::Echo(payload) => match receive(asked.socket.as_fd(), &mut buffer) {
            // The payload is ours alone; a raw socket also sees its own question on the loopback device.
            Ok(answer) => is_reply(answer, payload).then_some(true),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(false),
        },
        Kind::Query(id) => match receive(asked.socket.as_fd(), &mut buffer) {
            Ok(answer) => resolves(answer, *id),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(false),
        },
    }
}

fn receive<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let (length, _) = recv(socket, &mut *buffer, RecvFlags::DONTWAIT)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

fn connecting(to: SocketAddr, refused_counts: bool) -> io::Result<(OwnedFd, Kind)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family(to.ip()), SocketType::STREAM, flags, None)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok((socket, Kind::Connect { refused_counts })),
        Err(Errno::CONNREFUSED) => Ok((
            socket,
            Kind::Refused {
                good: refused_counts,
            },
        )),
        Err(error) => Err(error.into()),
    }
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}

/// A number that no other question of this process has now.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = nanos.map_or(0, |it| it.subsec_nanos());
    nanos.wrapping_mul(2_654_435_761) ^ NEXT.fetch_add(1, Ordering::Relaxed)
}

const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Sends a ping, and does not wait: where its answer will be read, and what must be in that.
pub fn ping(to: IpAddr) -> io::Result<(OwnedFd, Vec<u8>)> {
    let protocol = if to.is_ipv4() {
        ipproto::ICMP
    } else {
        ipproto::ICMPV6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = |kind| socket_with(family(to), kind, flags, Some(protocol));
    // Without CAP_NET_RAW, where the host lets everybody ping (`net.ipv4.ping_group_range`).
    let socket = open(SocketType::RAW).or_else(|_| open(SocketType::DGRAM))?;
    connect(&socket, &SocketAddr::new(to, 0))?;
    let (one, two) = (unique(), unique());
    let mut payload = b"smartmon".to_vec();
    payload.extend(one.to_be_bytes());
    payload.extend(two.to_be_bytes());
    let kind = if to.is_ipv4() { ECHO } else { ECHO_V6 };
    let [a, b, c, d] = one.to_be_bytes();
    let mut packet = vec![kind, 0, 0, 0, a, b, c, d];
    packet.extend(&payload);
    if to.is_ipv4() {
        let sum = checksum(&packet).to_be_bytes();
        packet.splice(2..4, sum);
    }
    send(&socket, &packet, SendFlags::empty())?;
    Ok((socket, payload))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [a, b] => u32::from(u16::from_be_bytes([*a, *b])),
        [a] => u32::from(*a) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Whether a packet answers our ping. A raw socket of IPv4 shows the header of IP too.
pub fn is_reply(packet: &[u8], payload: &[u8]) -> bool {
    if !packet.ends_with(payload) {
        return false;
    }
    let before = packet.len().saturating_sub(payload.len() + 8);
    matches!(packet.get(before), Some(&(ECHO_REPLY | ECHO_REPLY_V6)))
}

/// Asks a resolver for the address of a name.
fn query(server: IpAddr, name: &str) -> io::Result<(OwnedFd, u16)> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect((server, DNS))?;
    let [_, _, a, b] = unique().to_be_bytes();
    let id = u16::from_be_bytes([a, b]);
    socket.send(&question(id, name))?;
    Ok((socket.into(), id))
}

/// RFC 1035: one question for an address (A), to be answered by asking others too.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let label = label.as_bytes();
        let label = label.get(..63).unwrap_or(label);
        packet.push(u8::try_from(label.len()).unwrap_or(63));
        packet.extend(label);
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// Whether a resolver's answer says that the name exists; none for what is no answer to our question.
fn resolves(answer: &[u8], id: u16) -> Option<bool> {
    let &[a, b, flags, rcode, ..] = answer else {
        return None;
    };
    let mine = u16::from_be_bytes([a, b]) == id && flags & 0x80 != 0;
    mine.then_some(rcode.trailing_zeros() >= 4)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn who_listens_refuses_or_is_silent_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let open = listener.local_addr().expect("its address");
        let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let closed = closed.expect("a port that was free");
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        drop(silent);
        let found = ask(
            &[
                Ask::Tcp(open),
                Ask::Serves(open),
                Ask::Tcp(closed),
                Ask::Serves(closed),
            ],
            SHORT,
        );
        let found: Vec<bool> = found.iter().map(Option::is_some).collect();
        assert_eq!(found, [true, true, true, false]);
    }

    #[test]
    fn an_answer_of_a_resolver_is_told_from_other_packets() {
        let mut answer = question(0x1234, "a.example");
        assert_eq!(resolves(&answer, 0x1234), None, "it is a question");
        answer[2] = 0x81;
        assert_eq!(resolves(&answer, 0x1234), Some(true));
        assert_eq!(resolves(&answer, 0x1235), None);
        answer[3] = 0x83;
        assert_eq!(resolves(&answer, 0x1234), Some(false), "no such name");
        assert_eq!(resolves(&[1], 0x1234), None);
        assert_eq!(
            &question(1, "ab.c")[12..],
            b"\x02ab\x01c\x00\x00\x01\x00\x01"
        );
    }

    #[test]
    fn a_ping_is_answered_by_its_own_answer_only() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0x220d
        );
        let payload = b"smartmon12345678";
        let mut packet = vec![0x45; 20];
        packet.extend([ECHO_REPLY, 0, 0, 0, 1, 2, 3, 4]);
        packet.extend(payload);
        assert!(is_reply(&packet, payload));
        packet[20] = ECHO;
        assert!(!is_reply(&packet, payload), "the question itself");
        assert!(!is_reply(payload, payload));
        assert!(!is_reply(&packet, b"smartmon12345679"));
    }
}
