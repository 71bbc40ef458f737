//! A bounded table of things that end: what has ended is kept for a grace time, so that late events about it still resolve.
//!
//! When it is full, what ended first goes first, then what was not looked at for longest, a sixteenth of it at once, so that finding
//! it costs little per entry. What goes before its time is counted. Keys are never used again for another thing: an end is final,
//! and may become known before the beginning (events of different rings arrive in any order).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use super::pace::Recent;
use crate::model::Time;

/// How much a table may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries, at most.
    pub entries: usize,
    /// Bytes that its entries hold beside themselves, at most.
    pub bytes: usize,
    /// How long an entry is kept after its end.
    pub grace: Duration,
}

/// The least a table holds: below that, a sixteenth of it is nothing.
const ENTRIES_MIN: usize = 16;
/// Entries that one [`Table::collect`] drops at most.
const COLLECT_MAX: usize = 1024;

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: u64,
    ended: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Table<K, V> {
    bounds: Bounds,
    weigh: fn(&V) -> usize,
    slots: HashMap<K, Slot<V>>,
    /// What has ended and when, in that order. May name what is no longer there.
    ended: VecDeque<(Time, K)>,
    /// Ends of what was not known.
    unknown_ends: Recent<K>,
    bytes: usize,
    uses: u64,
    evicted: u64,
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    pub(super) fn new(bounds: Bounds, weigh: fn(&V) -> usize) -> Self {
        Self {
            bounds: Bounds {
                entries: bounds.entries.max(ENTRIES_MIN),
                ..bounds
            },
            weigh,
            slots: HashMap::new(),
            ended: VecDeque::new(),
            unknown_ends: Recent::new(bounds.entries.max(ENTRIES_MIN) / 2, bounds.grace),
            bytes: 0,
            uses: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries that had to go before their time.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The value, and whether it has ended. Counts as a use.
    pub(super) fn get(&mut self, key: K) -> Option<(&mut V, bool)> {
        self.uses += 1;
        let slot = self.slots.get_mut(&key)?;
        slot.used = self.uses;
        Some((&mut slot.value, slot.ended.is_some()))
    }

    /// The value, without using it.
    pub(super) fn peek(&self, key: K) -> Option<&V> {
        self.slots.get(&key).map(|slot| &slot.value)
    }

    /// Whether its end is known, be it in the table or not.
    pub(super) fn has_ended(&self, key: K, at: Time) -> bool {
        let slot = self.slots.get(&key);
        slot.map_or_else(
            || self.unknown_ends.has(&key, at),
            |slot| slot.ended.is_some(),
        )
    }

    /// Puts a value in place of the former one, if any. What has ended stays so.
    pub(super) fn put(&mut self, key: K, value: V, at: Time) {
        let weight = (self.weigh)(&value);
        self.uses += 1;
        if let Some(slot) = self.slots.get_mut(&key) {
            self.bytes = self.bytes.saturating_sub((self.weigh)(&slot.value)) + weight;
            slot.value = value;
            slot.used = self.uses;
        } else {
            self.make_room(weight);
            self.bytes += weight;
            let used = self.uses;
            let slot = Slot {
                value,
                used,
                ended: None,
            };
            self.slots.insert(key, slot);
            if self.unknown_ends.has(&key, at) {
                self.end(key, at);
            }
        }
    }

    /// It has ended. Says whether that was news about something known.
    pub(super) fn end(&mut self, key: K, at: Time) -> bool {
        let Some(slot) = self.slots.get_mut(&key) else {
            self.unknown_ends.note(key, at);
            return false;
        };
        if slot.ended.is_some() {
            return false;
        }
        slot.ended = Some(at);
        self.ended.push_back((at, key));
        // Names of what was evicted meanwhile: at most one for each entry that there is.
        if self.ended.len() > self.bounds.entries.saturating_mul(2) {
            let slots = &self.slots;
            self.ended.retain(|(at, key)| is_of(slots, key, *at));
        }
        true
    }

    /// Drops what has ended for longer than the grace time, a bounded number of entries a call.
    pub(super) fn collect(&mut self, at: Time) {
        for _ in 0..COLLECT_MAX {
            match self.ended.front() {
                Some((ended, _)) if at.since(*ended) > self.bounds.grace => self.pop_ended(),
                _ => return,
            };
        }
    }

    fn make_room(&mut self, weight: usize) {
        while !self.slots.is_empty()
            && (self.slots.len() >= self.bounds.entries || self.bytes + weight > self.bounds.bytes)
        {
            if self.ended.is_empty() {
                self.evict_unused();
            } else if self.pop_ended() {
                self.evicted += 1;
            }
        }
    }

    /// Drops what ended first; says whether it was still there.
    fn pop_ended(&mut self) -> bool {
        let Some((at, key)) = self.ended.pop_front() else {
            return false;
        };
        is_of(&self.slots, &key, at) && self.remove(key)
    }

    fn remove(&mut self, key: K) -> bool {
        let Some(slot) = self.slots.remove(&key) else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub((self.weigh)(&slot.value));
        true
    }

    fn evict_unused(&mut self) {
        let mut by_use: Vec<(u64, K)> = (self.slots.iter())
            .map(|(key, slot)| (slot.used, *key))
            .collect();
        let most = by_use.len().div_ceil(ENTRIES_MIN);
        if most < by_use.len() {
            by_use.select_nth_unstable_by_key(most, |(used, _)| *used);
        }
        for (_, key) in by_use.into_iter().take(most) {
            self.evicted += u64::from(self.remove(key));
        }
    }
}

/// Whether the entry of this key ended at that time.
fn is_of<K: Eq + Hash, V>(slots: &HashMap<K, Slot<V>>, key: &K, at: Time) -> bool {
    slots.get(key).is_some_and(|slot| slot.ended == Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn table(entries: usize, bytes: usize) -> Table<u64, Vec<u8>> {
        let bounds = Bounds {
            entries,
            bytes,
            grace: GRACE,
        };
        Table::new(bounds, Vec::len)
    }

    #[test]
    fn what_has_ended_is_kept_for_its_grace_time() {
        let mut table = table(100, 1000);
        table.put(1, vec![1], at(0));
        assert!(table.end(1, at(10)) && !table.end(1, at(11)));
        table.collect(at(70));
        assert!(table.get(1).is_some_and(|(_, ended)| ended));
        table.collect(at(71));
        assert!(table.get(1).is_none());
        assert_eq!((table.len(), table.bytes(), table.evicted()), (0, 0, 0));
    }

    #[test]
    fn an_end_is_final_also_when_it_is_heard_of_first() {
        let mut table = table(100, 1000);
        assert!(!table.end(1, at(10)));
        assert!(table.has_ended(1, at(10)));
        table.put(1, vec![1], at(11));
        table.put(1, vec![2], at(12));
        assert!(
            table
                .get(1)
                .is_some_and(|(value, ended)| ended && *value == [2])
        );
        table.collect(at(80));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn the_ended_go_first_then_the_unused() {
        let mut table = table(32, 1000);
        for key in 0..32 {
            table.put(key, vec![0], at(0));
        }
        table.end(20, at(1));
        table.end(10, at(2));
        table.put(100, vec![0], at(3));
        assert!(table.peek(20).is_none() && table.peek(10).is_some());
        table.put(101, vec![0], at(3));
        assert!(table.peek(10).is_none());
        table.get(0);
        table.put(102, vec![0], at(3));
        // Two of 32 at once: the first that nobody looked at.
        assert!(table.peek(0).is_some() && table.peek(1).is_none() && table.peek(2).is_none());
        assert_eq!((table.evicted(), table.len()), (4, 31));
    }

    #[test]
    fn bytes_are_bounded_too_and_add_up() {
        let mut table = table(1000, 1000);
        for key in 0..500 {
            table.put(key, vec![0; 10], at(0));
            table.put(key, vec![0; 30], at(0));
            assert!(table.bytes() <= 1030, "{}", table.bytes());
        }
        let held: usize = (0..500)
            .filter_map(|key| table.peek(key))
            .map(Vec::len)
            .sum();
        assert_eq!(table.bytes(), held);
        assert_eq!(
            table.evicted(),
            500 - u64::try_from(table.len()).unwrap_or(0)
        );
    }

    #[test]
    fn a_storm_leaves_it_within_bounds() {
        let mut table = table(64, 10_000);
        let mut state = 0x5eed_u64;
        for step in 0..100_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = (state >> 33) % 4096;
            match (state >> 20) % 4 {
                0 => {
                    table.end(key, at(step));
                }
                1 => {
                    table.get(key);
                }
                2 => table.put(key, vec![0; 3], at(step)),
                _ => table.collect(at(step)),
            }
            assert!(table.len() <= 64 && table.ended.len() <= 129);
            assert_eq!(table.bytes(), table.len() * 3);
        }
    }
}
