//! Cgroups by id: a bounded table, fed by kernel events, else asked of the kernel.
//!
//! Consumes ids of v2 cgroups (inode numbers of their folders); gives path and place. Where the kernel opens no cgroup by its id, the tree
//! is walked now and then. A live entry is asked for again now and then, so that an end nobody told of is noticed (v2 renames no
//! cgroup, but this would notice that, too). Ids that are not there are remembered for a moment, and questions have a rate: a storm
//! of unknown ids costs no storm of system calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::cgroup;
use super::pace::{Budget, Recent};
use super::table::{Bounds, Table};
use crate::host::cgroupfs::{CgroupFs, Lookup};
use crate::model::Time;
use crate::model::who::Place;

/// How long a path is good without asking again.
const REFRESH_AFTER: Duration = Duration::from_secs(30);
/// How long an id that was not there is not asked for again.
const MISS_SPAN: Duration = Duration::from_secs(2);
/// Ids that are remembered as not there, at least.
const MISSES: usize = 4096;
/// Questions to the kernel a second; one takes some microseconds.
const ASKS_PER_SECOND: u32 = 2000;
/// How often the tree is walked at most, and how much of it.
const WALK_EVERY: Duration = Duration::from_secs(5);
const WALK_MAX: usize = 2048;
/// `PATH_MAX`: what is longer is cut.
const PATH_MAX: usize = 4096;

/// A cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupIdentity {
    /// Its path below the root of its hierarchy, with a leading slash.
    pub path: String,
    /// What the path tells.
    pub place: Place,
}

impl CgroupIdentity {
    /// Of a path.
    pub fn of(path: String) -> Self {
        let place = cgroup::parse(&path);
        Self { path, place }
    }

    fn weight(&self) -> usize {
        // The place repeats parts of the path.
        self.path.len() * 2
    }
}

#[derive(Debug)]
struct Known {
    identity: Arc<CgroupIdentity>,
    checked: Time,
}

/// Cgroups that are known.
#[derive(Debug)]
pub struct Cgroups {
    tree: Option<Arc<CgroupFs>>,
    table: Table<u64, Known>,
    misses: Recent<u64>,
    budget: Budget,
    walked: HashMap<u64, String>,
    last_walk: Option<Time>,
    unresolved: u64,
}

impl Cgroups {
    /// An empty table. Without a tree, only what events tell is known.
    pub fn new(tree: Option<Arc<CgroupFs>>, bounds: Bounds) -> Self {
        Self {
            tree,
            table: Table::new(bounds, |known: &Known| known.identity.weight()),
            misses: Recent::new(MISSES, MISS_SPAN),
            budget: Budget::new(ASKS_PER_SECOND),
            walked: HashMap::new(),
            last_walk: None,
            unresolved: 0,
        }
    }

    /// The mounted hierarchy, if there is one.
    pub fn tree(&self) -> Option<&CgroupFs> {
        self.tree.as_deref()
    }

    /// A cgroup was made (or is there): its whole path below the root of the hierarchy. Only of the v2 hierarchy (its number is 0): ids of
    /// v1 are numbers of another count. What is behind a NUL is not read.
    pub fn made(&mut self, id: u64, path: &[u8], at: Time) {
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = path.get(..PATH_MAX).unwrap_or(path);
        let mut path = String::from_utf8_lossy(path).into_owned();
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        self.misses.forget(&id);
        self.learn(id, path, at);
    }

    /// A cgroup was removed. It stays known for the grace time.
    pub fn removed(&mut self, id: u64, at: Time) {
        self.walked.remove(&id);
        self.table.end(id, at);
    }

    /// The cgroup of this id, asked of the kernel if need be; none when that does not know it either, or was asked too much.
    pub fn get(&mut self, id: u64, at: Time) -> Option<Arc<CgroupIdentity>> {
        if let Some((known, ended)) = self.table.get(id) {
            let fresh = at.since(known.checked) < REFRESH_AFTER;
            let identity = Arc::clone(&known.identity);
            if ended || fresh || self.tree.is_none() || !self.budget.take(at) {
                return Some(identity);
            }
            return Some(self.refresh(id, identity, at));
        }
        if id == 0 {
            return None;
        }
        let found = self.find(id, at);
        self.unresolved += u64::from(found.is_none());
        found
    }

    fn find(&mut self, id: u64, at: Time) -> Option<Arc<CgroupIdentity>> {
        if self.misses.has(&id, at) || self.table.has_ended(id, at) {
            return None;
        }
        let tree = self.tree.as_ref()?;
        if !self.budget.take(at) {
            return None;
        }
        let path = match tree.path_of(id) {
            Lookup::Found(path) => Some(path),
            Lookup::Gone => None,
            Lookup::Unanswered => self.walked_path(id, at),
        };
        if path.is_none() {
            self.misses.note(id, at);
        }
        path.map(|path| self.learn(id, path, at))
    }

