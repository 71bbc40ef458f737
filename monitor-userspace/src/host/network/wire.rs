//! Requests to rtnetlink and the kernel's answers, as bytes. What ends early is an error, never a panic. Layouts: `linux/netlink.h`.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{Protocol, recv, send, socket_with};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`
const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: the table changed while it was read.
const INTERRUPTED: u16 = 0x10;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// As much as the kernel puts into one answer at most.
const ANSWER: usize = 32 << 10;
/// How often a table is read again that changed meanwhile.
const AGAIN: usize = 5;
/// Most messages of one table that are read: a router's routes are not looked through.
const MOST: usize = 20_000;

/// A message being made.
#[derive(Debug)]
pub(in crate::host) struct Request(Vec<u8>);

impl Request {
    /// Of this type, with these flags besides those of every request, and this fixed part.
    pub(in crate::host) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Self(bytes)
    }

    /// With one more attribute.
    pub(super) fn with(mut self, kind: u16, content: &[u8]) -> Self {
        let length = u16::try_from(content.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_ne_bytes())
    }

    pub(super) fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(kind, &address.octets()),
            IpAddr::V6(address) => self.with(kind, &address.octets()),
        }
    }

    fn finish(mut self, flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(0);
        self.0.splice(..4, length.to_ne_bytes());
        let flags = flags | short(&self.0, 6).unwrap_or(0);
        self.0.splice(6..8, flags.to_ne_bytes());
        self.0
    }
}

/// A connection to the kernel. One question at a time.
#[derive(Debug)]
pub(in crate::host) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        Self::of(None)
    }

    /// Of another protocol than that of routes.
    pub(in crate::host) fn of(protocol: Option<Protocol>) -> io::Result<Self> {
        let family = AddressFamily::NETLINK;
        let fd = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // An answer is there at once, or none will come.
        set_socket_timeout(&fd, Timeout::Recv, Some(Duration::from_secs(1)))?;
        Ok(Self(fd))
    }

    /// Asks for a change, and waits until it is done.
    pub(in crate::host) fn change(&self, request: Request) -> io::Result<()> {
        send(&self.0, &request.finish(ACK), SendFlags::empty())?;
        let mut buffer = vec![0; ANSWER];
        let (length, _) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
        let answer = buffer.get(..length).unwrap_or_default();
        let body = answer.get(HEADER..).ok_or_else(cut)?;
        if short(answer, 4) != Some(NLMSG_ERROR) {
            return Err(cut());
        }
        match number(body, 0).ok_or_else(cut)?.cast_signed() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        }
    }

    /// Reads a table; `take` gets the type and body of each message. True when all of it was read.
    pub(in crate::host) fn table<T>(
        &self,
        kind: u16,
        fixed: &[u8],
        take: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut last = None;
        for _ in 0..AGAIN {
            match self.read(kind, fixed, &take) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => last = Some(error),
                read => return read,
            }
        }
        Err(last.unwrap_or_else(cut))
    }

    fn read<T>(
        &self,
        kind: u16,
        fixed: &[u8],
        take: &impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let request = Request::new(kind, 0, fixed).finish(DUMP);
        send(&self.0, &request, SendFlags::empty())?;
        let mut buffer = vec![0; ANSWER];
        let (mut found, mut seen, mut interrupted) = (Vec::new(), 0, false);
        loop {
            let (length, _) = recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty())?;
            let bytes = buffer.get(..length).unwrap_or_default();
            let mut done = None;
            each(bytes, |kind, flags, body| {
                interrupted |= flags & INTERRUPTED != 0;
                match kind {
                    NLMSG_DONE => done = Some(0),
                    NLMSG_ERROR => done = number(body, 0).map(u32::cast_signed),
                    _ if seen < MOST => {
                        seen += 1;
                        found.extend(take(kind, body));
                    }
                    _ => {}
                }
            })?;
            match done {
                Some(0) if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                Some(0) => return Ok(found),
                Some(errno) => return Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                None => {}
            }
        }
    }
}

/// Calls `take` with type, flags and body of each message of a datagram.
pub(super) fn each(mut bytes: &[u8], mut take: impl FnMut(u16, u16, &[u8])) -> io::Result<()> {
    while !bytes.is_empty() {
        let length = number(bytes, 0).ok_or_else(cut)? as usize;
        let body = bytes.get(HEADER..length).ok_or_else(cut)?;
        let kind = short(bytes, 4).ok_or_else(cut)?;
        let flags = short(bytes, 6).ok_or_else(cut)?;
        take(kind, flags, body);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "an answer of netlink ends early",
    )
}

/// The content of the first attribute of this type (`struct nlattr`). The two highest bits of a type are flags.
pub(in crate::host) fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(bytes, 0)?);
        let content = bytes.get(4..length)?;
        if short(bytes, 2)? & 0x3fff == wanted {
            return Some(content);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => Some(IpAddr::from(v4)),
        (_, Ok(v6)) => Some(IpAddr::from(v6)),
        _ => None,
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

pub(in crate::host) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

pub(super) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let request = Request::new(16, 0x100, &[1, 2, 3, 4])
            .number(7, 42)
            .with(8, b"abc")
            .address(9, IpAddr::from([10, 0, 0, 1]));
        let bytes = request.finish(ACK);
        let mut seen = 0;
        each(&bytes, |kind, flags, body| {
            seen += 1;
            assert_eq!((kind, flags), (16, 0x100 | REQUEST | ACK));
            let attributes = &body[4..];
            assert_eq!(
                attribute(attributes, 7).and_then(|it| number(it, 0)),
                Some(42)
            );
            assert_eq!(attribute(attributes, 8), Some(b"abc".as_slice()));
            let found = attribute(attributes, 9).and_then(address);
            assert_eq!(found, Some(IpAddr::from([10, 0, 0, 1])));
            assert_eq!(attribute(attributes, 10), None);
        })
        .expect("it is whole");
        assert_eq!(seen, 1);
        for length in 1..bytes.len() {
            assert!(each(&bytes[..length], |_, _, _| ()).is_err(), "{length}");
        }
    }
}
