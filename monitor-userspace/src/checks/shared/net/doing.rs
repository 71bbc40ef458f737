//! What a check does just now: said when its time is up.

use std::sync::{Mutex, PoisonError};

/// See the module. A check is asked once at a time, so there is one of it.
#[derive(Debug, Default)]
pub(crate) struct Doing(Mutex<Option<String>>);

impl Doing {
    /// From now on it does this: `in the TLS handshake with 127.0.0.1:443`.
    pub(crate) fn now(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
    }

    /// What it did last.
    pub(crate) fn last(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}
