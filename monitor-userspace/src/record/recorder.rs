//! Records signals while the daemon runs: the hot thread hands them over and never waits; a thread of its own writes them.
//!
//! Consumes what the core is given; emits a file of `recording`. What finds no room in the channel is counted, and an entry says so
//! at its place. Ends by itself at a size or after a time, and when it is told to. Leaves out what a recording begins with: the
//! pipeline knows that.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::recording::{Entry, Header, Note, Totals, What, Writer, create};
use crate::model::{Incident, IncidentId, Signal, Time};

/// Size at which a recording ends when none is given, bytes.
pub const SIZE: u64 = 256 << 20;

/// Entries that wait to be written.
const WAITING: usize = 8192;
/// What was recorded is in the file after so long at most.
const FLUSH: Duration = Duration::from_secs(1);
/// How soon an end that is asked for is seen.
const LOOK: Duration = Duration::from_millis(100);
/// Most incidents of which it is remembered that they were named; one that is named twice does no harm.
const NAMED: usize = 4096;

/// When a recording ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most bytes of the file.
    pub size: u64,
    /// Longest time; none for as long as the daemon runs.
    pub time: Option<Duration>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            size: SIZE,
            time: None,
        }
    }
}

/// How far a recording is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Written so far.
    pub totals: Totals,
    /// Since it began.
    pub elapsed: Duration,
    /// Why it has ended, if it has.
    pub over: Option<Over>,
}

/// Why a recording has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// It was asked to.
    Asked,
    /// Its time was up.
    Time,
    /// Its size was reached.
    Size,
    /// The file could not be written.
    Failed(String),
}

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => f.write_str("it was asked to end"),
            Self::Time => f.write_str("its time was up"),
            Self::Size => f.write_str("it reached its size"),
            Self::Failed(why) => write!(f, "its file could not be written: {why}"),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    lost: AtomicU64,
    progress: Mutex<Progress>,
}

/// The slow side's end: how far it is, and its end.
#[derive(Debug)]
pub struct Recording {
    /// The file.
    pub file: PathBuf,
    /// When it ends by itself.
    pub bounds: Bounds,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Recording {
    /// How far it is. Up to date within a second.
    pub fn progress(&self) -> Progress {
        let mut progress = self.shared.lock().clone();
        if progress.over.is_none() {
            progress.totals.lost += self.shared.lost.load(Ordering::Relaxed);
        }
        progress
    }

    /// Asks it to end; [`Recording::progress`] says when it has.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Ends it, and waits until the file is complete.
    pub fn finish(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(file = %self.file.display(), "the thread that recorded has died");
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is all but the first"
)]
enum Message {
    Begin(Box<Header>),
    Entry(Entry),
}

/// The hot thread's end.
#[derive(Debug)]
pub struct Recorder {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    /// Entries that found no room since the last that did.
    lost: u64,
    named: BTreeSet<IncidentId>,
    over: bool,
}

/// Makes the file and starts the thread that writes it. Nothing is written before [`Recorder::begin`].
pub fn start(path: &Path, bounds: Bounds) -> io::Result<(Recorder, Recording)> {
    let file = create(path)?;
    let (sender, receiver) = sync_channel(WAITING);
    let shared = Arc::<Shared>::default();
    let writing = Writing {
        receiver,
        shared: Arc::clone(&shared),
        bounds,
    };
    let thread = Builder::new()
        .name("recorder".to_owned())
        .stack_size(512 << 10)
        .spawn(move || writing.run(file))?;
    let recorder = Recorder {
        sender,
        shared: Arc::clone(&shared),
        lost: 0,
        named: BTreeSet::new(),
        over: false,
    };
    let recording = Recording {
        file: path.to_owned(),
        bounds,
        shared,
        thread: Some(thread),
    };
    Ok((recorder, recording))
}

impl Recorder {
    /// Hands over what stands before the signals.
    pub fn begin(&mut self, header: Header) {
        self.send(Message::Begin(Box::new(header)));
    }

