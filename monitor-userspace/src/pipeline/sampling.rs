//! Runs the samplers: a thread that sleeps until the next is due or the kernel's alarm goes off, and one more for what is urgent.

use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::inbox::Inbox;
use crate::host::{clock, own};
use crate::model::{Sample, Signal, Time};
use crate::samplers::Sampler;

/// The running threads: one for those that can wait for each other, one for those that cannot.
#[derive(Debug)]
pub(super) struct Sampling {
    stop: OwnedFd,
    threads: Vec<JoinHandle<()>>,
}

impl Sampling {
    pub(super) fn start(samplers: Vec<Box<dyn Sampler>>, inbox: &Inbox) -> std::io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let (urgent, others) = samplers
            .into_iter()
            .partition::<Vec<_>, _>(|sampler| sampler.is_urgent());
        let mut threads = Vec::new();
        for (name, samplers, urgent) in [("sampler", others, false), ("memory", urgent, true)] {
            if samplers.is_empty() {
                continue;
            }
            let (stopped, inbox) = (stop.try_clone()?, inbox.clone());
            let thread = Builder::new()
                .name(name.to_owned())
                .stack_size(512 << 10)
                .spawn(move || {
                    if urgent {
                        own::come_first();
                    }
                    run(samplers, &inbox, &stopped);
                });
            threads.push(thread?);
        }
        Ok(Self { stop, threads })
    }

    pub(super) fn end(self) {
        // Nobody reads it: it stays readable for all of them.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a sampler has died: nothing was sampled since");
            }
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
        let Some(woken) = sleep(&samplers, stop, wait) else {
            return;
        };
        // The last first: who gives up a file moves those behind it.
        for alarm in woken.alarms.iter().rev() {
            if let Some(sampler) = samplers.get_mut(alarm.sampler) {
                sampler.alarmed(alarm.place, alarm.broken);
            }
        }
        for ((number, sampler), due) in samplers.iter_mut().enumerate().zip(&mut due) {
            let now = clock::now();
            let alarmed = woken.alarms.iter().any(|alarm| alarm.sampler == number);
            let nudged = alarmed || woken.nudged.contains(&number);
            let wanted = (woken.pressed && sampler.wants_pressure()) || nudged;
            if *due <= now || wanted {
                *due = sampler.sample(now, woken.pressed, &mut taken);
            }
        }
        for (at, sample) in taken.drain(..) {
            inbox.signal(at, Signal::Sample { sample });
        }
    }
}

/// What ended a sleep.
#[derive(Debug, Default)]
struct Woken {
    /// The alarm went off.
    pressed: bool,
    /// Samplers that want to look at once.
    nudged: Vec<usize>,
    /// Files of samplers' own that are ready.
    alarms: Vec<Alarm>,
}

#[derive(Debug)]
struct Alarm {
    sampler: usize,
    place: usize,
    broken: bool,
}

/// None when the daemon is ending.
fn sleep(samplers: &[Box<dyn Sampler>], stop: &OwnedFd, wait: Duration) -> Option<Woken> {
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    let mut whose = Vec::new();
    for (number, sampler) in samplers.iter().enumerate() {
        let files = [
            (sampler.trigger(), PollFlags::PRI),
            (sampler.nudge(), PollFlags::IN),
        ];
        for (fd, flags) in files {
            if let Some(fd) = fd {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                whose.push(number);
            }
        }
    }
    let mut places = Vec::new();
    for (sampler, all) in samplers.iter().enumerate() {
        for (place, fd) in all.alarms().into_iter().enumerate() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::PRI));
            places.push((sampler, place));
        }
    }
    let timeout = Timespec::try_from(wait).unwrap_or_default();
    if poll(&mut fds, Some(&timeout)).is_err() {
        return Some(Woken::default());
    }
    let (stop, files) = fds.split_first()?;
    if !stop.revents().is_empty() {
        return None;
    }
    let (files, own) = files.split_at_checked(whose.len())?;
    let broken = PollFlags::ERR | PollFlags::NVAL;
    if files.iter().any(|fd| fd.revents().intersects(broken)) {
        // A file that is broken is ready for ever: without this, so would we be.
        std::thread::sleep(wait.min(Duration::from_millis(100)));
    }
    let nudged = files
        .iter()
        .zip(whose)
        .filter(|(fd, _)| fd.revents().intersects(PollFlags::IN | PollFlags::ERR));
    let alarms = own.iter().zip(places);
    let alarms = alarms.filter(|(fd, _)| !fd.revents().is_empty());
    let alarms = alarms.map(|(fd, (sampler, place))| Alarm {
        sampler,
        place,
        broken: fd.revents().intersects(broken),
    });
    Some(Woken {
        alarms: alarms.collect(),
        nudged: nudged.map(|(_, number)| number).collect(),
        pressed: files.iter().any(|fd| fd.revents().contains(PollFlags::PRI)),
    })
}
