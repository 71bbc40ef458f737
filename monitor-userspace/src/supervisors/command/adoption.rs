//! Which process each service runs as, kept in the state folder, so that the next start finds it again: by PID and start time, which
//! nobody can forge.
//!
//! The daemon may be killed between a start and the line about it. So every service also carries its name and the state folder in
//! its environment, which anybody can: by that, only a process of the service's own user is taken, and only one that leads its
//! group, as what the daemon starts does and an orphaned child of it does not.
//! A worker that leads a group of its own is told by the cgroup that it shares with the noted process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::host::procfs;
use crate::host::service_cgroup::{Place, ServiceCgroup};
use crate::model::ProcessKey;

/// Environment variable with the service's name.
pub(super) const SERVICE: &str = "SMART_MONITOR_SERVICE";
/// Environment variable with the daemon's state folder: two daemons do not take each other's services.
pub(super) const INSTANCE: &str = "SMART_MONITOR_STATE_DIR";

/// See the module.
#[derive(Debug)]
pub(super) struct Adoption {
    folder: PathBuf,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    /// Processes mean something only within one boot of the machine.
    boot: String,
    services: BTreeMap<String, ProcessKey>,
    /// The daemon may be started in another cgroup next time: theirs are found all the same.
    #[serde(default)]
    cgroups: BTreeMap<String, Place>,
    /// Those that were stopped, and are to stay so.
    #[serde(default)]
    stopped: BTreeSet<String>,
}

/// A process that carries the mark of a service.
#[derive(Debug)]
pub(super) struct Marked {
    service: String,
    process: ProcessKey,
    uid: Option<u32>,
}

impl Adoption {
    /// Reads what an earlier run of the daemon noted.
    pub(super) fn new(folder: &Path) -> Self {
        let boot = procfs::boot_id();
        let read = std::fs::read(folder.join("services.json"));
        let noted = read
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let noted = noted.filter(|noted: &Noted| noted.boot == boot);
        let noted = noted.unwrap_or(Noted {
            boot,
            services: BTreeMap::new(),
            cgroups: BTreeMap::new(),
            stopped: BTreeSet::new(),
        });
        Self {
            folder: folder.to_owned(),
            noted: Mutex::new(noted),
        }
    }

    /// Notes what a service runs as, and in which cgroup; none for one that is not wanted any more.
    pub(super) fn note(&self, service: &str, process: Option<ProcessKey>, cgroup: Option<Place>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match process {
            Some(process) => noted.services.insert(service.to_owned(), process),
            None => noted.services.remove(service),
        };
        match cgroup {
            Some(place) => noted.cgroups.insert(service.to_owned(), place),
            None => noted.cgroups.remove(service),
        };
        self.write(service, &noted);
    }

    /// Notes whether a service is to stay stopped.
    pub(super) fn keep_stopped(&self, service: &str, stopped: bool) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let news = if stopped {
            noted.stopped.insert(service.to_owned())
        } else {
            noted.stopped.remove(service)
        };
        if news {
            self.write(service, &noted);
        }
    }

    /// Whether a service is to stay stopped.
    pub(super) fn is_stopped(&self, service: &str) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.stopped.contains(service)
    }

    fn write(&self, service: &str, noted: &Noted) {
        let new = self.folder.join("services.json.new");
        let written = serde_json::to_vec(noted)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, self.folder.join("services.json")));
        if let Err(error) = written {
            tracing::warn!(%service, %error, "cannot note its process: the next start may have to look for it");
        }
    }

    /// The process of a service that still runs. `marked` as [`Adoption::marked`] gives it; `uid` is the service's user. What is in the
    /// noted process's own cgroup is that process, or came of it and is not the service.
    pub(super) fn find(
        &self,
        service: &str,
        uid: u32,
        marked: &[Marked],
        noted_in: Option<&ServiceCgroup>,
    ) -> Option<ProcessKey> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = noted
            .services
            .get(service)
            .filter(|process| procfs::runs(**process));
        known.copied().or_else(|| {
            let came_of_it =
                |other: &&Marked| noted_in.is_some_and(|cgroup| cgroup.holds(other.process.pid));
            choose(
                service,
                uid,
                marked.iter().filter(|other| !came_of_it(other)),
            )
        })
    }

    /// The cgroup that a service had.
    pub(super) fn cgroup(&self, service: &str) -> Option<Place> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.cgroups.get(service).cloned()
    }

    /// Processes that carry the mark of any service of this state folder, and lead their group.
    pub(super) fn marked(&self) -> Vec<Marked> {
        let Ok(processes) = procfs::processes() else {
            return Vec::new();
        };
        let leads = |stat: &procfs::Stat| stat.state != 'Z' && stat.group == stat.key.pid;
        let leaders = processes.into_iter().filter(leads);
        let marked = leaders.filter_map(|stat| {
            let service = mark(stat.key.pid, &self.folder)?;
            let uid = procfs::real_uid(stat.key.pid);
            // What was read is this process's only if it is still there.
            procfs::runs(stat.key).then_some(Marked {
                service,
                process: stat.key,
                uid,
            })
        });
        marked.collect()
    }
}

/// The oldest of those that can be meant.
fn choose<'a>(
    service: &str,
    uid: u32,
    marked: impl Iterator<Item = &'a Marked>,
) -> Option<ProcessKey> {
    let mine = marked.filter(|other| other.service == service && other.uid == Some(uid));
    mine.map(|other| other.process)
        .min_by_key(|process| process.start_ticks)
}

/// The service's name in a process's environment, if it names this state folder.
fn mark(pid: u32, folder: &Path) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &str| {
        let mut all = environment.split(|byte| *byte == 0);
        all.find_map(|pair| {
            std::str::from_utf8(pair)
                .ok()?
                .strip_prefix(name)?
                .strip_prefix('=')
        })
    };
    (value(INSTANCE)? == folder.to_str()?).then_some(())?;
    value(SERVICE).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(service: &str, pid: u32, uid: u32) -> Marked {
        let process = ProcessKey {
            pid,
            start_ticks: u64::from(pid),
        };
        Marked {
            service: service.to_owned(),
            process,
            uid: Some(uid),
        }
    }

    #[test]
    fn a_mark_alone_makes_nobody_a_service() {
        let all = [
            marked("auth", 5, 1000),
            marked("other", 6, 0),
            marked("auth", 8, 0),
            marked("auth", 7, 0),
        ];
        assert_eq!(
            choose("auth", 0, all.iter()).map(|process| process.pid),
            Some(7)
        );
        assert_eq!(choose("auth", 33, all.iter()), None);
    }

    #[test]
    fn what_was_noted_is_found_while_it_runs() {
        let folder =
            std::env::temp_dir().join(format!("smart-monitor-adoption-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("it is made");
        let own = procfs::stat(std::process::id()).expect("we run").key;
        let gone = ProcessKey {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        let adoption = Adoption::new(&folder);
        adoption.note("auth", Some(own), None);
        adoption.note("payment", Some(gone), None);
        let next = Adoption::new(&folder);
        assert_eq!(next.find("auth", u32::MAX, &[], None), Some(own));
        assert_eq!(next.find("payment", u32::MAX, &[], None), None);
        next.note("auth", None, None);
        assert_eq!(
            Adoption::new(&folder).find("auth", u32::MAX, &[], None),
            None
        );
        std::fs::remove_dir_all(folder).expect("it goes");
    }
}
