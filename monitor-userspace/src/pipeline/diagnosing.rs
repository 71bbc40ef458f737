//! Looks at every `[[network]]`, on a thread each: a glance now and then, a look at all of it when the kernel tells of a change or the glance
//! finds something amiss. What is broken is made sure of by two looks before it is told.
//!
//! While somebody repairs a network, nothing is told of it; afterwards, at once. Looks that find the same are told once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::inbox::Inbox;
use crate::host::clock;
use crate::host::network::{Known, News, Ways};
use crate::model::way::{Diagnosis, Way};
use crate::model::{Sample, Signal, Time};

/// News are given so long to be complete.
const SETTLE: Duration = Duration::from_millis(20);
/// A look at all of it while all is well, so that what changed without a word is known.
const WHOLE: Duration = Duration::from_mins(1);
/// Longest time between two looks at what stays broken.
const BROKEN: Duration = Duration::from_secs(5);

/// The running threads; ended when dropped.
#[derive(Debug, Default)]
pub(super) struct Diagnosing(Vec<Running>);

#[derive(Debug)]
struct Running {
    known: Arc<Known>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(network = %self.known.way().name, "nobody looks at it any more: its thread has died");
        }
    }
}

impl Diagnosing {
    /// Has a thread look at each network, and nobody at those that are no longer configured.
    pub(super) fn configure(&mut self, ways: &[Way], all: &Ways, inbox: &Inbox) {
        if let Err(error) = all.configure(ways) {
            tracing::error!(%error, "the networks of the configuration cannot be looked at");
            return;
        }
        let known = all.all();
        self.0
            .retain(|running| known.iter().any(|it| Arc::ptr_eq(it, &running.known)));
        for known in known {
            if self
                .0
                .iter()
                .any(|running| Arc::ptr_eq(&known, &running.known))
            {
                continue;
            }
            match start(Arc::clone(&known), inbox.clone()) {
                Ok(running) => self.0.push(running),
                Err(error) => {
                    tracing::error!(network = %known.way().name, %error, "it cannot be looked at");
                }
            }
        }
    }
}

fn start(known: Arc<Known>, inbox: Inbox) -> std::io::Result<Running> {
    let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
    let stopped = stop.try_clone()?;
    let news = News::open()?;
    let mut looking = Looking {
        known: Arc::clone(&known),
        inbox,
        told: None,
        whole: Time::default(),
    };
    let thread = Builder::new()
        .name("network".to_owned())
        .stack_size(512 << 10)
        .spawn(move || looking.run(&news, &stopped))?;
    Ok(Running {
        known,
        stop,
        thread: Some(thread),
    })
}

struct Looking {
    known: Arc<Known>,
    inbox: Inbox,
    told: Option<Box<Diagnosis>>,
    /// When all of it was last looked at.
    whole: Time,
}

enum Woken {
    Stop,
    /// Something has changed.
    News,
    /// Its time has come.
    Due,
}

impl Looking {
    fn run(&mut self, news: &News, stop: &OwnedFd) {
        let every = self.known.way().every;
        self.look(false);
        let mut wait = every;
        loop {
            match self.wait(news, stop, wait) {
                Woken::Stop => return,
                // Whoever repairs it looks for himself, and wakes us after.
                _ if self.known.is_taken() => continue,
                Woken::News => self.look(false),
                Woken::Due => {
                    let broken = self.is_broken();
                    let old = clock::now().since(self.whole) >= WHOLE;
                    if broken || old {
                        self.look(broken);
                    } else if !self.known.glance() {
                        self.look(true);
                    }
                }
            }
            wait = if self.is_broken() {
                (wait * 2).clamp(every, BROKEN.max(every))
            } else {
                every
            };
        }
    }

    fn is_broken(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.fault.is_some())
    }

    fn wait(&self, news: &News, stop: &OwnedFd, wait: Duration) -> Woken {
        let deadline = clock::now().after(wait);
        loop {
            let mut fds = [
                PollFd::new(stop, PollFlags::IN),
                PollFd::from_borrowed_fd(self.known.wake(), PollFlags::IN),
                PollFd::from_borrowed_fd(news.as_fd(), PollFlags::IN),
            ];
            let left = deadline.since(clock::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Woken::Due,
                Ok(_) => {}
                Err(_) => continue,
            }
            let [stopped, changed, told] = fds.map(|fd| !fd.revents().is_empty());
            if stopped {
                return Woken::Stop;
            }
            if changed {
                self.known.reset();
                return Woken::News;
            }
            if told && news.take(&self.known.before()) {
                // The rest of it follows within a moment, or not at all.
                let mut stop = [PollFd::new(stop, PollFlags::IN)];
                let settle = Timespec::try_from(SETTLE).unwrap_or_default();
                if matches!(poll(&mut stop, Some(&settle)), Ok(ready) if ready > 0) {
                    return Woken::Stop;
                }
                news.take(&self.known.before());
                return Woken::News;
            }
        }
    }

    /// Looks at all of it, and tells what is new. `suspicious`: something was amiss already.
    fn look(&mut self, suspicious: bool) {
        let (mut at, mut found) = (clock::now(), self.known.look(suspicious));
        let broken = found.as_ref().is_ok_and(|found| found.fault.is_some());
        if broken && !suspicious && !self.is_broken() {
            // One answer can be lost.
            (at, found) = (clock::now(), self.known.look(true));
        }
        let found = match found {
            Ok(found) => Box::new(found),
            Err(error) => {
                tracing::warn!(%error, "the network cannot be looked at");
                return;
            }
        };
        self.whole = at;
        // That all is well is told by a look that began after the act. What is broken was so before it.
        if found.fault.is_none() && self.known.is_taken() {
            return;
        }
        if found.fault.is_none() {
            self.known.learn(&found);
        }
        let same = self.told.as_ref().is_some_and(|told| {
            (&told.fault, &told.seen) == (&found.fault, &found.seen)
                || (told.fault.is_none() && found.fault.is_none())
        });
        if same {
            return;
        }
        let sample = Sample::NetworkDiagnosis {
            diagnosis: found.clone(),
        };
        self.told = Some(found);
        self.inbox.signal(at, Signal::Sample { sample });
    }
}
