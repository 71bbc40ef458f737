//! What an engine tells of its containers, heard on a thread of its own for each socket.
//!
//! After an interruption it is asked for what happened since (one hour at most at the start), so that a stop is known that came before the
//! daemon did, as far as the engine remembers: Docker its last 256 events, podman what its log of events has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::{Nudge, lock};
use crate::host::clock;
use crate::host::containers::{self, Event};

/// So far back is asked for at the start.
const BACK: Duration = Duration::from_hours(1);
/// First wait before an engine that went away is asked again; doubles.
const SOON: Duration = Duration::from_millis(100);
/// Longest such wait.
const LATER: Duration = Duration::from_secs(30);
/// After so long, or when it hears something, a thread looks whether it is still wanted.
const ROUND: Duration = Duration::from_mins(1);

/// What was told of a container. Times are nanoseconds since 1970; what is older than its last start means nothing any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    /// The engine knew it once.
    pub(super) there: bool,
    /// Signals that it was sent through the engine, and when last.
    pub(super) signals: BTreeMap<u16, i64>,
    /// When it was sent one that is not named.
    pub(super) unnamed: i64,
    /// When it was being stopped, was stopped, or removed.
    pub(super) stopped: i64,
    /// When its end was told.
    pub(super) died: i64,
    /// When an order of ours to start it anew had failed, and why.
    pub(super) refused: Option<(i64, String)>,
}

/// The events of an engine.
#[derive(Debug)]
pub(super) struct Stream {
    named: Option<PathBuf>,
    listening: AtomicBool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    begun: bool,
    /// Time of the last event.
    last: i64,
    /// The services of each container's name.
    services: BTreeMap<String, Vec<String>>,
    /// By container; those of the configuration only.
    words: BTreeMap<String, Word>,
}

impl Stream {
    pub(super) fn new(named: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            named,
            listening: AtomicBool::new(false),
            heard: Mutex::default(),
        })
    }

    /// The socket that the configuration names.
    pub(super) fn named(&self) -> Option<&PathBuf> {
        self.named.as_ref()
    }

    /// The socket to use now.
    pub(super) fn socket(&self) -> Result<PathBuf, String> {
        containers::socket(self.named.as_deref())
    }

    /// Whether it would be heard if something happened now.
    pub(super) fn listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Containers to listen for, with the services they are. The thread lives as long as this does.
    pub(super) fn follow(self: &Arc<Self>, containers: Vec<(String, String)>, nudge: &Nudge) {
        let mut heard = lock(&self.heard);
        heard.services.clear();
        for (container, service) in containers {
            heard.services.entry(container).or_default().push(service);
        }
        let Heard {
            services, words, ..
        } = &mut *heard;
        words.retain(|name, _| services.contains_key(name));
        for name in services.keys() {
            words.entry(name.clone()).or_default();
        }
        if std::mem::replace(&mut heard.begun, true) {
            return;
        }
        let (weak, nudge) = (Arc::downgrade(self), nudge.clone());
        let thread = std::thread::Builder::new()
            .name("containers".to_owned())
            .stack_size(512 << 10)
            .spawn(move || run(&weak, &nudge));
        if let Err(error) = thread {
            heard.begun = false;
            tracing::error!(%error, "no thread for the events of containers: they are looked at every 30 s only");
        }
    }

    pub(super) fn word(&self, container: &str) -> Word {
        lock(&self.heard)
            .words
            .get(container)
            .cloned()
            .unwrap_or_default()
    }

    /// The engine knows it; whether it is being stopped just now.
    pub(super) fn found(&self, container: &str, stopping: bool) {
        let mut heard = lock(&self.heard);
        if let Some(word) = heard.words.get_mut(container) {
            word.there = true;
            if stopping {
                word.stopped = clock::unix_nanos();
            }
        }
    }

    /// We had it stopped.
    pub(super) fn stopped(&self, container: &str) {
        self.found(container, true);
        self.refused(container, None);
    }

    /// We had it started anew, and that failed: why; none when it did not.
    pub(super) fn refused(&self, container: &str, why: Option<String>) {
        if let Some(word) = lock(&self.heard).words.get_mut(container) {
            word.refused = why.map(|why| (clock::unix_nanos(), why));
        }
    }

    /// Notes an event; the services that it is about.
    fn hear(&self, event: &Event) -> Vec<String> {
        let mut heard = lock(&self.heard);
        let Some(time) = event.time_nano else {
            return Vec::new();
        };
        heard.last = time;
        let about = event
            .actor
            .as_ref()
            .and_then(|actor| actor.attributes.as_ref());
        let Some((about, name)) = about.and_then(|it| Some((it, it.name.as_deref()?))) else {
            return Vec::new();
        };
        let Some(word) = heard.words.get_mut(name) else {
            return Vec::new();
        };
        match event.action.as_deref().unwrap_or_default() {
            "kill" => match about.signal.as_deref().map(str::parse::<u16>) {
                // Signals end at 64: so the map has a bound.
                Some(Ok(signal @ 1..=64)) => _ = word.signals.insert(signal, time),
                _ => word.unnamed = time,
            },
            "stop" | "destroy" | "remove" => word.stopped = time,
            "die" | "died" => word.died = time,
            "start" | "restart" | "create" | "pause" | "unpause" | "rename" | "update" => {}
            _ => return Vec::new(),
        }
        heard.services.get(name).cloned().unwrap_or_default()
    }
}

/// Listens, and again whenever that ends, less and less often.
fn run(stream: &Weak<Stream>, nudge: &Nudge) {
    let back = i64::try_from(BACK.as_nanos()).unwrap_or(0);
    let mut since = clock::unix_nanos().saturating_sub(back);
    let mut wait = SOON;
    let mut told = false;
    while let Some(now) = stream.upgrade() {
        let socket = now.socket();
        drop(now);
        let began = Instant::now();
        let ended = socket.and_then(|socket| listen(stream, nudge, &socket, since));
        let Some(now) = stream.upgrade() else { return };
        if now.listening.swap(false, Ordering::AcqRel) {
            nudge.all();
            told = false;
        }
        // A clock that was set back must not hide what comes now.
        since = since
            .max(lock(&now.heard).last.saturating_add(1))
            .min(clock::unix_nanos());
        drop(now);
        match ended {
            Ok(()) => return,
            Err(why) if !told => {
                tracing::warn!(%why, "the events of containers cannot be heard; it is tried again");
                told = true;
            }
            Err(_) => {}
        }
        wait = if began.elapsed() > LATER {
            SOON
        } else {
            wait.saturating_mul(2).min(LATER)
        };
        std::thread::sleep(wait);
    }
}

/// Until the engine goes away (why), or nobody wants to know any more.
fn listen(
    stream: &Weak<Stream>,
    nudge: &Nudge,
    socket: &std::path::Path,
    since: i64,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot listen: {error}"))?;
    let begun = || {
        if let Some(stream) = stream.upgrade() {
            stream.listening.store(true, Ordering::Release);
            nudge.all();
        }
    };
    let heard = |event: &Event| {
        let about = stream.upgrade().map(|stream| stream.hear(event));
        for service in about.into_iter().flatten() {
            nudge.service(&service);
        }
    };
    let unwanted = async {
        while stream.strong_count() > 0 {
            tokio::time::sleep(ROUND).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            ended = containers::events(socket, since, begun, heard) => ended,
            () = unwanted => Ok(()),
        }
    })
}
