//! The kernel's word that something about links, addresses, routes or neighbours has changed (`rtnetlink(7)`). What, is looked up after.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::net::{bind, recv, socket_with};

use super::tables::{self, RTM_DELNEIGH, RTM_NEWNEIGH};
use super::wire::each;
use crate::model::way::Baseline;

/// `RTMGRP_LINK`, `NEIGH`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV6_IFADDR` and `IPV6_ROUTE`
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;
/// Datagrams that are taken at once.
const BATCH: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct News(OwnedFd);

impl News {
    /// Begins to listen in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Takes what has come; true when it may matter to a way that was like this. What is believed of neighbours changes all the time, and
    /// matters only where the gateway is believed to be elsewhere.
    pub fn take(&self, before: &Baseline) -> bool {
        let mut matters = false;
        let mut buffer = vec![0; 32 << 10];
        for _ in 0..BATCH {
            let length = match recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                // News were lost: whatever they were.
                Err(_) => {
                    matters = true;
                    continue;
                }
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            let read = each(bytes, |kind, _, body| {
                matters |= match kind {
                    RTM_NEWNEIGH => elsewhere(body, before),
                    RTM_DELNEIGH => false,
                    _ => true,
                };
            });
            matters |= read.is_err();
        }
        matters
    }
}

fn elsewhere(body: &[u8], before: &Baseline) -> bool {
    tables::neighbour_of(body).is_some_and(|(_, found)| {
        let gateway = before.gateway == Some(found.entry.address);
        let known = !found.entry.link.is_empty() && !before.gateway_link.is_empty();
        gateway && known && found.entry.link != before.gateway_link
    })
}

impl AsFd for News {
    /// Readable when there is something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
