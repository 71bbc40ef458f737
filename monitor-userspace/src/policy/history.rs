//! What was done to whom, when, and whether it helped: the memory behind cooldowns, limits, circuit breakers and success rates.
//! Bounded in targets and in actions per target. Rebuilt from the journal at start.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::view::Rate;
use crate::model::{Outcome, Time};

/// Most targets, rules and groups remembered; beyond it the one whose last action is oldest is forgotten.
const TARGETS: usize = 1024;
/// Most actions remembered per target, and per group: no limit that the configuration takes is larger.
pub const ACTIONS: usize = 1024;
/// Most actions remembered on the host, the largest limit that the configuration takes; none longer than [`HOST_WINDOW`].
pub const HOST_ACTIONS: usize = 1_000_000;
/// What the host's limit counts.
pub const HOST_WINDOW: Duration = Duration::from_hours(1);
/// Outcomes that a success rate is made of.
pub const OUTCOMES: usize = 32;

/// What is remembered of one target: one action on one subject.
#[derive(Debug, Default)]
struct Target {
    times: VecDeque<Time>,
    /// How many of them, up to the last, followed each other closely: see [`History::streak`].
    streak: u32,
    /// It reached this limit; one try at a time is allowed until it has stayed well.
    given_up: Option<u32>,
    /// When an action last proved to have helped.
    fixed: Option<Time>,
}

/// How a rule's action has fared, whatever it was done to.
#[derive(Debug, Default)]
struct Record {
    /// Whether it helped, oldest first.
    outcomes: VecDeque<bool>,
    /// How often it has not helped since it last did.
    in_vain: u32,
    /// When it was last permitted.
    last: Time,
}

/// Past actions.
#[derive(Debug, Default)]
pub struct History {
    targets: BTreeMap<String, Target>,
    records: BTreeMap<String, Record>,
    groups: BTreeMap<String, VecDeque<Time>>,
    host: VecDeque<Time>,
}

impl History {
    /// Notes an action, for trouble that began at `opened`; one that reaches `limit` within `window` gives the target up.
    pub fn note(
        &mut self,
        target: &str,
        opened: Time,
        at: Time,
        limit: u32,
        window: Duration,
        reset: Duration,
    ) {
        make_room(&mut self.targets, target, |target| {
            target.times.back().copied().unwrap_or_default()
        });
        let stayed_well = self.stayed_well(target, reset, opened);
        let entry = self.targets.entry(target.to_owned()).or_default();
        if stayed_well {
            entry.given_up = None;
        }
        entry.fixed = None;
        entry.streak = follows(entry, at, reset).saturating_add(1);
        push(&mut entry.times, at);
        if recent(&entry.times, window, at) >= usize::try_from(limit).unwrap_or(usize::MAX) {
            entry.given_up = Some(limit);
        }
        while self.host.len() >= HOST_ACTIONS
            || matches!(self.host.front(), Some(first) if at.since(*first) >= HOST_WINDOW)
        {
            self.host.pop_front();
        }
        self.host.push_back(at);
    }

    /// Notes an action of a rule.
    pub fn note_rule(&mut self, rule: &str, at: Time) {
        make_room(&mut self.records, rule, |record| record.last);
        self.records.entry(rule.to_owned()).or_default().last = at;
    }

    /// Notes an action on a member of a group.
    pub fn note_group(&mut self, group: &str, at: Time) {
        make_room(&mut self.groups, group, |times| {
            times.back().copied().unwrap_or_default()
        });
        push(self.groups.entry(group.to_owned()).or_default(), at);
    }

    /// Notes that the last action on this target helped.
    pub fn note_fixed(&mut self, target: &str, at: Time) {
        if let Some(target) = self.targets.get_mut(target) {
            target.fixed = Some(at);
        }
    }

    /// Notes what an action of a rule was worth. Outcomes that say nothing about the action do not count.
    pub fn note_outcome(&mut self, rule: &str, outcome: Outcome) {
        let helped = match outcome {
            Outcome::Fixed => true,
            Outcome::NoEffect | Outcome::Worse | Outcome::Failed => false,
            Outcome::Refused | Outcome::WouldHave | Outcome::Unknown => return,
        };
        make_room(&mut self.records, rule, |record| record.last);
        let record = self.records.entry(rule.to_owned()).or_default();
        record.in_vain = if helped {
            0
        } else {
            record.in_vain.saturating_add(1)
        };
        if record.outcomes.len() >= OUTCOMES {
            record.outcomes.pop_front();
        }
        record.outcomes.push_back(helped);
    }

