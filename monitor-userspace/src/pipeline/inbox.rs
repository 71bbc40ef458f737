//! How everything but kernel events reaches the core: a bounded channel, and a file that wakes the hot thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::event::{EventfdFlags, eventfd};

use super::recording::Begin;
use crate::api::Asked;
use crate::engine::Settings;
use crate::model::{Identity, IncidentId, ProcessKey, Signal, Time};
use crate::record::recording::InForce;

/// Most messages that wait; a sender waits when it is full.
const CAPACITY: usize = 1024;

/// What the hot thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A signal from elsewhere than the kernel's rings.
    Signal { at: Time, signal: Box<Signal> },
    /// Watch this process of a service: the file becomes readable when it has ended.
    Watch {
        service: String,
        process: ProcessKey,
        pidfd: OwnedFd,
    },
    /// Who the process is that an incident is about.
    Who {
        incident: IncidentId,
        who: Box<Identity>,
    },
    /// A person asks for something.
    Person(Box<Asked>),
    /// The last lines of the log of what an incident is about.
    Log {
        incident: IncidentId,
        lines: Vec<String>,
    },
    /// New settings, and what a recording must know of them.
    Reload(Box<(Settings, InForce)>),
    /// Record from now on.
    Record(Box<Begin>),
    /// Nothing may act any more: the daemon is ending.
    Quiesce,
    /// The journal could not be forced to the disk.
    Halt(String),
    /// End.
    Stop,
}

/// The sending end. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    sender: SyncSender<Message>,
    wake: Arc<OwnedFd>,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Delivered {
    receiver: Receiver<Message>,
    wake: Arc<OwnedFd>,
}

/// Both ends.
pub(super) fn inbox() -> std::io::Result<(Inbox, Delivered)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = sync_channel(CAPACITY);
    Ok((
        Inbox {
            sender,
            wake: Arc::clone(&wake),
        },
        Delivered { receiver, wake },
    ))
}

impl Inbox {
    /// Waits while the inbox is full. After the hot thread has ended, there is nobody to tell.
    pub(super) fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            // Fails only when the counter is full, and then the reader is awake anyway.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Whether there was room, and somebody to tell.
    pub(super) fn try_send(&self, message: Message) -> bool {
        let sent = self.sender.try_send(message).is_ok();
        if sent {
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
        sent
    }

    pub(super) fn signal(&self, at: Time, signal: Signal) {
        self.send(Message::Signal {
            at,
            signal: Box::new(signal),
        });
    }
}

impl Inbox {
    /// The same, but wakes nobody unless there is little room left: for what nobody waits for. Followed by [`Inbox::wake`] before long.
    pub(super) fn signal_quietly(&self, at: Time, signal: Signal) {
        let message = Message::Signal {
            at,
            signal: Box::new(signal),
        };
        if let Err(TrySendError::Full(message)) = self.sender.try_send(message) {
            self.wake();
            self.send(message);
        }
    }

    /// Has the hot thread look.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Delivered {
    /// Readable when there is something.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Forgets that there was something. Before the messages are taken, so that one that comes meanwhile wakes again.
    pub(super) fn reset(&self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
    }

    pub(super) fn next(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }
}
