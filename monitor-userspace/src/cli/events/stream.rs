//! From the rings to the output, until it is over.
//!
//! A round drains both rings into one batch, sorts it by time and writes it at once; a bounded batch is all that is held. When
//! nobody takes the output, the rings fill and the kernel counts what finds no room.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use monitor_common::{Event, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::changes;
use super::describe;
use super::filter::Filter;
use super::json;
use super::line::{Clock, Columns, place};
use super::output::{Output, say};
use super::resolve::Resolver;
use crate::cli::render::{add, clean, duration};
use crate::host::clock;
use crate::host::rtnetlink::Watch;
use crate::kernel::{self, CounterReader, DnsWatch, Rings};
use crate::model::Time;

/// Events of a ring that are taken at once.
const BATCH: usize = 2_048;
/// Bulk events wake nobody.
const BULK: Duration = Duration::from_millis(100);
/// Between two rounds, so that a steady stream is taken by the batch, too.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two notices of losses.
const NOTICES: Duration = Duration::from_secs(1);
/// Text that is gathered before it is written.
const WRITE_AT: usize = 64 << 10;
/// Rounds that what is still in the rings may take in the end; they hold less.
const LAST_ROUNDS: usize = 32;

/// How lines are made.
pub(super) enum Form {
    /// For people.
    Lines(Columns),
    /// For programs.
    Json,
}

/// When it is over.
pub(super) struct Until {
    /// So many events were shown.
    pub(super) count: Option<u64>,
    /// So much time has passed.
    pub(super) deadline: Option<Time>,
    /// Somebody said so.
    pub(super) stop: UnixStream,
}

/// Everything that one run needs.
pub(super) struct Stream {
    pub(super) rings: Rings,
    pub(super) counters: CounterReader,
    pub(super) dns: DnsWatch,
    /// Changes of the network, where they are asked for.
    pub(super) network: Option<Watch>,
    pub(super) resolver: Resolver,
    pub(super) filter: Filter,
    pub(super) form: Form,
    pub(super) clock: Clock,
    pub(super) until: Until,
    pub(super) out: Output,
    pub(super) tally: Tally,
}

/// What was counted.
#[derive(Debug)]
pub(super) struct Tally {
    began: Time,
    shown: BTreeMap<Kind, u64>,
    shown_total: u64,
    /// Changes of the network among them.
    changes: u64,
    malformed: usize,
    lost: u64,
    lost_said: Time,
    swept: Time,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            began: clock::now(),
            shown: BTreeMap::new(),
            shown_total: 0,
            changes: 0,
            malformed: 0,
            lost: 0,
            lost_said: Time::from_nanos(0),
            swept: Time::from_nanos(0),
        }
    }
}

/// Why to go on, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Round,
    /// Asked to end, or the time is over: what is in the rings is still shown.
    Last,
    /// As many were shown as were asked for.
    Enough,
    /// Nobody reads any more.
    Unread,
}

