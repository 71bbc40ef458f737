//! A loaded kernel half, its rings, and looking for what must come through them.

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use monitor_common::counters::ProbeCounters;
use monitor_common::probes::process_exit::ProcessExit;
use monitor_common::{Event, Kind};
use smart_monitor::kernel::{Kernel, Options, Rings};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long to wait for an event that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) fn load(options: &Options) -> Kernel {
    let loaded = Kernel::load(options).map_err(|error| error.to_string());
    loaded.expect("the live tests need a kernel half that loads")
}

/// A command; these tests are the ones who spawn.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests make the processes that the probes see"
)]
pub(super) fn command(program: &str) -> Command {
    Command::new(program)
}

pub(super) fn shell(script: &str) -> Child {
    command("sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh is there")
}

/// Which ring an event came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Urgent,
    Bulk,
}

pub(super) fn drain(rings: &mut Rings, into: &mut Vec<(Lane, Event)>) {
    let urgent = rings
        .urgent
        .drain(usize::MAX, |event| into.push((Lane::Urgent, event)));
    let bulk = rings
        .bulk
        .drain(usize::MAX, |event| into.push((Lane::Bulk, event)));
    assert_eq!(urgent.malformed + bulk.malformed, 0, "malformed records");
}

/// Reads both rings until an event answers.
pub(super) fn wait_for<T>(
    rings: &mut Rings,
    seen: &mut Vec<(Lane, Event)>,
    what: &str,
    find: impl Fn(Lane, &Event) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        drain(rings, seen);
        if let Some(found) = seen.iter().find_map(|(lane, event)| find(*lane, event)) {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "no event of {what} among {} events",
            seen.len()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn exit_of(
    rings: &mut Rings,
    seen: &mut Vec<(Lane, Event)>,
    pid: u32,
) -> (Lane, ProcessExit) {
    wait_for(rings, seen, "an exit", |lane, event| match event {
        Event::ProcessExit(exit) if exit.task.pid == pid => Some((lane, *exit)),
        _ => None,
    })
}

pub(super) fn total(kernel: &Kernel, kind: Kind) -> ProbeCounters {
    let probes = kernel.counters().read();
    probes
        .iter()
        .find(|probe| probe.kind == kind)
        .expect("every kind has counters")
        .total()
}

/// A loaded kernel half with its rings and all that came through them so far. No other test has one meanwhile.
pub(super) struct Live {
    pub(super) kernel: Kernel,
    rings: Rings,
    pub(super) seen: Vec<(Lane, Event)>,
    _alone: MutexGuard<'static, ()>,
}

impl Live {
    pub(super) fn new(options: &Options) -> Self {
        let alone = alone();
        let mut kernel = load(options);
        let rings = kernel.take_rings().expect("the rings");
        Self {
            kernel,
            rings,
            seen: Vec::new(),
            _alone: alone,
        }
    }

    /// Both rings, and what was kept of them, for who reads them otherwise.
    pub(super) fn parts(&mut self) -> (&mut Rings, &mut Vec<(Lane, Event)>) {
        (&mut self.rings, &mut self.seen)
    }

    pub(super) fn drain(&mut self) {
        drain(&mut self.rings, &mut self.seen);
    }

    /// The first event that answers, once it has come.
    pub(super) fn wait_for<T>(&mut self, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
        wait_for(&mut self.rings, &mut self.seen, what, |_, event| {
            find(event)
        })
    }

    /// All events that answer, of those that have come by now.
    pub(super) fn all<T>(&mut self, find: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.drain();
        let found = self.seen.iter().filter_map(|(_, event)| find(event));
        found.collect()
    }

    /// Reads the rings until something else is so.
    pub(super) fn until(&mut self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + 3 * PATIENCE;
        while !is() {
            self.drain();
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.drain();
    }

    /// Reads the rings for so long.
    pub(super) fn read_for(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        self.until("the end of a time", || Instant::now() >= end);
    }
}

/// Fields of `/proc/PID/stat` after the name; the first is the state, field 3 of the manual.
pub(super) fn stat_of_self() -> Vec<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    fields
        .split_ascii_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect()
}
