//! How often the host may be asked: what was just not there is not asked for again, and all questions together have a rate.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::model::Time;

/// Keys that were noted lately. Bounded: of two generations the older one is forgotten when the younger one is full.
#[derive(Debug)]
pub(super) struct Recent<K> {
    young: HashMap<K, Time>,
    old: HashMap<K, Time>,
    generation: usize,
    span: Duration,
}

impl<K: Eq + Hash> Recent<K> {
    /// Remembers `generation` keys at least and twice as many at most, each for `span`.
    pub(super) fn new(generation: usize, span: Duration) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation,
            span,
        }
    }

    pub(super) fn has(&self, key: &K, at: Time) -> bool {
        let noted = self.young.get(key).or_else(|| self.old.get(key));
        noted.is_some_and(|noted| at.since(*noted) <= self.span)
    }

    pub(super) fn note(&mut self, key: K, at: Time) {
        if self.young.len() >= self.generation && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, at);
    }

    pub(super) fn forget(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// So many questions a second, and no more.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    second: i64,
    spent: u32,
    refused: u64,
}

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: i64::MIN,
            spent: 0,
            refused: 0,
        }
    }

    /// Whether one more may be asked; counts it when not.
    pub(super) fn take(&mut self, at: Time) -> bool {
        let second = at.nanos().div_euclid(1_000_000_000);
        if second != self.second {
            self.second = second;
            self.spent = 0;
        }
        let may = self.spent < self.per_second;
        if may {
            self.spent += 1;
        } else {
            self.refused += 1;
        }
        may
    }

    /// Questions that were not asked.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_is_forgotten_in_time_and_in_number() {
        let at = Time::from_nanos;
        let mut recent = Recent::new(10, Duration::from_nanos(100));
        recent.note(1, at(0));
        assert!(recent.has(&1, at(100)) && !recent.has(&1, at(101)) && !recent.has(&2, at(0)));
        recent.forget(&1);
        assert!(!recent.has(&1, at(0)));
        for key in 0..100_000 {
            recent.note(key, at(0));
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
        assert!((99_990..100_000).all(|key| recent.has(&key, at(0))));
    }

    #[test]
    fn a_second_has_a_budget() {
        let mut budget = Budget::new(2);
        let at = |millis: i64| Time::from_nanos(millis * 1_000_000);
        let taken = [0, 10, 999, 1000, 1001, 1002].map(|millis| budget.take(at(millis)));
        assert_eq!(taken, [true, true, false, true, true, false]);
        assert_eq!(budget.refused(), 2);
    }
}
