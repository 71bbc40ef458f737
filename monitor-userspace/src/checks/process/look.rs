//! Reads `/proc` for the check `process`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::Answer;
use crate::host::procfs::{self, Stat};
use crate::model::ProcessKey;

/// Whose processes.
pub(super) enum Whose {
    /// This one and what came of it.
    From(ProcessKey),
    /// All of this name.
    Named(String),
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) count: usize,
    pub(super) resident: u64,
    pub(super) threads: u64,
    /// Of one core, per cent; none at the first look.
    pub(super) cpu: Option<f64>,
    /// Of the process nearest to its limit.
    pub(super) files: Option<Files>,
    /// Age and state of the oldest, and its number.
    pub(super) age: Option<Duration>,
    pub(super) state: Option<char>,
    pub(super) oldest: u32,
}

/// Open files of a process.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) pid: u32,
    pub(super) open: u64,
    pub(super) limit: u64,
}

impl Files {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no exact numbers")]
    pub(super) fn percent(&self) -> f64 {
        self.open as f64 * 100.0 / self.limit.max(1) as f64
    }
}

/// CPU time at an earlier look.
#[derive(Debug, Default)]
pub(super) struct Before {
    at: Option<Instant>,
    ticks: BTreeMap<ProcessKey, u64>,
    share: Option<f64>,
}

/// How long a table of all processes is good for.
const FRESH: Duration = Duration::from_millis(100);
/// Shortest time over which CPU time says something: it counts in ticks of 10 ms.
const SHORTEST: Duration = Duration::from_millis(500);
/// Most open files that are counted of a process.
const COUNTED: usize = 1 << 20;

type Table = Option<(Instant, Arc<Vec<Stat>>)>;
static TABLE: Mutex<Table> = Mutex::new(None);

/// All processes, as they are or were a moment ago: a hundred checks at a time read them once.
fn table() -> Arc<Vec<Stat>> {
    let mut kept = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, table)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Arc::clone(table);
    }
    let table = Arc::new(procfs::processes().unwrap_or_default());
    *kept = Some((Instant::now(), Arc::clone(&table)));
    table
}

/// See the module.
pub(super) fn look(whose: &Whose, before: &mut Before) -> Seen {
    let table = table();
    let mut found: Vec<&Stat> = match whose {
        Whose::Named(name) => table.iter().filter(|stat| stat.comm == *name).collect(),
        Whose::From(root) => family(&table, *root),
    };
    found.sort_by_key(|stat| (stat.key.start_ticks, stat.key.pid));
    let oldest = found.first();
    let detailed = || found.iter().take(super::DETAILS).map(|stat| stat.key.pid);
    let pages: u64 = found.iter().map(|stat| stat.resident_pages).sum();
    let percent = |files: &Files| (files.percent() * 1e3).round();
    let files = detailed().filter_map(files);
    Seen {
        count: found.len(),
        resident: pages.saturating_mul(procfs::page_size()),
        threads: detailed().filter_map(threads).sum(),
        cpu: before.share(&found),
        files: files.max_by(|a, b| percent(a).total_cmp(&percent(b))),
        age: oldest.map(|stat| age(stat.key)),
        // It may have ended, or become another, since the table was read.
        state: oldest.and_then(|stat| Some(procfs::stat(stat.key.pid)?.state)),
        oldest: oldest.map_or(0, |stat| stat.key.pid),
    }
}

/// A process and all that came of it.
fn family(table: &[Stat], root: ProcessKey) -> Vec<&Stat> {
    let mut children: BTreeMap<u32, Vec<&Stat>> = BTreeMap::new();
    for stat in table {
        children.entry(stat.parent).or_default().push(stat);
    }
    // The table may be a moment older than the process.
    let Some(first) = table.iter().find(|stat| stat.key == root) else {
        return Vec::new();
    };
    let (mut found, mut known) = (vec![first], BTreeSet::from([root.pid]));
    let mut next = 0;
    while let Some(stat) = found.get(next) {
        next += 1;
        let below = children.get(&stat.key.pid).into_iter().flatten();
        for child in below {
            if known.insert(child.key.pid) {
                found.push(child);
            }
        }
    }
    found
}

