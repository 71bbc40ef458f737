//! What services have said of themselves since each was started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Said;
use crate::model::Time;

/// The most that a service can put off the end of its start, or of what else it has begun, after that began.
pub const MOST_MORE: Duration = Duration::from_hours(6);

/// See the module: one a service that has a socket, so bounded by the configuration.
#[derive(Debug, Default)]
pub struct Notices(Mutex<BTreeMap<String, (Notice, watch::Sender<u64>)>>);

/// What a service has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Since when it is listened to.
    pub since: Time,
    /// How it began.
    pub began: Began,
    /// When it said that it is ready, or when it was found to have been so.
    pub ready: Option<Time>,
    /// When it last said that it is alive.
    pub alive: Option<Time>,
    /// It says that it hangs.
    pub hangs: bool,
    /// The time between two signs of life that it has set itself.
    pub watchdog: Option<Duration>,
    /// What it says of itself.
    pub status: Option<String>,
    /// What failed, as it says: an errno.
    pub errno: Option<i32>,
    /// It reads its configuration again, since then.
    pub reloading: Option<Time>,
    /// It ends, since then.
    pub stopping: Option<Time>,
    /// It has asked for time until then for what it is at.
    pub until: Option<Time>,
    /// Datagrams that were not taken: from strangers, too long, no UTF-8.
    pub refused: u64,
}

/// How a service that is listened to began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// It was started, and will say when it is ready.
    Started,
    /// It was found running, and has said that already, to an earlier daemon.
    Found,
    /// It was found running, and does not know where to.
    Deaf,
}

impl Notice {
    /// Nothing was said yet.
    pub fn new(began: Began, now: Time) -> Self {
        Self {
            since: now,
            began,
            ready: (began != Began::Started).then_some(now),
            alive: None,
            hangs: false,
            watchdog: None,
            status: None,
            errno: None,
            reloading: None,
            stopping: None,
            until: None,
            refused: 0,
        }
    }

    /// Whether somebody who waits is to look.
    fn take(&mut self, said: &Said, now: Time) -> bool {
        let before = (self.ready, self.hangs, self.until, self.status.clone());
        if said.reloading {
            (self.reloading, self.until) = (Some(now), None);
        }
        if said.stopping && self.stopping.is_none() {
            (self.stopping, self.until) = (Some(now), None);
        }
        if said.ready {
            self.ready.get_or_insert(now);
            (self.reloading, self.until) = (None, None);
            self.alive = Some(now);
        }
        if said.alive {
            self.alive = Some(now);
            self.hangs = false;
        }
        self.hangs |= said.hangs;
        self.watchdog = said.watchdog.or(self.watchdog);
        self.errno = said.errno.or(self.errno);
        if let Some(status) = &said.status {
            self.status = Some(status.clone()).filter(|status| !status.is_empty());
        }
        if let Some(more) = said.more_time {
            let begun = self.stopping.or(self.reloading).unwrap_or(self.since);
            let until = now.after(more).min(begun.after(MOST_MORE));
            self.until = self.until.max(Some(until));
        }
        before != (self.ready, self.hangs, self.until, self.status.clone())
    }
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Notice, watch::Sender<u64>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A service is listened to anew: nothing that was said before counts.
    pub fn begin(&self, service: &str, began: Began, now: Time) {
        let mut known = self.lock();
        let notice = Notice::new(began, now);
        match known.get_mut(service) {
            Some((old, news)) => {
                *old = notice;
                news.send_modify(|count| *count += 1);
            }
            None => {
                known.insert(service.to_owned(), (notice, watch::channel(0).0));
            }
        }
    }

    /// Only these are listened to from now on.
    pub fn keep(&self, services: &BTreeSet<&str>) {
        self.lock()
            .retain(|name, _| services.contains(name.as_str()));
    }

    /// A service has said something.
    pub fn take(&self, service: &str, said: &Said, now: Time) {
        if let Some((notice, news)) = self.lock().get_mut(service)
            && notice.take(said, now)
        {
            news.send_modify(|count| *count += 1);
        }
    }

    /// Something was sent that is not taken; how many of this service were not by now.
    pub fn refuse(&self, service: &str) -> u64 {
        let mut known = self.lock();
        let notice = known.get_mut(service).map(|(notice, _)| notice);
        notice.map_or(0, |notice| {
            notice.refused = notice.refused.saturating_add(1);
            notice.refused
        })
    }

    /// What is known of this one, and word of what changes after that.
    pub fn of(&self, service: &str) -> Option<(Notice, watch::Receiver<u64>)> {
        let known = self.lock();
        let (notice, news) = known.get(service)?;
        Some((notice.clone(), news.subscribe()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }

    fn say(notices: &Notices, text: &str, second: i64) {
        let said = Said::read(text.as_bytes()).expect("it reads");
        notices.take("shop", &said, at(second));
    }

    #[test]
    fn what_is_said_counts_until_the_next_start() {
        let notices = Notices::default();
        say(&notices, "READY=1", 1);
        assert!(notices.of("shop").is_none(), "nobody listens");
        notices.begin("shop", Began::Started, at(2));
        let (notice, mut news) = notices.of("shop").expect("it is listened to");
        assert_eq!(notice.ready, None);
        say(&notices, "WATCHDOG=1", 3);
        assert!(!news.has_changed().expect("it lives"), "no news");
        say(&notices, "READY=1\nSTATUS=well", 4);
        assert!(news.has_changed().expect("it lives"));
        news.mark_unchanged();
        let (notice, _) = notices.of("shop").expect("it is listened to");
        assert_eq!((notice.ready, notice.alive), (Some(at(4)), Some(at(4))));
        notices.begin("shop", Began::Started, at(9));
        assert!(news.has_changed().expect("it lives"));
        let (notice, _) = notices.of("shop").expect("it is listened to");
        assert_eq!(notice, Notice::new(Began::Started, at(9)));
        notices.keep(&BTreeSet::new());
        assert!(notices.of("shop").is_none());
    }

    #[test]
    fn more_time_is_given_and_not_for_ever() {
        let notices = Notices::default();
        notices.begin("shop", Began::Started, at(0));
        let until = || notices.of("shop").and_then(|(notice, _)| notice.until);
        say(&notices, "EXTEND_TIMEOUT_USEC=30000000", 10);
        assert_eq!(until(), Some(at(40)));
        say(&notices, "EXTEND_TIMEOUT_USEC=1000000", 11);
        assert_eq!(until(), Some(at(40)), "never less than it had");
        let six = 6 * 3600;
        say(&notices, "EXTEND_TIMEOUT_USEC=3600000000", six - 5);
        assert_eq!(until(), Some(at(six)));
        say(&notices, "READY=1", six - 4);
        assert_eq!(until(), None);
        assert_eq!(notices.refuse("shop"), 1);
        assert_eq!(notices.refuse("other"), 0);
    }
}
