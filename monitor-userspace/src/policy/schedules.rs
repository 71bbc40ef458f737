//! Times in which nothing is done: silences that people asked for, maintenance windows of the configuration. They gate acts; what is
//! seen is seen all the same.

use super::calendar::Calendar;
use crate::model::view::SILENCES;
use crate::model::{Incident, Silence, Time};

/// See the module.
#[derive(Debug, Default)]
pub struct Schedules {
    silences: Vec<Silence>,
    calendar: Calendar,
    /// The open windows: whom they are for, and when that changes, as of the last [`Schedules::pass`].
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    on: Vec<String>,
    detector: Option<String>,
    until: Option<Time>,
}

/// Whether an entry that names subjects, and perhaps a detector, is for this incident. What names everything is also for what has
/// no name.
fn is_for<'a>(
    mut on: impl Iterator<Item = &'a String>,
    detector: Option<&String>,
    incident: &Incident,
) -> bool {
    let name = incident.subject.configured_name();
    detector.is_none_or(|detector| *detector == incident.detector)
        && on.any(|on| on == "*" || Some(on.as_str()) == name)
}

impl Schedules {
    /// Takes the windows of a configuration; silences stay.
    pub(super) fn set_calendar(&mut self, calendar: Calendar) {
        self.calendar = calendar;
        self.open.clear();
    }

    /// Begins a silence; false when there are too many.
    pub fn add(&mut self, silence: Silence) -> bool {
        self.silences.retain(|old| old.id != silence.id);
        if self.silences.len() >= SILENCES {
            return false;
        }
        self.silences.push(silence);
        true
    }

    /// Ends one; false when there is none of this number.
    pub fn remove(&mut self, id: u64) -> bool {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.id != id);
        self.silences.len() < before
    }

    /// Those in force at the last [`Schedules::pass`].
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// Names of the windows that are open.
    pub fn open_windows(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(|open| open.name.as_str())
    }

    /// Time has passed, or the wall clock was set: `wall_ahead` is what it shows more than the monotonic one, in nanoseconds. Whether
    /// what is in force has changed.
    pub fn pass(&mut self, now: Time, wall_ahead: Option<i64>) -> bool {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.until > now);
        let mut changed = self.silences.len() < before;
        // Without a wall clock no window is known to be open: a daemon tells it at its start, before anything else.
        let Some(ahead) = wall_ahead else {
            return changed;
        };
        let wall = now.nanos().saturating_add(ahead);
        let open = self.calendar.open(wall);
        let same = open.len() == self.open.len()
            && open.iter().zip(&self.open).all(|(window, old)| {
                window.name == old.name
                    && window.until.map(|until| until.saturating_sub(ahead))
                        == old.until.map(Time::nanos)
            });
        if !same {
            changed = true;
            self.open = open
                .iter()
                .map(|window| Open {
                    name: window.name.clone(),
                    on: window.on.clone(),
                    detector: window.detector.clone(),
                    until: window
                        .until
                        .map(|until| Time::from_nanos(until.saturating_sub(ahead))),
                })
                .collect();
        }
        changed
    }

    /// When [`Schedules::pass`] has something to do.
    pub fn wake(&self, wall_ahead: Option<i64>) -> Option<Time> {
        let silences = self.silences.iter().map(|silence| silence.until);
        let change = wall_ahead
            .zip(self.calendar.next_change())
            .map(|(ahead, wall)| Time::from_nanos(wall.saturating_sub(ahead)));
        silences.chain(change).min()
    }

    /// The silence that an incident falls under, the longest one.
    pub(super) fn silence(&self, incident: &Incident, now: Time) -> Option<&Silence> {
        let all = self.silences.iter().filter(|silence| {
            let on = std::iter::once(&silence.on);
            silence.until > now && is_for(on, silence.detector.as_ref(), incident)
        });
        all.max_by_key(|silence| silence.until)
    }

    /// The open window that an incident falls under, and when that closes.
    pub(super) fn maintenance(&self, incident: &Incident) -> Option<(&str, Option<Time>)> {
        let mut open = self.open.iter();
        open.find(|open| is_for(open.on.iter(), open.detector.as_ref(), incident))
            .map(|open| (open.name.as_str(), open.until))
    }
}
