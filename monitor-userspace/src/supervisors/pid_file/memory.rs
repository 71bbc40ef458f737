//! What was seen of a service and done to it before, which tells apart what its file alone does not. Pure.

use std::path::Path;
use std::time::{Duration, Instant};

use super::file::Found;
use crate::supervisors::Phase;

/// So long after its process is gone a file may still be taken away by whoever ended it.
const TAKEN_AWAY: Duration = Duration::from_millis(300);
/// So long after a start a file may still appear.
const APPEARS: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// What its file said when its process was last seen to run; none once the file is gone.
    pub(super) ran: Option<Found>,
    /// When that process was first found gone.
    gone: Option<Instant>,
    /// It was ended to be started anew, and was not seen to run since: no file does not mean then that it was stopped.
    awaited: Option<Awaited>,
}

#[derive(Clone, Debug)]
struct Awaited {
    since: Instant,
    /// What went wrong with its start.
    why: Option<String>,
}

impl Memory {
    /// It was ended to be started anew, and the start has come back: what went wrong with it.
    pub(super) fn awaits(&mut self, why: Option<String>, since: Instant) {
        self.awaited = Some(Awaited { since, why });
    }

    /// The same, for a start alone: one that was stopped stays so when it cannot be started.
    pub(super) fn awaits_still(&mut self, why: Option<String>, since: Instant) {
        if self.awaited.is_some() {
            self.awaits(why, since);
        }
    }

    /// It is to be stopped.
    pub(super) fn is_unwanted(&mut self) {
        self.awaited = None;
    }

    /// Where it is in its life.
    pub(super) fn judge(&mut self, file: &Path, found: &Found, now: Instant) -> Phase {
        if found.process.is_some() {
            *self = Self {
                ran: Some(*found),
                ..Self::default()
            };
            return Phase::Running;
        }
        let gave_up = false;
        if found.there {
            let gone = *self.gone.get_or_insert(now);
            if self.ran.is_some() && now.duration_since(gone) < TAKEN_AWAY {
                return Phase::Stopping;
            }
            let why = format!("{} is there, its process is not", file.display());
            return Phase::Failed { why, gave_up };
        }
        (self.ran, self.gone) = (None, None);
        let Some(awaited) = &self.awaited else {
            return Phase::Stopped;
        };
        let late = now.duration_since(awaited.since) >= APPEARS;
        match &awaited.why {
            Some(why) => Phase::Failed {
                why: why.clone(),
                gave_up,
            },
            None if late => Phase::Failed {
                why: format!(
                    "it was started anew, and {} is not there after {APPEARS:?}",
                    file.display()
                ),
                gave_up,
            },
            None => Phase::Starting,
        }
    }
}
