//! What people ask for, on its way from the API to the core: who they are, what there is to be silenced, and the hot thread's end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::inbox::{Inbox, Message};
use crate::api::People;
use crate::config::Config;
use crate::host::clock;
use crate::identity::Users;

/// Names of services and `[[process]]` entries, as configured now.
pub(super) type Subjects = Arc<Mutex<BTreeSet<String>>>;

/// What the API needs.
pub(super) fn people(inbox: Inbox, subjects: Subjects, next_silence: u64) -> People {
    let users = Mutex::new(Users::of("/etc/passwd"));
    People::new(
        Box::new(move |user| {
            let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
            users
                .name(user, clock::now())
                .map(|name| name.as_ref().to_owned())
        }),
        Box::new(move || {
            let names = subjects.lock().unwrap_or_else(PoisonError::into_inner);
            names.clone()
        }),
        Box::new(move |asked| inbox.try_send(Message::Person(Box::new(asked)))),
        next_silence,
    )
}

/// What a configuration names.
pub(super) fn name(subjects: &Subjects, config: &Config) {
    let services = config.services.iter().map(|service| &service.name);
    let networks = config.networks.iter().map(|way| &way.name);
    let all = services.chain(config.groups.values()).chain(networks);
    let all = all.cloned().collect();
    *subjects.lock().unwrap_or_else(PoisonError::into_inner) = all;
}

/// Requests that the core has taken, until the board shows what became of them.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<oneshot::Sender<Result<(), String>>>);

impl Taken {
    pub(super) fn add(&mut self, taken: oneshot::Sender<Result<(), String>>) {
        self.0.push(taken);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The board shows it.
    pub(super) fn tell(&mut self) {
        for taken in self.0.drain(..) {
            // Who no longer waits was told to look for himself.
            let _ = taken.send(Ok(()));
        }
    }
}
