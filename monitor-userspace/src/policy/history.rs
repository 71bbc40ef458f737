//! What was done to whom, and when: the memory behind cooldowns and limits. Bounded in targets and in actions per target.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::Time;

/// Most targets remembered; beyond it the one whose last action is oldest is forgotten.
const TARGETS: usize = 1024;
/// Most actions remembered per target, and on the host.
const ACTIONS: usize = 1024;

/// What is remembered of one target: one action on one subject.
#[derive(Debug, Default)]
struct Target {
    times: VecDeque<Time>,
    /// It reached its limit; one try at a time is allowed until it has stayed well.
    given_up: bool,
    /// When an action last proved to have helped.
    fixed: Option<Time>,
}

/// Past actions.
#[derive(Debug, Default)]
pub struct History {
    targets: BTreeMap<String, Target>,
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
        if !self.targets.contains_key(target) && self.targets.len() >= TARGETS {
            let oldest = self
                .targets
                .iter()
                .min_by_key(|(_, target)| target.times.back().copied());
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.targets.remove(&name);
            }
        }
        let stayed_well = self.stayed_well(target, reset, opened);
        let entry = self.targets.entry(target.to_owned()).or_default();
        if stayed_well {
            entry.given_up = false;
        }
        entry.fixed = None;
        push(&mut entry.times, at);
        if recent(&entry.times, window, at) >= usize::try_from(limit).unwrap_or(usize::MAX) {
            entry.given_up = true;
        }
        push(&mut self.host, at);
    }

    /// Notes that the last action on this target helped.
    pub fn note_fixed(&mut self, target: &str, at: Time) {
        if let Some(target) = self.targets.get_mut(target) {
            target.fixed = Some(at);
        }
    }

    /// Whether the target reached its limit and had not stayed well since when its trouble began anew, at `opened`.
    pub fn given_up(&self, target: &str, reset: Duration, opened: Time) -> bool {
        self.targets.get(target).is_some_and(|entry| entry.given_up)
            && !self.stayed_well(target, reset, opened)
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

    /// The last action on this target.
    pub fn last(&self, target: &str) -> Option<Time> {
        self.targets.get(target)?.times.back().copied()
    }

    /// How many actions on this target followed each other with less than `reset` between them, up to trouble that began at `opened`.
    pub fn streak(&self, target: &str, reset: Duration, opened: Time) -> u32 {
        let Some(target) = self.targets.get(target) else {
            return 0;
        };
        let mut next = opened;
        let mut streak = 0;
        for at in target.times.iter().rev() {
            if next.since(*at) >= reset {
                break;
            }
            streak += 1;
            next = *at;
        }
        streak
    }
}

fn push(times: &mut VecDeque<Time>, at: Time) {
    if times.len() >= ACTIONS {
        times.pop_front();
    }
    times.push_back(at);
}

fn recent(times: &VecDeque<Time>, window: Duration, now: Time) -> usize {
    times
        .iter()
        .rev()
        .take_while(|at| now.since(**at) < window)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(15);
    const RESET: Duration = Duration::from_mins(10);

    fn at(seconds: i64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_target_is_given_up_at_its_limit_and_not_before() {
        let mut history = History::default();
        for n in 0..4 {
            history.note("restart a", at(n), at(n), 5, WINDOW, RESET);
            assert!(!history.given_up("restart a", RESET, at(n)));
        }
        history.note("restart a", at(4), at(4), 5, WINDOW, RESET);
        assert!(
            history.given_up("restart a", RESET, at(5_000)),
            "time alone does not forgive"
        );
        assert!(
            !history.given_up("restart b", RESET, at(5)),
            "others are not concerned"
        );
    }

    #[test]
    fn a_target_that_stayed_well_starts_afresh() {
        let mut history = History::default();
        for n in 0..5 {
            history.note("a", at(n), at(n), 5, WINDOW, RESET);
        }
        history.note("a", at(3_700), at(3_700), 5, WINDOW, RESET);
        history.note_fixed("a", at(3_701));
        assert!(
            history.given_up("a", RESET, at(3_800)),
            "one good try is not enough yet"
        );
        assert!(!history.given_up("a", RESET, at(4_400)));
        history.note("a", at(4_400), at(4_400), 5, WINDOW, RESET);
        assert!(!history.given_up("a", RESET, at(4_401)));
    }

    #[test]
    fn a_streak_ends_where_the_target_was_left_alone() {
        let mut history = History::default();
        for seconds in [0, 1_000, 1_001, 1_003] {
            history.note("a", at(seconds), at(seconds), 5, WINDOW, RESET);
        }
        assert_eq!(history.streak("a", RESET, at(1_010)), 3);
        assert_eq!(history.streak("a", RESET, at(2_000)), 0);
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        for n in 0..3_000 {
            history.note(&format!("target {n}"), at(n), at(n), 5, WINDOW, RESET);
        }
        assert!(history.targets.len() <= TARGETS && history.host.len() <= ACTIONS);
        assert!(history.last("target 2999").is_some() && history.last("target 0").is_none());
    }
}
