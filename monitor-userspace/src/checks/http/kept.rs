//! A connection that is used again for the next request (`keep_alive = true`).

use std::sync::{Mutex, PoisonError};

use tokio::net::TcpStream;

use crate::model::ProcessKey;

/// After so many requests a new one is made, so that a listener that is gone is noticed all the same.
const REQUESTS: u32 = 60;

/// At most one connection, while no request is under way on it.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<Used>>);

/// A connection, and how many requests were made on it.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) stream: TcpStream,
    requests: u32,
    /// The service's main process when it was made: the next one is to be asked over a connection of its own.
    process: Option<ProcessKey>,
}

impl Kept {
    /// Takes it, if it is still open and silent, and was made to this process; nobody uses it again before it is put back.
    pub(super) fn take(&self, process: Option<ProcessKey>) -> Option<Used> {
        let used = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .filter(|used| used.process == process)?;
        let silent = match used.stream.try_read(&mut [0]) {
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        silent.then_some(used)
    }

    /// Keeps it for the next request, if it may be used once more.
    pub(super) fn put(&self, used: Used) {
        if used.requests < REQUESTS {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(used);
        }
    }
}

impl Used {
    /// A new one, for its first request.
    pub(super) const fn new(stream: TcpStream, process: Option<ProcessKey>) -> Self {
        Self {
            stream,
            requests: 1,
            process,
        }
    }

    /// The same, for one request more.
    pub(super) const fn again(mut self) -> Self {
        self.requests += 1;
        self
    }
}
