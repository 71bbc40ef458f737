//! A word that something may have changed, from anywhere, for the one thread that looks.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Nudge {
    wake: Arc<OwnedFd>,
    whom: Arc<Mutex<Whom>>,
}

/// Whom to look at. Never more than services of the configuration.
#[derive(Debug, Default)]
pub(super) struct Whom {
    /// All of them.
    pub(super) all: bool,
    /// These.
    pub(super) services: BTreeSet<String>,
}

impl Nudge {
    pub(super) fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wake: Arc::new(wake),
            whom: Arc::default(),
        })
    }

    /// Something may have changed with this service, which is one of the configuration.
    pub fn service(&self, service: &str) {
        self.change(|whom| {
            whom.services.insert(service.to_owned());
        });
    }

    /// Something may have changed with any of them.
    pub fn all(&self) {
        self.change(|whom| whom.all = true);
    }

    fn change(&self, change: impl FnOnce(&mut Whom)) {
        change(&mut self.whom.lock().unwrap_or_else(PoisonError::into_inner));
        // Fails only when the counter is full, and then the reader is awake anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Readable when there is something.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Whom, and forgets it.
    pub(super) fn take(&self) -> Whom {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        std::mem::take(&mut self.whom.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