    /// How often a rule's action has not helped since it last did, and when it was last permitted.
    pub fn in_vain(&self, rule: &str) -> (u32, Time) {
        let record = self.records.get(rule);
        record.map_or((0, Time::default()), |record| (record.in_vain, record.last))
    }

    /// How often a rule's action has helped, of the last [`OUTCOMES`].
    pub fn rate(&self, rule: &str) -> Rate {
        let Some(record) = self.records.get(rule) else {
            return Rate::default();
        };
        Rate {
            helped: record.outcomes.iter().filter(|helped| **helped).count(),
            of: record.outcomes.len(),
        }
    }

    /// Every rule's action that was judged, and how often it has helped.
    pub fn rates(&self) -> impl Iterator<Item = (&str, Rate)> {
        let judged = self.records.keys().map(|rule| (&**rule, self.rate(rule)));
        judged.filter(|(_, rate)| rate.of > 0)
    }

    /// The limit that the target reached, where it had not stayed well since when its trouble began anew, at `opened`.
    pub fn given_up(&self, target: &str, reset: Duration, opened: Time) -> Option<u32> {
        let limit = self.targets.get(target)?.given_up?;
        (!self.stayed_well(target, reset, opened)).then_some(limit)
    }

    fn stayed_well(&self, target: &str, reset: Duration, opened: Time) -> bool {
        let fixed = self.targets.get(target).and_then(|target| target.fixed);
        fixed.is_some_and(|fixed| opened.since(fixed) >= reset)
    }

    /// Actions on the whole host within the time before `now`.
    pub fn host_within(&self, window: Duration, now: Time) -> usize {
        recent(&self.host, window, now)
    }

    /// When the host's action that is `nth` from the last was.
    pub fn host_nth_last(&self, nth: usize) -> Option<Time> {
        self.host.iter().rev().nth(nth).copied()
    }

    /// Actions on members of a group within the time before `now`, and when the `nth` from the last was.
    pub fn group_within(
        &self,
        group: &str,
        window: Duration,
        nth: usize,
        now: Time,
    ) -> (usize, Option<Time>) {
        let Some(times) = self.groups.get(group) else {
            return (0, None);
        };
        (
            recent(times, window, now),
            times.iter().rev().nth(nth).copied(),
        )
    }

    /// The last action on this target.
    pub fn last(&self, target: &str) -> Option<Time> {
        self.targets.get(target)?.times.back().copied()
    }

    /// How many actions on this target followed each other with less than `reset` between them, up to trouble that began at `opened`.
    pub fn streak(&self, target: &str, reset: Duration, opened: Time) -> u32 {
        let target = self.targets.get(target);
        target.map_or(0, |target| follows(target, opened, reset))
    }

    /// The time within which actions follow each other has changed.
    pub fn set_reset(&mut self, reset: Duration) {
        for target in self.targets.values_mut() {
            let times = std::mem::take(&mut target.times);
            target.streak = 0;
            for at in times {
                target.streak = follows(target, at, reset).saturating_add(1);
                target.times.push_back(at);
            }
        }
    }
}

/// The streak that something at this time goes on with; 0 when it begins one.
fn follows(target: &Target, at: Time, reset: Duration) -> u32 {
    let last = target.times.back();
    let close = last.is_some_and(|last| at.since(*last) < reset);
    if close { target.streak } else { 0 }
}

/// Forgets what was used longest ago, if `name` is new and there is no room for it.
fn make_room<T>(map: &mut BTreeMap<String, T>, name: &str, last: impl Fn(&T) -> Time) {
    if map.len() < TARGETS || map.contains_key(name) {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| last(value));
    if let Some(name) = oldest.map(|(name, _)| name.clone()) {
        map.remove(&name);
    }
}

fn push(times: &mut VecDeque<Time>, at: Time) {
    if times.len() >= ACTIONS {
        times.pop_front();
    }
    times.push_back(at);
}

/// How many of these, oldest first, are less than `window` old.
fn recent(times: &VecDeque<Time>, window: Duration, now: Time) -> usize {
    times.len() - times.partition_point(|at| now.since(*at) >= window)
}

#[cfg(test)]
mod tests;
