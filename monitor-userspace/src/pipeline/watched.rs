//! Processes of services, until they have ended: however many there are, waiting for them costs one file descriptor.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use crate::model::ProcessKey;

/// Most that are heard of at once; the rest is heard of at the next look.
const BATCH: usize = 64;

/// A service's process.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) service: String,
    pub(super) process: ProcessKey,
    pub(super) pidfd: OwnedFd,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watching {
    epoll: OwnedFd,
    next: u64,
    all: BTreeMap<u64, Watched>,
}

impl Watching {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            next: 0,
            all: BTreeMap::new(),
        })
    }

    /// Readable when one of them has ended.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Nothing where this process of the service is there already.
    pub(super) fn add(&mut self, watched: Watched) {
        let same = |it: &Watched| it.process == watched.process && it.service == watched.service;
        if self.all.values().any(same) {
            return;
        }
        let data = epoll::EventData::new_u64(self.next);
        if let Err(error) = epoll::add(&self.epoll, &watched.pidfd, data, epoll::EventFlags::IN) {
            // The kernel's own event still tells of its end.
            tracing::error!(service = %watched.service, %error, "its process cannot be watched");
            return;
        }
        self.all.insert(self.next, watched);
        self.next += 1;
    }

    /// Those that have ended since the last look. They are forgotten.
    pub(super) fn ended(&mut self) -> Vec<Watched> {
        let mut events = Vec::with_capacity(BATCH);
        let now = Timespec::default();
        let spare = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, spare, Some(&now)).is_err() {
            return Vec::new();
        }
        let ended = events.iter().filter_map(|event| {
            let watched = self.all.remove(&event.data.u64())?;
            // Closing is not enough where the file descriptor was duplicated.
            let _ = epoll::delete(&self.epoll, &watched.pidfd);
            Some(watched)
        });
        ended.collect()
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;
    use crate::host::procfs;

    #[test]
    fn a_process_costs_one_file_however_often_it_is_told() {
        let stat = procfs::stat(std::process::id()).expect("it is read");
        let watched = |service: &str| Watched {
            service: service.to_owned(),
            process: stat.key,
            pidfd: pidfd_open(getpid(), PidfdFlags::empty()).expect("it is opened"),
        };
        let mut watching = Watching::new().expect("it is made");
        for service in ["web", "web", "shop", "web"] {
            watching.add(watched(service));
        }
        let services = watching.all.values().map(|it| it.service.as_str());
        assert_eq!(services.collect::<Vec<_>>(), ["web", "shop"]);
        assert!(watching.ended().is_empty());
    }
}
