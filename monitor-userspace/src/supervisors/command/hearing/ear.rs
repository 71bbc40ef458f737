//! What is known of one service that is listened to: its socket, who may speak for it, and how much it has said.

use std::sync::Arc;
use std::time::Duration;

use crate::host::notify::{Datagram, LONGEST, Socket};
use crate::host::service_cgroup::ServiceCgroup;
use crate::host::{HostError, clock, procfs};
use crate::model::{ProcessKey, Time};

/// Most datagrams of one service that are read in [`REST`].
pub(super) const TURN: usize = 64;
/// So long from the first of them on; a service that has said so much is not listened to for what is left of it.
pub(super) const REST: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) socket: Arc<Socket>,
    /// Whose the socket is, as configured: numeric user and group.
    user: Option<(u32, u32)>,
    /// It was closed to others.
    closed: bool,
    /// The user that it has spoken as since it is ready.
    speaker: Option<u32>,
    /// Its processes; nothing is read before they are known.
    pub(super) whose: Option<Arc<Whose>>,
    /// Since when `taken` is counted.
    counted: Time,
    /// Datagrams that were read since.
    taken: usize,
    /// When its main process last changed.
    pub(super) moved: Option<Time>,
}

impl Ear {
    pub(super) fn new(socket: Socket, user: Option<(u32, u32)>) -> Self {
        Self {
            socket: Arc::new(socket),
            user,
            closed: false,
            speaker: None,
            whose: None,
            counted: clock::now(),
            taken: 0,
            moved: None,
        }
    }

    /// Nothing that was said before counts. It is this user's from now on, and whose word counts is not known yet.
    pub(super) fn begin(&mut self, user: Option<(u32, u32)>) -> Result<(), HostError> {
        (self.whose, self.speaker, self.moved) = (None, None, None);
        if self.closed || self.user != user {
            self.socket.give(user)?;
            (self.closed, self.user) = (false, user);
        }
        // What the process before has said is not what this one says.
        let mut buffer = [0; 1];
        for _ in 0..LONGEST {
            if self.socket.receive(&mut buffer).is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Whether this is who may speak for the service now. Whoever waits for the socket may still know who it was before.
    pub(super) fn is_of(&self, whose: &Arc<Whose>) -> bool {
        let now = self.whose.as_ref();
        now.is_some_and(|now| Arc::ptr_eq(now, whose))
    }

    /// The next datagram, unless it is meant for others by now, or the service has said a lot.
    pub(super) fn next(
        &mut self,
        whose: &Arc<Whose>,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Datagram> {
        if !self.is_of(whose) {
            return None;
        }
        if now.since(self.counted) >= REST {
            (self.counted, self.taken) = (now, 0);
        }
        if self.taken >= TURN {
            return None;
        }
        let datagram = self.socket.receive(buffer)?;
        self.taken += 1;
        Some(datagram)
    }

    /// Until when it is not listened to.
    pub(super) fn rests_until(&self, now: Time) -> Option<Time> {
        let until = self.counted.after(REST);
        (self.taken >= TURN && until > now).then_some(until)
    }

    /// It has said something as this user, and is ready. Who is root can write in any case, so that another user counts for more.
    pub(super) fn spoke_as(&mut self, user: u32) {
        let before = self.speaker.filter(|speaker| *speaker != 0);
        self.speaker = before.or(Some(user));
    }

    /// Has the socket closed to all but root and the user that the service speaks as, once that is known.
    pub(super) fn close_to(&mut self, stranger: u32, name: &str) {
        let Some(speaker) = self.speaker.filter(|speaker| *speaker != stranger) else {
            return;
        };
        if self.closed || self.user.is_some() || stranger == 0 {
            return;
        }
        self.closed = true;
        let group = rustix::process::getegid().as_raw();
        match self.socket.give(Some((speaker, group))) {
            Ok(()) => {
                tracing::warn!(service = %name, "user {stranger} has written to its NOTIFY_SOCKET: from now on only root and user {speaker} can");
            }
            Err(error) => tracing::error!(service = %name, %error, "anybody can write to it"),
        }
    }
}

/// Who may speak for a service.
#[derive(Debug)]
pub(super) struct Whose {
    pub(super) main: ProcessKey,
    /// The process group of that.
    pub(super) group: u32,
    pub(super) cgroup: Option<ServiceCgroup>,
}

impl Whose {
    pub(super) fn is(&self, pid: u32) -> bool {
        match &self.cgroup {
            Some(cgroup) => cgroup.holds(pid),
            None => procfs::stat(pid).is_some_and(|stat| stat.group == self.group),
        }
    }
}
