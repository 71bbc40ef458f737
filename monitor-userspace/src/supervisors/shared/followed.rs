//! Services that somebody else runs: what they say of them becomes what the core hears.
//!
//! One thread for each kind. It sees the end of a process through its pidfd, at once, and then asks whoever runs it what that means: a
//! stop that was asked for is none of the core's business, an end that they will repair themselves is told together with that, one that
//! they do nothing about is a fault. Until they have noticed it themselves, they are asked again, for at most `NOTICE`. Every look is
//! compared with the one before, so that nothing is told twice, whoever looked.

#[path = "followed/acts.rs"]
mod acts;
#[path = "followed/thread.rs"]
mod thread;
#[path = "followed/track.rs"]
mod track;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Notify, Nudge, Outside, Source};
use crate::host::HostError;
use crate::host::command::Runner;
use crate::model::ProcessKey;
use track::{Next, Track};

/// How long they may take to notice an end.
pub(super) const NOTICE: Duration = Duration::from_secs(2);

/// All services of a kind.
#[derive(Debug)]
pub struct Followed {
    kind: &'static str,
    source: Arc<dyn Source>,
    nudge: Nudge,
    notify: Arc<dyn Notify>,
    runner: Arc<Runner>,
    tracks: Mutex<BTreeMap<String, Arc<Mutex<Track>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followed {
    /// Follows nobody yet. The thread lives as long as the daemon.
    pub fn start(
        kind: &'static str,
        source: Arc<dyn Source>,
        nudge: Nudge,
        notify: Arc<dyn Notify>,
        runner: Arc<Runner>,
    ) -> std::io::Result<Arc<Self>> {
        let followed = Arc::new(Self {
            kind,
            source,
            nudge,
            notify,
            runner,
            tracks: Mutex::default(),
        });
        thread::start(&followed)?;
        Ok(followed)
    }

    /// These are followed from now on, and no others; those that are no longer are left as they are.
    pub fn configure(&self, services: BTreeMap<String, Outside>) {
        let with = services.iter();
        let with = with.map(|(name, it)| (name.clone(), it.with.clone()));
        self.source.configure(&with.collect());
        let mut tracks = lock(&self.tracks);
        tracks.retain(|name, _| services.contains_key(name));
        for (name, outside) in services {
            let track = tracks.entry(name).or_default();
            lock(track).words = outside.words;
        }
        self.nudge.all();
    }

    fn track(&self, service: &str) -> Result<Arc<Mutex<Track>>, HostError> {
        let track = lock(&self.tracks).get(service).cloned();
        track.ok_or_else(|| HostError::NoService(service.to_owned()))
    }

    /// Looks, and tells what is new. When to look again, where that is known.
    fn refresh(&self, service: &str, track: &mut Track) -> Option<Next> {
        let seen = self.source.look(service);
        track.take(self.kind, service, seen, &*self.notify)
    }

    /// The main process of a service; none when it does not run.
    pub fn running(&self, service: &str) -> Result<Option<ProcessKey>, HostError> {
        let track = self.track(service)?;
        let mut track = lock(&track);
        self.refresh(service, &mut track);
        Ok(track.running())
    }
}

#[cfg(test)]
#[path = "followed/tests.rs"]
mod tests;