impl Before {
    /// CPU time since the look before, per cent of a core.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no exact numbers")]
    fn share(&mut self, found: &[&Stat]) -> Option<f64> {
        let now = Instant::now();
        let over = self.at.map(|at| now.duration_since(at));
        // A check that is asked again at once has nothing new to measure.
        if over.is_some_and(|over| over < SHORTEST) {
            return self.share;
        }
        let used = |stat: &&Stat| {
            let before = self.ticks.get(&stat.key).copied().unwrap_or(0);
            stat.cpu_ticks.saturating_sub(before)
        };
        let used: u64 = found.iter().map(used).sum();
        self.share = over.map(|over| used as f64 / over.as_secs_f64());
        self.ticks = found
            .iter()
            .map(|stat| (stat.key, stat.cpu_ticks))
            .collect();
        self.at = Some(now);
        self.share
    }
}

fn age(process: ProcessKey) -> Duration {
    let now = crate::host::clock::since_boot();
    now.saturating_sub(Duration::from_millis(
        process.start_ticks.saturating_mul(10),
    ))
}

fn threads(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))?;
    line.trim().parse().ok()
}

/// None of a process that has ended, or has no limit.
fn files(pid: u32) -> Option<Files> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let limit = soft_limit(&limits)?;
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .take(COUNTED)
        .count();
    let open = u64::try_from(open).unwrap_or(u64::MAX);
    Some(Files { pid, open, limit })
}

/// The first number behind `Max open files`; none when it is `unlimited`.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What a state means.
pub(super) const fn state(letter: char) -> &'static str {
    match letter {
        'Z' => "ended, and its parent takes no note of it",
        'D' => "waits for a disk or the like, and cannot be interrupted",
        'T' | 't' => "stopped",
        'R' => "runs",
        _ => "sleeps",
    }
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "figures need no exact bytes")]
    pub(super) fn figures(&self) -> Answer {
        let mut words = format!("{} processes, {}MiB", self.count, self.resident >> 20);
        let mut answer = Answer::well()
            .with("processes", self.count as f64)
            .with("resident_bytes", self.resident as f64)
            .with("threads", self.threads as f64);
        if let Some(cpu) = self.cpu {
            words = format!("{words}, CPU {cpu:.0}%");
            answer = answer.with("cpu_percent", cpu);
        }
        if let Some(files) = &self.files {
            answer = answer
                .with("open_files", files.open as f64)
                .with("open_files_percent", files.percent());
        }
        if let Some(age) = self.age {
            answer = answer.took("age", age);
        }
        answer.saying(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_see_ourselves() {
        let own = procfs::stat(std::process::id()).expect("we run");
        let seen = look(&Whose::From(own.key), &mut Before::default());
        assert!(
            seen.count >= 1 && seen.resident > 0 && seen.threads > 0,
            "{seen:?}"
        );
        assert!(
            seen.files
                .as_ref()
                .is_some_and(|files| files.open > 0 && files.limit > 0)
        );
        assert_eq!((seen.oldest, seen.cpu), (own.key.pid, None));
        let named = look(
            &Whose::Named("no such process".to_owned()),
            &mut Before::default(),
        );
        assert_eq!((named.count, named.oldest), (0, 0));
    }

    #[test]
    fn limits_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), None);
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn cpu_time_counts_between_two_looks() {
        let own = procfs::stat(std::process::id()).expect("we run");
        let mut before = Before {
            at: Instant::now().checked_sub(Duration::from_secs(2)),
            ticks: BTreeMap::from([(own.key, own.cpu_ticks)]),
            share: None,
        };
        let later = Stat {
            cpu_ticks: own.cpu_ticks + 100,
            ..own
        };
        let share = before.share(&[&later]).expect("there was a look before");
        assert!((45.0..=50.0).contains(&share), "{share}");
        assert_eq!(
            before.share(&[&later]),
            Some(share),
            "too soon to measure anew"
        );
    }
}