impl Stream {
    /// Runs until it is over.
    pub(super) fn run(mut self) -> anyhow::Result<ExitCode> {
        if let Form::Lines(columns) = &self.form {
            let heading = columns.heading(&self.clock);
            if !self.out.write(&heading)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        let mut batch = Vec::new();
        let mut drained = 0;
        let mut next = Next::Round;
        while next == Next::Round {
            next = self.wait(drained)?;
            if next == Next::Round {
                (drained, next) = self.round(&mut batch)?;
                self.say_losses();
            }
        }
        if next == Next::Last {
            for _ in 0..LAST_ROUNDS {
                let (drained, after) = self.round(&mut batch)?;
                if drained == 0 || after != Next::Round {
                    break;
                }
            }
        }
        if next != Next::Unread {
            self.sum_up();
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Waits for events: a moment after a round that had some, in which they gather.
    fn wait(&self, drained: usize) -> anyhow::Result<Next> {
        if drained >= BATCH {
            return self.poll(Duration::ZERO, false);
        }
        if drained > 0 {
            let next = self.poll(PAUSE, false)?;
            if next != Next::Round {
                return Ok(next);
            }
        }
        self.poll(BULK, true)
    }

    fn poll(&self, most: Duration, for_events: bool) -> anyhow::Result<Next> {
        let now = clock::now();
        let left = self.until.deadline.map(|deadline| deadline.since(now));
        if left == Some(Duration::ZERO) {
            return Ok(Next::Last);
        }
        let timeout = left.map_or(most, |left| left.min(most));
        let mut fds = vec![
            PollFd::new(&self.until.stop, PollFlags::IN),
            // Only for its errors: the reader of a pipe has gone.
            PollFd::new(self.out.fd(), PollFlags::empty()),
        ];
        if for_events {
            for ring in [&self.rings.urgent, &self.rings.bulk] {
                fds.push(PollFd::from_borrowed_fd(ring.fd(), PollFlags::IN));
            }
            fds.extend(
                self.network
                    .as_ref()
                    .map(|watch| PollFd::new(watch, PollFlags::IN)),
            );
        }
        match poll(&mut fds, Some(&Timespec::try_from(timeout)?)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => anyhow::bail!("cannot wait for events: {error}"),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(match (ready(0), ready(1)) {
            (_, true) => Next::Unread,
            (true, _) => Next::Last,
            _ => Next::Round,
        })
    }

    /// Takes what is there, at most a batch a ring; how many there were.
    fn round(&mut self, batch: &mut Vec<Event>) -> anyhow::Result<(usize, Next)> {
        for ring in [&mut self.rings.urgent, &mut self.rings.bulk] {
            let drained = ring.drain(BATCH, |event| batch.push(event));
            self.tally.malformed += drained.malformed;
        }
        let now = clock::now();
        if now.since(self.tally.swept) >= kernel::SWEEP {
            self.tally.swept = now;
            self.dns.sweep(now, |event| batch.push(event));
        }
        let drained = batch.len();
        // Each ring is in order but for the CPUs; the two are not in order with each other.
        batch.sort_by_key(Event::time_ns);
        let mut text = String::new();
        let mut next = Next::Round;
        for event in batch.drain(..) {
            self.take(event, &mut text)?;
            let count = self.until.count;
            let enough = count.is_some_and(|count| self.tally.shown_total >= count);
            if enough || text.len() >= WRITE_AT {
                if !self.out.write(&text)? {
                    return Ok((drained, Next::Unread));
                }
                text.clear();
            }
            if enough {
                next = Next::Enough;
                break;
            }
        }
        let changed = if next == Next::Round {
            self.changes(now, &mut text)?
        } else {
            0
        };
        if self
            .until
            .count
            .is_some_and(|count| self.tally.shown_total >= count)
        {
            next = Next::Enough;
        }
        if !self.out.write(&text)? {
            next = Next::Unread;
        }
        let drained = drained + changed;
        self.resolver.collect(clock::now());
        Ok((drained, next))
    }

    fn take(&mut self, mut event: Event, text: &mut String) -> anyhow::Result<()> {
        self.resolver.before(&event);
        let holders = self.resolver.holders(&mut event);
        let event = &event;
        if let Event::EventThrottle(throttle) = event {
            let identity = self.resolver.place(event);
            let place = clean(&place(identity.as_ref(), event.task().cgroup_id));
            say(&describe::throttle(throttle, &place));
        } else if self.filter.passes(event, &mut self.resolver) {
            match &self.form {
                Form::Lines(columns) => {
                    columns.line(text, event, holders, &self.clock, &mut self.resolver);
                }
                Form::Json => {
                    let wall = self.clock.rfc3339(event);
                    text.push_str(&json::line(event, holders, wall, &mut self.resolver)?);
                    text.push('\n');
                }
            }
            self.tally.shown_total += 1;
            *self.tally.shown.entry(event.kind()).or_default() += 1;
        }
        self.resolver.after(event);
        Ok(())
    }

    /// Takes changes of the network; how many there were. No process has a part in one.
    fn changes(&mut self, now: Time, text: &mut String) -> anyhow::Result<usize> {
        let mut changed = Vec::new();
        if let Some(watch) = &mut self.network
            && let Err(error) = watch.read(now, &mut changed)
        {
            say(&format!(
                "changes of the network are shown no longer: {error}"
            ));
            self.network = None;
        }
        if self.filter.is_of_processes() {
            return Ok(0);
        }
        let left = self
            .until
            .count
            .map(|count| count.saturating_sub(self.tally.shown_total));
        let left = left.and_then(|left| usize::try_from(left).ok());
        changed.truncate(left.unwrap_or(usize::MAX));
        for change in &changed {
            match &self.form {
                Form::Lines(columns) => columns.change(text, change, now, &self.clock),
                Form::Json => {
                    let wall = self.clock.rfc3339_at(now);
                    text.push_str(&changes::json(change, now, wall)?);
                    text.push('\n');
                }
            }
            self.tally.shown_total += 1;
            self.tally.changes += 1;
        }
        Ok(changed.len())
    }

    fn say_losses(&mut self) {
        let now = clock::now();
        if now.since(self.tally.lost_said) < NOTICES {
            return;
        }
        let lost = self.counters.lost_total();
        if lost > self.tally.lost {
            let more = lost - self.tally.lost;
            self.tally.lost = lost;
            self.tally.lost_said = now;
            say(&format!(
                "{more} events lost ({lost} in all): they came faster than they were read; ask for fewer probes"
            ));
        }
    }

    /// What there was.
    fn sum_up(&self) {
        let tally = &self.tally;
        let mut text = format!("{} in ", count(tally.shown_total, "event"));
        text.push_str(&duration(clock::now().since(tally.began)));
        let (mut lost, mut held_back) = (0, 0);
        let mut parts = Vec::new();
        for probe in self.counters.read() {
            let total = probe.total();
            lost += total.lost;
            held_back += total.suppressed;
            let shown = tally.shown.get(&probe.kind).copied().unwrap_or(0);
            let mut part = format!("{} {shown}", probe.kind.name());
            if total.suppressed > 0 {
                add(
                    &mut part,
                    format_args!(" and {} held back", total.suppressed),
                );
            }
            if shown + total.suppressed > 0 {
                parts.push(part);
            }
        }
        if tally.changes > 0 {
            parts.push(format!("{} {}", changes::NAME, tally.changes));
        }
        if !parts.is_empty() {
            add(&mut text, format_args!(": {}", parts.join(", ")));
        }
        add(
            &mut text,
            format_args!("; {lost} lost, {held_back} held back"),
        );
        if tally.malformed > 0 {
            add(&mut text, format_args!(", {} malformed", tally.malformed));
        }
        say(&text);
    }
}

fn count(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}
