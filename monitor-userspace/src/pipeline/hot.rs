//! The hot thread: rings, core, journal of intents, first strikes. Never awaits, never takes a lock that slow code holds for long.
//!
//! Order within a round: losses are counted before the rings are drained, so that evidence drained now is judged by every loss before
//! it; then the inbox, so that what a supervisor announced (a stop, a start) is known before the exits that follow from it; then urgent
//! events, bulk events, ended processes, time. Orders are carried out as they come, not at the end of a round.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use monitor_common::probes::fork_storm::ENFORCED;
use monitor_common::{Event, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::hands::{Hands, Job};
use super::inbox::{Delivered, Message};
use super::knowing::Knowing;
use super::live_host::CalledOff;
use super::logs::Logs;
use super::once::Once;
use super::people::Taken;
use super::recording::Tape;
use super::watched::{Watched, Watching};
use crate::actions;
use crate::api::Asked;
use crate::engine::{Engine, Order};
use crate::host::signals::Held;
use crate::host::{Host, clock, own};
use crate::kernel::{CounterReader, Guards, Rings};
use crate::model::incident::State as Phase;
use crate::model::{
    Effect, EffectResult, Incident, IncidentId, Sample, ServiceSignal, Signal, Time, View,
};
use crate::policy::Permit;
use crate::record::recording::Note;
use crate::record::recovery;
use crate::record::{Entry, Journal, JournalError};

/// Longest sleep: bulk events wait in their ring no longer than this.
const BULK: Duration = Duration::from_millis(100);
/// Shortest sleep when only time is waited for.
const SOONEST: Duration = Duration::from_millis(1);
/// Shortest time between two times that the board is brought up to date: with many services, that takes longer than deciding.
const SHOW_AGAIN: Duration = Duration::from_millis(5);
/// How often counters are shown when nothing else changed.
const SHOW: Duration = Duration::from_secs(1);
/// How long after memory was low this thread stays real-time.
const RUSH: Duration = Duration::from_secs(5);
/// How often a journal that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Most records taken from a ring, and messages from the inbox, before everything else gets its turn.
const BATCH: usize = 4096;

/// What the thread is made of.
pub(super) struct Hot {
    pub(super) engine: Engine,
    pub(super) rings: Option<Rings>,
    pub(super) counters: Option<CounterReader>,
    /// Those in the kernel, which must not act either when nothing may.
    pub(super) guards: Option<Guards>,
    pub(super) inbox: Delivered,
    pub(super) hands: Hands,
    pub(super) host: Arc<dyn Host>,
    /// Acts that are not to go on.
    pub(super) called_off: Arc<CalledOff>,
    pub(super) journal: Arc<Journal>,
    /// Asks for the journal to be forced to the disk.
    pub(super) sync: SyncSender<()>,
    pub(super) board: Arc<Mutex<View>>,
    /// Where signals are recorded, while they are.
    pub(super) tape: Tape,
    /// Cgroups whose fork storms are to be ended.
    pub(super) storms: SyncSender<u64>,
    pub(super) knowing: Knowing,
    pub(super) logs: Logs,
    /// Processes of services.
    pub(super) watching: Watching,
}

struct State {
    hot: Hot,
    orders: Vec<Order>,
    /// Effects that came about here.
    effects: VecDeque<Effect>,
    taken: Taken,
    /// What was frozen is in the journal once.
    once: Once,
    lost_total: u64,
    lost: BTreeMap<Kind, u64>,
    shown: Time,
    halted: Option<Time>,
    /// Real-time since then, for memory is low.
    rushed: Option<Time>,
    quiet: bool,
    stop: bool,
}

/// Runs until it is told to stop.
pub(super) fn run(hot: Hot) {
    own::hurry();
    let mut rings = None;
    let mut state = State {
        hot,
        orders: Vec::new(),
        effects: VecDeque::new(),
        taken: Taken::default(),
        once: Once::default(),
        lost_total: 0,
        lost: BTreeMap::new(),
        shown: Time::default(),
        halted: None,
        rushed: None,
        quiet: false,
        stop: false,
    };
    std::mem::swap(&mut rings, &mut state.hot.rings);
    while !state.stop {
        let ended = state.sleep(rings.as_ref());
        state.begin_recording();
        state.count_losses();
        state.take_messages();
        if let Some(rings) = &mut rings {
            for ring in [&mut rings.urgent, &mut rings.bulk] {
                let drained = ring.drain(BATCH, |event| {
                    let at = Time::from_kernel(event.time_ns());
                    if let Event::ForkStorm(storm) = event
                        && storm.guard == ENFORCED
                    {
                        // Full means that others are being ended; this one tells of itself again in a second.
                        let _ = state.hot.storms.try_send(storm.task.cgroup_id);
                    }
                    state.hot.knowing.feed(&event);
                    state.observe(&Signal::Kernel { event }, at);
                });
                if drained.malformed > 0 {
                    state
                        .hot
                        .engine
                        .note_malformed(u64::try_from(drained.malformed).unwrap_or(0));
                }
            }
        }
        state.take_ended(ended);
        state.pass_time();
        state.show();
    }
    state.show();
    state.hot.hands.end();
}

impl State {
    /// Waits for something to do; those of the watched processes that have ended.
    fn sleep(&mut self, rings: Option<&Rings>) -> Vec<Watched> {
        let now = clock::now();
        let wake = self.hot.engine.wake().map_or(BULK, |wake| wake.since(now));
        // Time has just been passed: whatever wants it again at once gets it soon, and cannot turn this into a busy loop.
        let mut wake = wake.clamp(SOONEST, BULK);
        if self.hot.engine.changed() {
            wake = wake.min(SHOW_AGAIN);
        }
        let own = [self.hot.inbox.fd(), self.hot.watching.fd()];
        let mut fds = own
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .to_vec();
        if let Some(rings) = rings {
            for ring in [&rings.urgent, &rings.bulk] {
                fds.push(PollFd::from_borrowed_fd(ring.fd(), PollFlags::IN));
            }
        }
        let timeout = Timespec::try_from(wake).unwrap_or_default();
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let ended = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if ended {
            self.hot.watching.ended()
        } else {
            Vec::new()
        }
    }

    fn observe(&mut self, signal: &Signal, at: Time) {
        let now = clock::now();
        if let Signal::Sample {
            sample: Sample::MemoryClaims { .. },
        } = signal
        {
            self.rush(now);
        }
        self.hot.tape.signal(signal, at, now);
        self.hot.engine.observe(signal, at, now, &mut self.orders);
        self.carry_out();
        while let Some(effect) = self.effects.pop_front() {
            let at = effect.finished;
            self.observe(&Signal::Effect { effect }, at);
        }
    }

    /// Memory is about to run out: from here on, this thread waits for no ordinary work. Where it may not be real-time, it stays as it is.
    fn rush(&mut self, now: Time) {
        if self.rushed.replace(now).is_none() {
            let _ = own::rush(true);
        }
    }

    /// Memory has not been low for a while.
    fn slow_down(&mut self, now: Time) {
        if self.rushed.is_some_and(|since| now.since(since) > RUSH) {
            self.rushed = None;
            let _ = own::rush(false);
        }
    }

    /// Nothing may act, or may again: the core is told, and so is a recording.
    fn halt_core(&mut self, reason: Option<String>) {
        self.hot.tape.note(|| Note::Halt {
            reason: reason.clone(),
        });
        self.hot.engine.halt(reason);
    }

    /// Does what the core ordered, in its order.
    fn carry_out(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        for order in orders.drain(..) {
            self.hot.tape.order(&order);
            match order {
                Order::Record(incident) => {
                    self.hot.knowing.ask(&incident);
                    self.hot.logs.ask(&incident);
                    self.write_incident(incident);
                }
                Order::Releases { service, known } => {
                    self.write(vec![Entry::Releases { service, known }]);
                }
                Order::Execute { permit, incident } => {
                    let id = incident.id;
                    self.execute(permit, incident);
                    self.ask_about(id);
                }
            }
        }
        self.orders = orders;
        for (id, why) in self.hot.engine.take_called_off() {
            self.hot.called_off.add(id, why);
        }
    }

    /// Asks who an incident is about, and what its log says. Wakes other threads, so never on the way to an act.
    fn ask_about(&mut self, id: IncidentId) {
        if let Some(incident) = self.hot.engine.incident(id) {
            self.hot.knowing.ask(incident);
            self.hot.logs.ask(incident);
        }
    }

    /// Intent, strike, and the rest to a hand.
    fn execute(&mut self, permit: Permit, incident: Box<Incident>) {
        let action = permit.action().to_owned();
        let intent = Entry::Intent {
            incident,
            action,
            plan: permit.plan().clone(),
            rule: permit.grounds().rule.clone(),
            by: permit.grounds().by.clone(),
            undo: permit.grounds().undo,
        };
        if !self.announce(intent) {
            return self.give_up(&permit, "the journal cannot be written, so nothing acts");
        }
        let struck = actions::strike(&permit, self.hot.host.as_ref());
        self.force();
        match struck {
            Err(effect) => {
                self.write(vec![Entry::Effect {
                    effect: *effect.clone(),
                }]);
                self.effects.push_back(*effect);
            }
            Ok(struck) => {
                if let Err(job) = self.hot.hands.give(Job { permit, struck }) {
                    self.give_up(&job.permit, "no hand is free");
                }
            }
        }
    }

    fn give_up(&mut self, permit: &Permit, reason: &str) {
        let effect = Effect {
            incident: permit.incident(),
            action: permit.action().to_owned(),
            acted: None,
            finished: clock::now(),
            result: EffectResult::Failed {
                reason: reason.to_owned(),
            },
            verified: None,
            undo: None,
        };
        self.effects.push_back(effect);
    }

    /// Whether the entries are written. When not, nothing acts until they can be.
    fn write(&mut self, entries: Vec<Entry>) -> bool {
        let (now, unix_ns) = (clock::now(), clock::unix_nanos());
        let written = self.hot.journal.append(now, unix_ns, entries);
        let written = self.note_written(written);
        self.force();
        written
    }

    /// The same, for what is about to be done.
    fn announce(&mut self, intent: Entry) -> bool {
        let (now, unix_ns) = (clock::now(), clock::unix_nanos());
        let written = self.hot.journal.announce(now, unix_ns, intent);
        self.note_written(written)
    }

    /// Has what was written forced to the disk, by another thread.
    fn force(&self) {
        // Full means that it is being asked for already.
        let _ = self.hot.sync.try_send(());
    }

    fn note_written(&mut self, written: Result<(), JournalError>) -> bool {
        match written {
            Ok(()) => true,
            Err(error) => {
                self.halt(error.to_string());
                false
            }
        }
    }

    fn halt(&mut self, reason: String) {
        if self.halted.is_none() {
            tracing::error!(%reason, "nothing acts");
        }
        self.hold_fire(true);
        // Asked again later; said only once.
        self.halted = Some(clock::now());
        if !self.quiet {
            self.halt_core(Some(reason));
        }
    }

    fn hold_fire(&self, on: bool) {
        if let Some(guards) = &self.hot.guards {
            guards.hold_fire(on);
        }
    }

    fn begin_recording(&mut self) {
        self.hot.tape.begin(&mut self.hot.engine, &self.hot.board);
    }

    fn count_losses(&mut self) {
        let Some(counters) = &self.hot.counters else {
            return;
        };
        let total = counters.lost_total();
        if total == self.lost_total {
            return;
        }
        self.lost_total = total;
        let now: Vec<(Kind, u64)> = counters
            .read()
            .iter()
            .map(|probe| (probe.kind, probe.total().lost))
            .collect();
        for (probe, lost) in now {
            let before = self.lost.insert(probe, lost).unwrap_or(0);
            if lost > before {
                let signal = Signal::Loss {
                    probe,
                    lost: lost - before,
                };
                self.observe(&signal, clock::now());
            }
        }
    }

    fn take_messages(&mut self) {
        self.hot.inbox.reset();
        for _ in 0..BATCH {
            let Some(message) = self.hot.inbox.next() else {
                return;
            };
            match message {
                Message::Signal { at, signal } => {
                    if let Signal::Effect { effect } = signal.as_ref() {
                        self.hot.called_off.forget(effect.incident);
                        self.write(vec![Entry::Effect {
                            effect: effect.clone(),
                        }]);
                    }
                    self.observe(&signal, at);
                }
                Message::Watch {
                    service,
                    process,
                    pidfd,
                } => {
                    self.hot.watching.add(Watched {
                        service,
                        process,
                        pidfd,
                    });
                }
                Message::Person(asked) => self.take_asked(*asked),
                Message::Who { incident, who } => {
                    self.hot.engine.identify(incident, *who);
                    self.tell_again(incident);
                }
                Message::Log { incident, lines } => {
                    self.hot.engine.attach_log(incident, lines);
                    self.tell_again(incident);
                }
                Message::Reload(reloaded) => {
                    let (settings, in_force) = *reloaded;
                    let in_force = Box::new(in_force);
                    self.hot.tape.note(|| Note::InForce { in_force });
                    self.hot.engine.reconfigure(settings);
                }
                Message::Record(begin) => {
                    self.hot.tape.insert(begin);
                    self.begin_recording();
                }
                Message::Quiesce => {
                    self.quiet = true;
                    self.hold_fire(true);
                    self.halt_core(Some("the daemon is ending".to_owned()));
                }
                Message::Halt(reason) => self.halt(reason),
                Message::Stop => self.stop = true,
            }
        }
    }

    /// What a person asks for is written down before it is looked at.
    fn take_asked(&mut self, asked: Asked) {
        let Asked { by, request, taken } = asked;
        if taken.is_closed() {
            return;
        }
        let entry = Entry::Person {
            by: by.clone(),
            request: request.clone(),
        };
        if !self.write(vec![entry]) {
            let why = "the journal cannot be written, so it was not taken: `smart-monitor status` says why";
            let _ = taken.send(Err(why.to_owned()));
            return;
        }
        self.observe(&Signal::Person { by, request }, clock::now());
        self.taken.add(taken);
    }

    /// More is known about an incident: its log may be asked for now, and the journal is to have it.
    fn tell_again(&mut self, id: IncidentId) {
        let Some(incident) = self.hot.engine.incident(id).cloned() else {
            return;
        };
        self.hot.logs.ask(&incident);
        // Where an act is under way, the line about its outcome will say it.
        let acts = matches!(incident.state, Phase::Acting | Phase::Verifying);
        if !acts && self.halted.is_none() {
            self.write_incident(Box::new(incident));
        }
    }

    fn write_incident(&mut self, mut incident: Box<Incident>) {
        let id = incident.id;
        self.once.leave_out(&mut incident);
        if !self.write(vec![Entry::Incident { incident }]) {
            self.once.forget(id);
        }
    }

    /// Normally the kernel's event came first; this is what is left when it was lost, and the proof that its memory is free.
    fn take_ended(&mut self, ended: Vec<Watched>) {
        for watched in ended {
            let change = ServiceSignal::Exited {
                process: watched.process,
                status: Held::peek_fd(&watched.pidfd),
            };
            let signal = Signal::Service {
                service: watched.service,
                change,
            };
            self.observe(&signal, clock::now());
        }
    }

    fn pass_time(&mut self) {
        let now = clock::now();
        let due = self.halted.is_some_and(|since| now.since(since) >= RETRY);
        if due && !self.quiet && self.write(vec![Entry::Resumed]) {
            self.halted = None;
            self.hold_fire(false);
            tracing::info!("the journal can be written again");
            self.halt_core(None);
        }
        self.slow_down(now);
        self.restate();
        self.hot.engine.tick(now, &mut self.orders);
        self.carry_out();
        while let Some(effect) = self.effects.pop_front() {
            let at = effect.finished;
            self.observe(&Signal::Effect { effect }, at);
        }
    }

    /// Where the journal has begun a new file, writes into it again what must be remembered.
    fn restate(&mut self) {
        if self.halted.is_some() || !self.hot.journal.take_begun() {
            return;
        }
        let again = recovery::restated(
            self.hot.engine.silences_in_force(),
            self.hot.engine.held(),
            self.hot.engine.known_releases(),
        );
        if again.is_empty() {
            return;
        }
        let written = self.write(again);
        // A file that was begun for these entries has them; where they are not written, they are when that can be done again.
        self.hot.journal.take_begun();
        if !written {
            self.hot.journal.set_begun();
        }
    }

    /// Brings the board up to date; when somebody is reading it, at the next round.
    fn show(&mut self) {
        let now = clock::now();
        let again = if !self.taken.is_empty() || self.stop {
            Duration::ZERO
        } else if self.hot.engine.changed() {
            SHOW_AGAIN
        } else {
            SHOW
        };
        if now.since(self.shown) < again {
            return;
        }
        match self.hot.board.try_lock() {
            Ok(mut board) => self.hot.engine.show(&mut board),
            Err(TryLockError::Poisoned(board)) => self.hot.engine.show(&mut board.into_inner()),
            Err(TryLockError::WouldBlock) => return,
        }
        self.shown = now;
        self.taken.tell();
    }
}
