//! Carries out what may wait: a few threads, each with one act at a time. Policy allows no more acts than there are hands.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::inbox::Inbox;
use super::teller::Teller;
use crate::actions::{self, Struck};
use crate::host::Host;
use crate::model::Signal;
use crate::policy::Permit;

/// As many as `[policy] concurrent` can be.
const HANDS: usize = 16;

/// An act to carry out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) permit: Permit,
    pub(super) struck: Option<Struck>,
}

/// The hands.
#[derive(Debug)]
pub(super) struct Hands {
    jobs: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Hands {
    pub(super) fn start(
        host: &Arc<dyn Host>,
        inbox: &Inbox,
        teller: &Arc<Teller>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(HANDS);
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..HANDS)
            .map(|number| {
                let (queue, host, inbox) = (Arc::clone(&queue), Arc::clone(host), inbox.clone());
                let teller = Arc::clone(teller);
                Builder::new()
                    .name(format!("hand-{number}"))
                    .stack_size(256 << 10)
                    .spawn(move || work(&queue, host.as_ref(), &inbox, &teller))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { jobs, threads })
    }

    /// Gives a job to a hand; gives it back when none is free.
    pub(super) fn give(&self, job: Job) -> Result<(), Box<Job>> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Box::new(job),
        })
    }

    /// Lets what is under way come to its end.
    pub(super) fn end(self) {
        drop(self.jobs);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a hand has died: what it was doing is unknown; see the journal");
            }
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, host: &dyn Host, inbox: &Inbox, teller: &Teller) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { permit, struck }) = job else {
            return;
        };
        let effect = actions::execute(permit, struck, host);
        inbox.signal(effect.finished, Signal::Effect { effect });
        teller.acted();
    }
}
