//! Services that the end of the daemon left half-changed: changed back before they are started with it.
//!
//! The core does that at once, and what it does starts them. Where it cannot, or not in time, they are started as they are: a service
//! that does not run is worse than one that runs what was put there. The others are not held up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::starting::Starting;
use crate::host::exec::Program;
use crate::model::{Incident, IncidentId, Plan, Time, View};
use crate::supervisors::command::Commands;

/// How long is waited besides what its own commands may take.
const SPARE: Duration = Duration::from_secs(30);
/// How often is looked whether it was changed back.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be changed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HalfDone {
    incident: IncidentId,
    action: String,
    within: Duration,
}

impl fmt::Display for HalfDone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            incident,
            action,
            within,
        } = self;
        write!(
            out,
            "waits until {action} of incident {incident} is changed back, for {within:?} at most"
        )
    }
}

/// Services that what changes something back starts anew, where that is due.
pub(super) fn of(incidents: &[Incident], now: Time) -> BTreeMap<String, HalfDone> {
    let half_done = incidents.iter().filter_map(|incident| {
        let held = incident.held.as_ref()?;
        let Plan::SwitchRelease { service, how, .. } = &held.undo else {
            return None;
        };
        let half_done = HalfDone {
            incident: incident.id,
            action: held.action.clone(),
            within: how.limit.saturating_add(SPARE),
        };
        (held.due? <= now).then(|| (service.clone(), half_done))
    });
    half_done.collect()
}

/// Why it is not waited for any longer; none for as long as it is. The core shows no incident before it runs.
fn over(shown: Option<&Incident>, waited: Duration, within: Duration) -> Option<&'static str> {
    let due = |incident: &Incident| incident.held.as_ref().map(|held| held.due);
    match shown.map(due) {
        Some(None) => Some("what was half-done needs, or allows, no change back"),
        Some(Some(None)) => Some("changing it back was given up"),
        _ => (waited >= within).then_some("it was not changed back in time"),
    }
}

/// Sees to it that those that wait are started at last: a task each; dropping the set ends them.
pub(super) fn start(
    starting: &Arc<Starting>,
    commands: &Arc<Commands>,
    view: &Arc<Mutex<View>>,
    tasks: &mut JoinSet<()>,
) {
    let all = starting.half_done.iter();
    for (service, half_done) in all.filter(|(service, _)| commands.waits(service)) {
        let waiting = Waiting {
            service: service.clone(),
            half_done: half_done.clone(),
            starting: Arc::clone(starting),
            commands: Arc::clone(commands),
            view: Arc::clone(view),
        };
        tasks.spawn(waiting.wait());
    }
}

struct Waiting {
    service: String,
    half_done: HalfDone,
    starting: Arc<Starting>,
    commands: Arc<Commands>,
    view: Arc<Mutex<View>>,
}

impl Waiting {
    async fn wait(self) {
        let (began, mut every) = (Instant::now(), tokio::time::interval(LOOK));
        while self.commands.waits(&self.service) {
            every.tick().await;
            let Some(why) = self.over(began.elapsed()) else {
                continue;
            };
            // Not where the daemon's other threads wait for each other: it may take as long as a start of a process does.
            let started = tokio::task::spawn_blocking(move || self.start(why)).await;
            if let Err(error) = started {
                tracing::error!(%error, "a service that waited is not started");
            }
            return;
        }
    }

    fn over(&self, waited: Duration) -> Option<&'static str> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = view.incidents.get(&self.half_done.incident);
        over(shown, waited, self.half_done.within)
    }

    fn start(&self, why: &str) {
        let service = &self.service;
        let may_start = |name: &str, program: &Program| {
            tracing::warn!(service = %name, %why, "started as it is");
            self.starting.may_start_now(name, program)
        };
        if let Err(error) = self.commands.start_waiting(service, may_start) {
            tracing::error!(%service, %error, "cannot start the service");
        }
        self.starting.done();
    }
}

#[cfg(test)]
mod tests;
