//! Runs the samplers: one thread, which sleeps until the next is due or the kernel's alarm goes off.

use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::inbox::Inbox;
use crate::host::clock;
use crate::model::{Sample, Signal, Time};
use crate::samplers::Sampler;

/// The running thread.
#[derive(Debug)]
pub(super) struct Sampling {
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl Sampling {
    pub(super) fn start(samplers: Vec<Box<dyn Sampler>>, inbox: Inbox) -> std::io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let thread = Builder::new()
            .name("sampler".to_owned())
            .stack_size(512 << 10)
            .spawn(move || run(samplers, &inbox, &stopped))?;
        Ok(Self { stop, thread })
    }

    pub(super) fn end(self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if self.thread.join().is_err() {
            tracing::error!("the sampler has died: nothing was sampled since");
        }
    }
}

/// After the alarm, samplers that want it are called; the kernel repeats the alarm once a window at most.
fn run(mut samplers: Vec<Box<dyn Sampler>>, inbox: &Inbox, stop: &OwnedFd) {
    let mut due: Vec<Time> = samplers.iter().map(|_| clock::now()).collect();
    let mut taken: Vec<(Time, Sample)> = Vec::new();
    loop {
        let next = due.iter().min().copied().unwrap_or_default();
        let wait = next.since(clock::now()).min(Duration::from_mins(1));
        let Some(pressed) = sleep(&samplers, stop, wait) else { return };
        for (sampler, due) in samplers.iter_mut().zip(&mut due) {
            let now = clock::now();
            if *due <= now || (pressed && sampler.wants_pressure()) {
                *due = sampler.sample(now, pressed, &mut taken);
            }
        }
        for (at, sample) in taken.drain(..) {
            inbox.signal(at, Signal::Sample { sample });
        }
    }
}

/// Whether the alarm went off; none when the daemon is ending.
fn sleep(samplers: &[Box<dyn Sampler>], stop: &OwnedFd, wait: Duration) -> Option<bool> {
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    let triggers = samplers.iter().filter_map(|sampler| sampler.trigger());
    fds.extend(triggers.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)));
    let timeout = Timespec::try_from(wait).unwrap_or_default();
    if poll(&mut fds, Some(&timeout)).is_err() {
        return Some(false);
    }
    let (stop, triggers) = fds.split_first()?;
    if !stop.revents().is_empty() {
        return None;
    }
    if triggers.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::NVAL)) {
        // An alarm that is broken is ready for ever: without this, so would we be.
        std::thread::sleep(wait.min(Duration::from_millis(100)));
    }
    Some(triggers.iter().any(|fd| fd.revents().contains(PollFlags::PRI)))
}
