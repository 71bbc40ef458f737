//! The thread that follows the services of a kind: woken by the end of a process, by a word that something changed, and by time.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Followed, lock, try_lock};
use crate::host::signals::Held;

/// Longest sleep: then it is looked whether there is still somebody to follow for.
const SLEEP: Duration = Duration::from_mins(1);

/// When one is looked at again that something is being done to.
const BUSY: Duration = Duration::from_millis(20);

pub(super) fn start(followed: &Arc<Followed>) -> std::io::Result<()> {
    let weak = Arc::downgrade(followed);
    let thread = std::thread::Builder::new()
        .name(followed.kind.to_owned())
        .stack_size(512 << 10);
    thread.spawn(move || run(&weak)).map(|_| ())
}

fn run(followed: &Weak<Followed>) {
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    while let Some(followed) = followed.upgrade() {
        let (names, pidfds, busy) = followed.watched();
        // An act may leave another process to watch.
        let soon = Instant::now() + BUSY;
        for name in busy {
            due.entry(name).and_modify(|due| *due = soon.min(*due));
        }
        // Who was added while we looked at others is looked at now: the word of that may be taken already.
        let known = names.iter().all(|name| due.contains_key(name));
        let until = due.values().min().copied().filter(|_| known);
        let woken = wait(&followed, &pidfds, until.or((!known).then(Instant::now)));
        let now = Instant::now();
        let whom = followed.nudge.take();
        due.retain(|name, _| names.contains(name));
        for name in names {
            let ended = woken.contains(&name);
            if ended && let Some(head_start) = followed.head_start(&name) {
                due.insert(name, now + head_start);
                continue;
            }
            let is_due = due.get(&name).is_some_and(|due| *due <= now);
            let new = !due.contains_key(&name);
            if ended || is_due || new || whom.all || whom.services.contains(&name) {
                let next = followed.look_at(&name);
                due.insert(name, Instant::now() + next);
            }
        }
    }
}

/// Waits; the names of those whose process has ended.
fn wait(followed: &Followed, pidfds: &[(String, OwnedFd)], due: Option<Instant>) -> Vec<String> {
    let until = due.map(|due| due.saturating_duration_since(Instant::now()));
    let timeout = Timespec::try_from(until.unwrap_or(SLEEP).min(SLEEP)).unwrap_or_default();
    let mut fds = vec![PollFd::from_borrowed_fd(followed.nudge.fd(), PollFlags::IN)];
    fds.extend(
        pidfds
            .iter()
            .map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
    );
    if let Err(error) = poll(&mut fds, Some(&timeout))
        && error != rustix::io::Errno::INTR
    {
        tracing::warn!(%error, "cannot wait for the processes of services: they are looked at every second");
        std::thread::sleep(Duration::from_secs(1));
    }
    let ended = fds.iter().skip(1).zip(pidfds);
    let ended = ended.filter(|(fd, _)| !fd.revents().is_empty());
    ended.map(|(_, (name, _))| name.clone()).collect()
}

impl Followed {
    /// All that are followed, the pidfds of those whose process is not yet told to have ended, and those that something is being done to,
    /// which nobody waits for here: the others are watched meanwhile.
    fn watched(&self) -> (Vec<String>, Vec<(String, OwnedFd)>, Vec<String>) {
        let tracks = lock(&self.tracks).clone();
        let mut busy = Vec::new();
        let pidfds = tracks.iter().filter_map(|(name, track)| {
            let Some(track) = try_lock(track) else {
                busy.push(name.clone());
                return None;
            };
            // One that has ended wakes for ever: it is looked at when it is due.
            track.running()?;
            let fd = track.held.as_ref().map(Held::try_clone_fd)?.ok()?;
            Some((name.clone(), fd))
        });
        let pidfds = pidfds.collect();
        (tracks.into_keys().collect(), pidfds, busy)
    }

    /// How long an end is left to those who will repair it; none where it is looked at right away.
    fn head_start(&self, service: &str) -> Option<Duration> {
        let head_start = self.source.head_start();
        let track = self.track(service).ok()?;
        let heals = try_lock(&track).is_some_and(|track| track.heals());
        (heals && !head_start.is_zero()).then_some(head_start)
    }

    /// Looks at one; how long until it is looked at again.
    fn look_at(&self, service: &str) -> Duration {
        let Ok(track) = self.track(service) else {
            return SLEEP;
        };
        // Something is being done to it: that looks, too, and then we do.
        let Some(mut track) = try_lock(&track) else {
            return BUSY;
        };
        let next = self.refresh(service, &mut track);
        next.or_else(|| self.source.every()).unwrap_or(SLEEP)
    }
}
