//! A thread that drains the rings as the daemon's hot thread does, and counts what woke it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use monitor_common::Event;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use smart_monitor::kernel::Rings;

/// Longest sleep, as in the daemon: bulk records wait no longer.
const BULK: Duration = Duration::from_millis(100);
/// A poll that took less did not merely find something when its time was up.
const EARLY: Duration = Duration::from_millis(98);
/// How many different urgent records are remembered by name.
const STRANGERS: usize = 5;

/// What woke the reader, in a stretch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes {
    pub(super) time: Duration,
    /// Polls that ended because the urgent ring held something.
    pub(super) urgent: u64,
    /// Polls that ended early because the bulk ring did: it was half full, or a record had come between draining and polling.
    pub(super) bulk: u64,
    pub(super) urgent_events: u64,
    pub(super) bulk_events: u64,
    pub(super) lost: u64,
    /// Whose urgent records they were.
    pub(super) strangers: BTreeSet<String>,
}

impl Wakes {
    pub(super) fn add(&mut self, other: Self) {
        self.time += other.time;
        self.urgent += other.urgent;
        self.bulk += other.bulk;
        self.urgent_events += other.urgent_events;
        self.bulk_events += other.bulk_events;
        self.lost += other.lost;
        self.strangers.extend(other.strangers);
    }
}

#[derive(Debug, Default)]
struct Counts {
    urgent: AtomicU64,
    bulk: AtomicU64,
    urgent_events: AtomicU64,
    bulk_events: AtomicU64,
    strangers: Mutex<BTreeSet<String>>,
}

/// The thread; ends with its owner.
#[derive(Debug)]
pub(super) struct Reader {
    counts: Arc<Counts>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(mut rings: Rings) -> Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC).context("no eventfd")?;
        let stopped = stop.try_clone()?;
        let counts = Arc::new(Counts::default());
        let seen = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            smart_monitor::host::own::hurry();
            while turn(&mut rings, &stopped, &seen) {}
        });
        Ok(Self {
            counts,
            stop,
            thread: Some(thread),
        })
    }

    /// What has happened so far, and is now forgotten; time and losses are for the caller to fill in.
    pub(super) fn take(&self) -> Wakes {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let mut strangers = self
            .counts
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Wakes {
            urgent: take(&self.counts.urgent),
            bulk: take(&self.counts.bulk),
            urgent_events: take(&self.counts.urgent_events),
            bulk_events: take(&self.counts.bulk_events),
            strangers: std::mem::take(&mut strangers),
            ..Wakes::default()
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// One sleep and what follows; whether there is to be another.
fn turn(rings: &mut Rings, stop: &OwnedFd, counts: &Counts) -> bool {
    let mut fds = [
        PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(rings.urgent.fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(rings.bulk.fd(), PollFlags::IN),
    ];
    let timeout = Timespec::try_from(BULK).unwrap_or_default();
    let begin = Instant::now();
    let polled = poll(&mut fds, Some(&timeout)).is_ok();
    let early = begin.elapsed() < EARLY;
    let [stop, urgent, bulk] = fds.map(|fd| polled && fd.revents().contains(PollFlags::IN));
    let add = |count: &AtomicU64, more: usize| {
        count.fetch_add(u64::try_from(more).unwrap_or(0), Ordering::Relaxed);
    };
    add(&counts.urgent, usize::from(urgent));
    add(&counts.bulk, usize::from(bulk && early && !urgent));
    let urgent = rings
        .urgent
        .drain(usize::MAX, |event| remember(&event, counts));
    let bulk = rings.bulk.drain(usize::MAX, |event| {
        std::hint::black_box(event);
    });
    add(&counts.urgent_events, urgent.count);
    add(&counts.bulk_events, bulk.count);
    !stop
}

fn remember(event: &Event, counts: &Counts) {
    let mut strangers = counts
        .strangers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if strangers.len() < STRANGERS {
        strangers.insert(format!(
            "{} of {}",
            event.kind().name(),
            event.task().comm()
        ));
    }
}
