//! Links, default routes and neighbours of a network namespace, as they change (`rtnetlink(7)`). Needs no rights.
//!
//! The kernel tells of links and neighbours. Of default routes it tells too, but not when it removes those of IPv4 with their device or
//! their address: so that any of these only says that the routes must be read, `SETTLE` later, which also makes one reading of
//! many changes. When news were lost (ENOBUFS), all tables are read again. Not followed: tables of routes other than the main one.

mod message;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, send, socket_with};

use crate::model::Time;
use crate::model::network::NetworkChange;
use message::{Message, RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE};
use state::State;

/// `RTMGRP_LINK`, `NEIGH`, `IPV4_IFADDR`, `IPV4_ROUTE` and `IPV6_ROUTE`
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x400;
/// The routes are read so long after the last news that may concern them ...
const SETTLE: Duration = Duration::from_millis(100);
/// ... but at the latest so long after the first.
const LATEST: Duration = Duration::from_secs(1);
/// Datagrams that are taken at once.
const BATCH: usize = 1_024;
/// As much as the kernel puts into one answer at most.
const ANSWER: usize = 32 << 10;

/// A watch on the network namespace in which it was opened.
#[derive(Debug)]
pub struct Watch {
    news: OwnedFd,
    questions: OwnedFd,
    sequence: u32,
    state: State,
    buffer: Vec<u8>,
    reading: Option<Reading>,
}

/// Tables that are to be read.
#[derive(Debug)]
struct Reading {
    first: Time,
    due: Time,
    /// Not only the routes.
    all: bool,
}

impl Watch {
    /// Opens it, and reads how things are. `room`: bytes of news that wait for being read (the kernel doubles it, and has a ceiling).
    pub fn open(room: usize) -> io::Result<Self> {
        let news = netlink()?;
        set_socket_recv_buffer_size(&news, room)?;
        bind(&news, &SocketAddrNetlink::new(0, GROUPS))?;
        let questions = netlink()?;
        // An answer is there at once, or none will come.
        set_socket_timeout(&questions, Timeout::Recv, Some(Duration::from_secs(1)))?;
        let mut watch = Self {
            news,
            questions,
            sequence: 0,
            state: State::default(),
            buffer: vec![0; ANSWER],
            reading: None,
        };
        // How things are when it begins is no change.
        let mut begin = Vec::new();
        watch.read_links(&mut begin)?;
        watch.read_routes(&mut begin)?;
        Ok(watch)
    }

    /// Takes what is new. When to be called again, also if nothing is ready by then; none when nothing is left to do.
    pub fn read(&mut self, now: Time, out: &mut Vec<NetworkChange>) -> io::Result<Option<Time>> {
        let mut taken = 0;
        while taken < BATCH && self.take(now, out)? {
            taken += 1;
        }
        if let Some(reading) = self.reading.take_if(|reading| reading.due <= now) {
            let read = self.read_tables(reading.all, out);
            if let Err(error) = read {
                self.reading = Some(Reading {
                    due: now.after(LATEST),
                    ..reading
                });
                // It changed while it was read: that is no failure.
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        if taken == BATCH {
            return Ok(Some(now));
        }
        Ok(self.reading.as_ref().map(|reading| reading.due))
    }

    /// Takes one datagram; false when there is none.
    fn take(&mut self, now: Time, out: &mut Vec<NetworkChange>) -> io::Result<bool> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (length, whole) = match recv(&self.news, self.buffer.as_mut_slice(), flags) {
            Ok(lengths) => lengths,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(Errno::NOBUFS) => {
                self.missed(now, out);
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        let mut found = Vec::new();
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let parsed = message::parse(bytes, None, &mut found);
        let mut routes = false;
        for message in found {
            routes |= self.state.news(message, out);
        }
        if routes {
            self.ask(now, false);
        }
        if parsed.is_err() || whole > length {
            self.missed(now, out);
        }
        Ok(true)
    }

    /// News were lost: said once until everything was read again.
    fn missed(&mut self, now: Time, out: &mut Vec<NetworkChange>) {
        if !self.reading.as_ref().is_some_and(|reading| reading.all) {
            out.push(NetworkChange::Missed);
        }
        self.ask(now, true);
    }

    fn ask(&mut self, now: Time, all: bool) {
        let first = self.reading.as_ref().map_or(now, |reading| reading.first);
        let before = self.reading.as_ref().is_some_and(|reading| reading.all);
        self.reading = Some(Reading {
            first,
            due: now.after(SETTLE).min(first.after(LATEST)),
            all: all || before,
        });
    }

    fn read_tables(&mut self, all: bool, out: &mut Vec<NetworkChange>) -> io::Result<()> {
        if all {
            self.read_links(out)?;
            let neighbours = self.table(RTM_GETNEIGH)?;
            self.state.all_neighbours(neighbours, out);
        }
        self.read_routes(out)
    }

    fn read_links(&mut self, out: &mut Vec<NetworkChange>) -> io::Result<()> {
        let links = self.table(RTM_GETLINK)?;
        self.state.all_links(links, out);
        Ok(())
    }

    fn read_routes(&mut self, out: &mut Vec<NetworkChange>) -> io::Result<()> {
        let routes = self.table(RTM_GETROUTE)?;
        self.state.all_routes(&routes, out);
        Ok(())
    }

    /// What a whole table has that matters here.
    fn table(&mut self, kind: u16) -> io::Result<Vec<Message>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = message::request(kind, self.sequence);
        send(&self.questions, &request, SendFlags::empty())?;
        let mut found = Vec::new();
        while found.last() != Some(&Message::Done) {
            let buffer = self.buffer.as_mut_slice();
            let (length, _) = recv(&self.questions, buffer, RecvFlags::empty())?;
            let bytes = self.buffer.get(..length).unwrap_or_default();
            message::parse(bytes, Some(self.sequence), &mut found)?;
        }
        Ok(found)
    }
}

impl AsFd for Watch {
    /// Readable when there is something new.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn netlink() -> io::Result<OwnedFd> {
    // No protocol is NETLINK_ROUTE.
    let family = AddressFamily::NETLINK;
    Ok(socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?)
}
