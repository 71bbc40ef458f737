//! What is asked of a service that somebody else runs.

use std::time::Duration;

use super::track::Track;
use super::{Followed, lock};
use crate::host::command::{Ended, Order};
use crate::host::signals::Held;
use crate::host::{HostError, Opened, Reloaded, Restarted, clock};
use crate::model::command::Reload;
use crate::model::{ProcessKey, ServiceSignal, Time};

/// How long a process that does not take a signal as a word to reload may take to end of it.
const SETTLES: Duration = Duration::from_millis(500);
/// How long a command that reloads a service may take.
const RELOADS: Duration = Duration::from_secs(30);
/// How long it may take until a service that they say is started has a process.
const APPEARS: Duration = Duration::from_secs(5);

impl Followed {
    /// Has it started anew. `process` is the one it is known to have had, `words` what was allowed to be acted on.
    pub fn restart(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
        words: &[String],
    ) -> Result<Restarted, HostError> {
        let track = self.track(service)?;
        let mut track = lock(&track);
        self.same(service, &mut track, words)?;
        if track.stopped() {
            return Err(HostError::Stopped(service.to_owned()));
        }
        if let (Some(meant), Some(found)) = (process, track.running())
            && meant != found
        {
            return Err(HostError::Replaced {
                service: service.to_owned(),
                found,
            });
        }
        let ran = track.running().is_some();
        let acted = clock::now();
        let restarted = self.source.restart(service, term_grace);
        let restarted = restarted.and_then(|()| self.appears(service, &mut track, acted));
        if let Err(error) = &restarted
            && ran
        {
            self.left_down(service, &mut track, error);
        }
        restarted
    }

    /// A restart of one that ran has failed: that it is down is news if so, for its end was ours, and no fault to those who heard of it.
    fn left_down(&self, service: &str, track: &mut Track, error: &HostError) {
        self.refresh(service, track);
        if track.running().is_none() && !track.stopped() {
            let reason = error.to_string();
            self.notify
                .service(service, ServiceSignal::StartFailed { reason });
        }
    }

    /// Has it stopped, to stay so. When this began.
    pub fn stop(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
    ) -> Result<Time, HostError> {
        let track = self.track(service)?;
        let mut track = lock(&track);
        self.refresh(service, &mut track);
        match (process, track.running()) {
            (Some(meant), None) => return Err(HostError::Gone(meant)),
            (meant, Some(found)) if meant != Some(found) => {
                return Err(HostError::Replaced {
                    service: service.to_owned(),
                    found,
                });
            }
            _ => {}
        }
        let acted = clock::now();
        self.source.stop(service, term_grace)?;
        self.refresh(service, &mut track);
        Ok(acted)
    }

    /// Has it started, where it does not run.
    pub fn start_service(&self, service: &str, words: &[String]) -> Result<Restarted, HostError> {
        let track = self.track(service)?;
        let mut track = lock(&track);
        self.same(service, &mut track, words)?;
        if let Some(process) = track.running() {
            return Err(HostError::Runs {
                service: service.to_owned(),
                process,
            });
        }
        let acted = clock::now();
        self.source.start(service)?;
        self.appears(service, &mut track, acted)
    }

    /// Has it read its configuration again. One that ends of it, or what fails, is told.
    pub fn reload(
        &self,
        service: &str,
        process: ProcessKey,
        how: &Reload,
    ) -> Result<Reloaded, HostError> {
        let track = self.track(service)?;
        {
            let mut track = lock(&track);
            self.refresh(service, &mut track);
            match track.running() {
                Some(found) if found == process => {}
                Some(found) => {
                    return Err(HostError::Replaced {
                        service: service.to_owned(),
                        found,
                    });
                }
                None => return Err(HostError::Gone(process)),
            }
        }
        let held = Held::open(process)?;
        let acted = clock::now();
        let refused = match how {
            Reload::Supervisor => self.source.reload(service)?,
            Reload::Signal(signal) => {
                held.reload(*signal)?;
                None
            }
            Reload::Command(command) => {
                let finished = self.runner.run(&Order {
                    command: command.clone(),
                    timeout: RELOADS,
                    ..Order::default()
                })?;
                let late = finished.ended == Some(Ended::Time);
                (finished.status != 0 || late).then(|| {
                    format!(
                        "it failed (wait status {:#x}): {}{}",
                        finished.status, finished.output, finished.errors
                    )
                })
            }
        };
        let ended = held.wait(SETTLES)?.then(|| "it ended of that".to_owned());
        Ok(Reloaded {
            acted,
            refused: ended.or(refused),
        })
    }

    /// Refuses what is not what was allowed.
    fn same(&self, service: &str, track: &mut Track, words: &[String]) -> Result<(), HostError> {
        if lock(&self.words).get(service).map(Vec::as_slice) != Some(words) {
            return Err(HostError::OtherCommand(service.to_owned()));
        }
        self.refresh(service, track);
        Ok(())
    }

    /// Waits until it has a process.
    fn appears(
        &self,
        service: &str,
        track: &mut Track,
        acted: Time,
    ) -> Result<Restarted, HostError> {
        let deadline = std::time::Instant::now() + APPEARS;
        loop {
            let next = self.refresh(service, track);
            if let Some(process) = track.running() {
                return Ok(Restarted { process, acted });
            }
            if std::time::Instant::now() >= deadline {
                return Err(HostError::Supervisor {
                    by: self.kind,
                    service: service.to_owned(),
                    why: format!("it has no process {APPEARS:?} after it was started"),
                });
            }
            std::thread::sleep(next.unwrap_or(Duration::from_millis(10)).min(APPEARS / 50));
        }
    }
}
