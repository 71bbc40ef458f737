//! Which processes use most: CPU time since the sample before, and memory.

use std::time::Duration;

use crate::model::evidence::{Frozen, TopProcess};
use crate::model::{ProcessKey, ProcessUsage, Time};

/// Of each kind so many.
const EACH: usize = Frozen::TOP / 2;
/// Over a shorter time, shares of a CPU say nothing: the sample is passed over.
const SHORTEST: Duration = Duration::from_millis(200);

/// What is kept from one sample to the next: CPU time by process. As large as the process table, and allocated again only when that
/// has grown.
#[derive(Debug, Default)]
pub(super) struct Top {
    at: Option<Time>,
    /// Sorted by process.
    before: Vec<Seen>,
    now: Vec<Seen>,
}

/// A process in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    process: ProcessKey,
    cpu_ns: u64,
    /// Where in the sample.
    place: usize,
}

/// Places in the table of processes with the largest numbers, largest first.
#[derive(Debug, Default)]
struct Largest([Option<(u64, usize)>; EACH]);

impl Largest {
    fn offer(&mut self, number: u64, place: usize) {
        let mut new = Some((number, place)).filter(|_| number > 0);
        for slot in &mut self.0 {
            if new.map(|(number, _)| number) > slot.map(|(number, _)| number) {
                std::mem::swap(slot, &mut new);
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        self.0.iter().flatten().map(|(_, place)| *place)
    }
}

impl Top {
    /// Those that use most, most CPU first, then most memory; none when the sample comes too soon after the one before to tell.
    pub(super) fn take(&mut self, processes: &[ProcessUsage], at: Time) -> Option<Vec<TopProcess>> {
        let elapsed = self.at.map(|before| at.since(before));
        if elapsed.is_some_and(|elapsed| elapsed < SHORTEST) {
            return None;
        }
        self.now.clear();
        let seen = processes.iter().enumerate().map(|(place, usage)| Seen {
            process: usage.process,
            cpu_ns: usage.cpu_ns,
            place,
        });
        self.now.extend(seen);
        // Both sources list processes by number, nearly: this finds that out and is done.
        self.now.sort_unstable();
        let mut memory = Largest::default();
        for (place, usage) in processes.iter().enumerate() {
            memory.offer(usage.resident, place);
        }
        let cpu = self.busiest();
        let mut places: Vec<usize> = cpu.places().collect();
        for place in memory.places() {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let nanos = elapsed.map_or(0, |elapsed| elapsed.as_nanos());
        let named = places.iter().filter_map(|place| processes.get(*place));
        let top = named.map(|usage| TopProcess {
            process: usage.process,
            comm: usage.comm.clone(),
            cpu: share(self.spent(usage), nanos),
            resident: usage.resident,
        });
        let top = top.collect();
        std::mem::swap(&mut self.before, &mut self.now);
        self.at = Some(at);
        Some(top)
    }

    /// Walks through both samples side by side. Nothing is known of the first.
    fn busiest(&self) -> Largest {
        let mut cpu = Largest::default();
        if self.at.is_none() {
            return cpu;
        }
        let mut before = self.before.iter().peekable();
        for seen in &self.now {
            while before.next_if(|old| old.process < seen.process).is_some() {}
            let known = before.next_if(|old| old.process == seen.process);
            let spent = known.map_or(0, |old| old.cpu_ns);
            cpu.offer(seen.cpu_ns.saturating_sub(spent), seen.place);
        }
        cpu
    }

    /// CPU time since the sample before; all of it for a process that has started since.
    fn spent(&self, usage: &ProcessUsage) -> u64 {
        let known = self
            .before
            .binary_search_by_key(&usage.process, |seen| seen.process);
        let known = known.ok().and_then(|place| self.before.get(place));
        usage
            .cpu_ns
            .saturating_sub(known.map_or(0, |seen| seen.cpu_ns))
    }
}

/// Hundredths of a per cent of one CPU; 0 over no time.
fn share(spent_ns: u64, elapsed_ns: u128) -> u32 {
    let share = u128::from(spent_ns) * 10_000;
    u32::try_from(share.checked_div(elapsed_ns).unwrap_or(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(pid: u32, cpu_ms: u64, resident: u64) -> ProcessUsage {
        ProcessUsage {
            process: ProcessKey {
                pid,
                start_ticks: 1,
            },
            comm: format!("p{pid}"),
            cpu_ns: cpu_ms * 1_000_000,
            resident,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        }
    }

    fn at(ms: i64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn shown(top: Option<Vec<TopProcess>>) -> Vec<(u32, u32)> {
        let top = top.expect("it is time").into_iter();
        top.map(|process| (process.process.pid, process.cpu))
            .collect()
    }

    #[test]
    fn the_busiest_and_the_largest_are_named_once() {
        let mut top = Top::default();
        // Before there is anything to compare with, only memory tells.
        let first = [usage(1, 90_000, 10), usage(2, 0, 30), usage(3, 0, 20)];
        assert_eq!(shown(top.take(&first, at(0))), [(2, 0), (3, 0), (1, 0)]);
        let second = [
            usage(9, 250, 1),
            usage(1, 90_000, 10),
            usage(2, 1_500, 30),
            usage(3, 100, 20),
            usage(4, 500, 2),
            usage(5, 50, 40),
        ];
        // 9 and 4 are new; 2 is among the largest too.
        assert_eq!(
            shown(top.take(&second, at(1_000))),
            [(2, 15_000), (4, 5_000), (9, 2_500), (5, 500), (3, 1_000)]
        );
        // Nobody did anything; a process that has the number of another is not that one.
        let mut third = second;
        third[0].process.start_ticks = 2;
        assert_eq!(
            shown(top.take(&third, at(2_000))),
            [(9, 2_500), (5, 0), (2, 0), (3, 0)]
        );
    }

    #[test]
    fn a_sample_right_after_another_is_passed_over() {
        let mut top = Top::default();
        assert!(top.take(&[usage(1, 0, 1)], at(0)).is_some());
        assert!(top.take(&[usage(1, 100, 1)], at(199)).is_none());
        let third = top.take(&[usage(1, 100, 1)], at(200));
        assert_eq!(shown(third), [(1, 5_000)]);
        assert!(top.take(&[], at(500)).is_some_and(|top| top.is_empty()));
    }
}
