//! Recordings of a running daemon: one at a time, begun and ended from the slow side, fed by the hot thread.
//!
//! A recording begins with what the core knows by then, as ordinary signals: the services that run, the wall clock, how busy the host
//! was, silences in force. Incidents that are open by then are named in it, but are not in it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::inbox::{Inbox, Message};
use crate::api::{self, answers};
use crate::engine::{Engine, Order, Settings};
use crate::host::clock;
use crate::model::{HostLoad, IncidentId, Request, Sample, ServiceSignal, Signal, Time, View};
use crate::record::recorder::{self, Bounds, Recorder, Recording};
use crate::record::recording::{Header, InForce, Note};

/// What the hot thread needs to begin.
#[derive(Debug)]
pub(super) struct Begin {
    recorder: Recorder,
    header: Header,
}

/// The slow side's end.
#[derive(Debug)]
pub(super) struct Recordings {
    inbox: Inbox,
    in_force: Mutex<InForce>,
    current: Mutex<Option<Recording>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recordings {
    pub(super) fn new(inbox: Inbox, in_force: InForce) -> Self {
        Self {
            inbox,
            in_force: Mutex::new(in_force),
            current: Mutex::default(),
        }
    }

    /// New settings for the core. A recording learns of them at the same place in the order of things.
    pub(super) fn reload(&self, (settings, in_force): (Settings, InForce)) {
        let mut known = lock(&self.in_force);
        known.clone_from(&in_force);
        let message = Message::Reload(Box::new((settings, in_force)));
        self.inbox.send(message);
    }

    /// Begins one; why not, when it cannot.
    pub(super) fn begin(&self, path: &Path, bounds: Bounds) -> Result<(), String> {
        let mut current = lock(&self.current);
        if let Some(recording) = current.as_mut() {
            if recording.progress().over.is_none() {
                let file = recording.file.display();
                return Err(format!(
                    "signals are being recorded into {file} already: one at a time; `sudo smart-monitor record --stop` ends it"
                ));
            }
            recording.finish();
        }
        let started = recorder::start(path, bounds);
        let (recorder, recording) = started.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!(
                "{} exists: choose another name, a recording overwrites nothing",
                path.display()
            ),
            _ => format!("cannot make {}: {error}", path.display()),
        })?;
        let in_force = lock(&self.in_force);
        let header = Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: boot(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            in_force: in_force.clone(),
            ..Header::default()
        };
        self.inbox
            .send(Message::Record(Box::new(Begin { recorder, header })));
        drop(in_force);
        tracing::info!(file = %path.display(), "signals are recorded");
        *current = Some(recording);
        Ok(())
    }

    /// Waits until the file is complete. For the daemon's end.
    pub(super) fn end(&self) {
        if let Some(mut recording) = lock(&self.current).take() {
            recording.finish();
        }
    }
}

impl api::Recordings for Recordings {
    fn start(&self, path: &Path, size: u64, time: Option<Duration>) -> Result<(), String> {
        self.begin(path, Bounds { size, time })
    }

    fn progress(&self) -> Option<answers::Recording> {
        let current = lock(&self.current);
        let recording = current.as_ref()?;
        let progress = recording.progress();
        Some(answers::Recording {
            file: recording.file.clone(),
            signals: progress.totals.signals,
            lost: progress.totals.lost,
            bytes: progress.totals.bytes,
            most_bytes: recording.bounds.size,
            seconds: progress.elapsed.as_secs_f64(),
            most_seconds: recording.bounds.time.map(|time| time.as_secs_f64()),
            over: progress.over.map(|over| over.to_string()),
        })
    }

    fn stop(&self) {
        if let Some(recording) = lock(&self.current).as_ref() {
            recording.stop();
        }
    }
}

/// Which boot of the machine this is.
pub(super) fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

/// The hot thread's end.
#[derive(Debug)]
pub(super) struct Tape {
    recorder: Option<Recorder>,
    waiting: Option<Box<Begin>>,
    /// The number after the highest that earlier runs used.
    next: IncidentId,
    load: Option<(HostLoad, Time)>,
}

impl Tape {
    pub(super) const fn new(next: IncidentId) -> Self {
        Self {
            recorder: None,
            waiting: None,
            next,
            load: None,
        }
    }

    /// Records from the next [`Tape::begin`] on.
    pub(super) fn insert(&mut self, begin: Box<Begin>) {
        self.waiting = Some(begin);
    }

    /// Begins, if that is asked for; when somebody reads the board, at the next round.
    pub(super) fn begin(&mut self, engine: &mut Engine, board: &Arc<Mutex<View>>) {
        let Some(begin) = self.waiting.take() else {
            return;
        };
        let mut board = match board.try_lock() {
            Ok(board) => board,
            Err(TryLockError::Poisoned(board)) => board.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting = Some(begin);
                return;
            }
        };
        engine.show(&mut board);
        let Begin {
            mut recorder,
            mut header,
        } = *begin;
        let last = board.incidents.keys().next_back();
        let after = last.map_or(0, |id| id.0.saturating_add(1));
        header.next = IncidentId(self.next.0.max(after));
        let (now, unix_ns) = (clock::now(), clock::unix_nanos());
        (header.monotonic_ns, header.unix_ns) = (now.nanos(), unix_ns);
        recorder.begin(header);
        let sample = Sample::Clock { unix_ns };
        recorder.signal(&Signal::Sample { sample }, now, now);
        if let Some((load, at)) = self.load {
            let sample = Sample::Load { load };
            recorder.signal(&Signal::Sample { sample }, at, now);
        }
        for (signal, at) in known(&board, now) {
            recorder.signal(&signal, at, now);
        }
        for incident in board.incidents.values().filter(|it| !it.is_over()) {
            recorder.name(incident, now);
        }
        if board.halted.is_some() {
            let reason = board.halted.clone();
            recorder.note(Note::Halt { reason }, now);
        }
        self.recorder = Some(recorder);
    }

    /// What the core is given.
    pub(super) fn signal(&mut self, signal: &Signal, at: Time, now: Time) {
        if let Signal::Sample {
            sample: Sample::Load { load },
        } = signal
        {
            self.load = Some((*load, at));
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.signal(signal, at, now);
            if recorder.is_over() {
                self.recorder = None;
            }
        }
    }

    /// What the core orders.
    pub(super) fn order(&mut self, order: &Order) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        match order {
            Order::Record(incident) => recorder.name(incident, clock::now()),
            Order::Releases { .. } => {}
            Order::Execute { permit, incident } => {
                recorder.act(incident, permit.action(), clock::now());
            }
        }
    }

    /// Something else that a replay must know.
    pub(super) fn note(&mut self, note: impl FnOnce() -> Note) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note(note(), clock::now());
        }
    }
}

/// What the core knows, as the signals that would tell it.
fn known(view: &View, now: Time) -> Vec<(Signal, Time)> {
    let services = view.services.values().filter_map(|row| {
        let service = &row.service;
        let change = ServiceSignal::Started {
            process: service.process?,
            adopted: true,
            cgroup_id: service.cgroup_id,
        };
        let signal = Signal::Service {
            service: service.name.clone(),
            change,
        };
        Some((signal, service.started.unwrap_or(now)))
    });
    let silences = view.silences.iter().map(|silence| {
        let signal = Signal::Person {
            by: silence.by.clone(),
            request: Request::Silence {
                silence: silence.clone(),
            },
        };
        (signal, now)
    });
    services.chain(silences).collect()
}