    /// Adds a signal.
    pub fn signal(&mut self, signal: &Signal, at: Time, now: Time) {
        self.add(at, now, What::Signal(signal.clone()));
    }

    /// Adds something else.
    pub fn note(&mut self, note: Note, now: Time) {
        self.add(now, now, What::Note(Box::new(note)));
    }

    /// Says what an incident is about, unless that has been said.
    pub fn name(&mut self, incident: &Incident, now: Time) {
        if self.named.contains(&incident.id) {
            return;
        }
        let note = Note::Incident {
            incident: incident.id,
            detector: incident.detector.clone(),
            subject: incident.subject.clone(),
        };
        // Not remembered when it is lost: it is said again.
        let lost = self.lost;
        self.note(note, now);
        if self.lost == lost {
            self.named.insert(incident.id);
        }
        if self.named.len() > NAMED {
            self.named.pop_first();
        }
    }

    /// Adds that an action was ordered.
    pub fn act(&mut self, incident: &Incident, action: &str, now: Time) {
        self.name(incident, now);
        let note = Note::Act {
            incident: incident.id,
            action: action.to_owned(),
        };
        self.note(note, now);
    }

    /// Whether nobody writes any more.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    fn add(&mut self, at: Time, now: Time, what: What) {
        if self.lost > 0 {
            let note = Note::Lost { entries: self.lost };
            let entry = Entry {
                at: now,
                now,
                what: What::Note(Box::new(note)),
            };
            if self.send(Message::Entry(entry)) {
                self.lost = 0;
            }
        }
        if !self.send(Message::Entry(Entry { at, now, what })) && !self.over {
            self.lost += 1;
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&mut self, message: Message) -> bool {
        match self.sender.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.over = true;
                false
            }
        }
    }
}

/// The thread that writes.
struct Writing {
    receiver: Receiver<Message>,
    shared: Arc<Shared>,
    bounds: Bounds,
}

impl Writing {
    fn run(self, file: File) {
        if let Err(error) = self.record(file) {
            tracing::warn!(%error, "the recording has ended: its file cannot be written");
            let mut progress = self.shared.lock();
            progress.totals.lost += self.shared.lost.load(Ordering::Relaxed);
            progress.over = Some(Over::Failed(error.to_string()));
        }
    }

    fn record(&self, file: File) -> io::Result<()> {
        // Until the hot thread has begun, or has ended without.
        let Ok(Message::Begin(header)) = self.receiver.recv() else {
            self.shared.lock().over = Some(Over::Asked);
            return Ok(());
        };
        let began = Instant::now();
        let mut writer = Writer::new(file, &header, self.bounds.size)?;
        let mut latest = Time::from_nanos(header.monotonic_ns);
        let mut flushed = began;
        let over = loop {
            match self.receiver.recv_timeout(LOOK) {
                Ok(Message::Entry(entry)) => {
                    latest = entry.now;
                    if !self.written(writer.add(&entry), &writer)? {
                        break Over::Size;
                    }
                }
                Ok(Message::Begin(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Over::Asked,
            }
            let now = Instant::now();
            if now.duration_since(flushed) >= FLUSH {
                flushed = now;
                if !self.written(writer.flush(), &writer)? {
                    break Over::Size;
                }
                self.shared.lock().elapsed = now.duration_since(began);
            }
            if self.stop_asked() {
                break Over::Asked;
            }
            if self
                .bounds
                .time
                .is_some_and(|time| now.duration_since(began) >= time)
            {
                break Over::Time;
            }
        };
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let (file, totals) = writer.finish(lost, latest)?;
        file.sync_all()?;
        *self.shared.lock() = Progress {
            totals,
            elapsed: began.elapsed(),
            over: Some(over),
        };
        Ok(())
    }

    fn stop_asked(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Shows what has been written, also when it could not be.
    fn written(&self, written: io::Result<bool>, writer: &Writer<File>) -> io::Result<bool> {
        self.shared.lock().totals = writer.totals();
        written
    }
}

#[cfg(test)]
mod tests;