    fn refresh(&mut self, id: u64, known: Arc<CgroupIdentity>, at: Time) -> Arc<CgroupIdentity> {
        let tree = self.tree.as_ref();
        let answer = tree.map_or(Lookup::Unanswered, |tree| tree.path_of(id));
        match answer {
            Lookup::Found(path) if path != known.path => self.learn(id, path, at),
            Lookup::Gone => {
                self.table.end(id, at);
                known
            }
            Lookup::Found(_) | Lookup::Unanswered => {
                if let Some((entry, _)) = self.table.get(id) {
                    entry.checked = at;
                }
                known
            }
        }
    }

    fn learn(&mut self, id: u64, path: String, at: Time) -> Arc<CgroupIdentity> {
        let identity = Arc::new(CgroupIdentity::of(path));
        let known = Known {
            identity: Arc::clone(&identity),
            checked: at,
        };
        self.table.put(id, known, at);
        identity
    }

    /// Without handles: what the last walk found, or a new walk if that was long ago.
    fn walked_path(&mut self, id: u64, at: Time) -> Option<String> {
        let due = (self.last_walk).is_none_or(|walked| at.since(walked) >= WALK_EVERY);
        if due && !self.walked.contains_key(&id) {
            self.last_walk = Some(at);
            self.walked = self.tree.as_ref()?.walk(WALK_MAX).into_iter().collect();
        }
        self.walked.get(&id).cloned()
    }

    /// Drops what has been gone for longer than the grace time.
    pub fn collect(&mut self, at: Time) {
        self.table.collect(at);
    }

    /// Cgroups that are known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sizes and what was lost.
    pub fn stats(&self) -> super::TableStats {
        super::TableStats {
            entries: self.table.len(),
            bytes: self.table.bytes(),
            evicted: self.table.evicted(),
            unresolved: self.unresolved,
            deferred: self.budget.refused(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        entries: 8192,
        bytes: 4 << 20,
        grace: Duration::from_mins(1),
    };

    fn at(seconds: i64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn what_events_tell_is_known_until_its_grace_time_is_over() {
        let mut cgroups = Cgroups::new(None, BOUNDS);
        cgroups.made(7, b"/system.slice/a.service\0junk", at(0));
        cgroups.made(8, b"relative", at(0));
        let found = cgroups.get(7, at(1)).expect("it was made");
        assert_eq!(found.path, "/system.slice/a.service");
        assert_eq!(found.place.unit.as_deref(), Some("a.service"));
        assert_eq!(
            cgroups.get(8, at(1)).expect("it was made").path,
            "/relative"
        );
        cgroups.removed(7, at(2));
        cgroups.collect(at(62));
        assert!(cgroups.get(7, at(62)).is_some());
        cgroups.collect(at(63));
        assert!(cgroups.get(7, at(63)).is_none());
        assert!(cgroups.get(8, at(1_000)).is_some());
        assert_eq!(cgroups.get(0, at(0)), None);
    }

    #[test]
    fn a_removal_may_be_heard_of_before_the_making() {
        let mut cgroups = Cgroups::new(None, BOUNDS);
        cgroups.removed(7, at(0));
        assert!(cgroups.get(7, at(0)).is_none());
        cgroups.made(7, b"/a", at(1));
        assert!(cgroups.get(7, at(1)).is_some());
        cgroups.collect(at(100));
        assert_eq!(cgroups.len(), 0);
    }

    #[test]
    fn a_hundred_thousand_are_not_kept() {
        let mut cgroups = Cgroups::new(None, BOUNDS);
        for id in 1..=100_000_u64 {
            let path = format!("/a.slice/b-{id}.scope");
            cgroups.made(id, path.as_bytes(), at(0));
            assert!(cgroups.len() <= BOUNDS.entries);
        }
        let stats = cgroups.stats();
        assert_eq!(
            stats.evicted + u64::try_from(stats.entries).unwrap_or(0),
            100_000
        );
        assert!(stats.entries > BOUNDS.entries / 16 * 15);
        let last = cgroups.get(100_000, at(0)).expect("the youngest are kept");
        assert_eq!(last.path, "/a.slice/b-100000.scope");
    }

    #[test]
    fn bytes_of_any_kind_are_taken() {
        let mut cgroups = Cgroups::new(None, BOUNDS);
        cgroups.made(1, b"/\xff\xfe/x", at(0));
        cgroups.made(2, b"", at(0));
        cgroups.made(3, &vec![b'/'; 100_000], at(0));
        assert_eq!(cgroups.get(2, at(0)).expect("made").path, "/");
        assert!(cgroups.get(3, at(0)).expect("made").path.len() <= PATH_MAX);
        assert_eq!(
            cgroups.get(1, at(0)).expect("made").path,
            "/\u{fffd}\u{fffd}/x"
        );
    }
}
