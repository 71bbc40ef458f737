//! The kernel's alarm for each service: it fires when processes of its cgroup have stalled for lack of memory, as they do when
//! the service fills a limit of its own while the host has plenty. `stall` and `window` are those of `memory_pressure`.
//!
//! After an alarm, the service is read every `AGAIN` until it has been quiet; otherwise nothing runs. One alarm a service; an alarm
//! whose cgroup is gone is given up.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec, memory_pressure};
use crate::host::procfs;
use crate::model::{self, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "service_pressure",
    summary: "the kernel's alarm when processes of one service stall for lack of memory (PSI trigger of its cgroup)",
};

/// `[samplers.service_pressure]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether services have alarms of their own.
    pub enabled: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Config {
    /// Nothing to get wrong.
    pub fn resolve(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Time between two readings after an alarm.
const AGAIN: Duration = Duration::from_secs(1);
/// Without an alarm for this long, and with nothing in the average, a service is quiet. `detectors::memory_pressure` relies on it.
const QUIET: Duration = Duration::from_secs(10);
/// Longest time between two calls while all are quiet.
const IDLE: Duration = Duration::from_hours(1);

/// The pressure files of services that have a cgroup. Shared with who starts them.
#[derive(Clone, Debug)]
pub struct Pressures {
    shared: Arc<Mutex<Shared>>,
    changed: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What is new since the sampler looked: a file, or none for a service that runs no longer. One entry a service.
    news: BTreeMap<String, Option<File>>,
    limitation: Option<String>,
}

impl Pressures {
    /// None yet.
    pub fn new() -> std::io::Result<Self> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            shared: Arc::default(),
            changed: Arc::new(changed),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, service: &str, file: Option<File>) {
        self.lock().news.insert(service.to_owned(), file);
        // Fails only when the counter is full, and then the sampler is awake anyway.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    /// A service runs, and this is its `memory.pressure`.
    pub fn set(&self, service: &str, file: File) {
        self.tell(service, Some(file));
    }

    /// A service runs no longer.
    pub fn clear(&self, service: &str) {
        self.tell(service, None);
    }

    /// What cannot be seen, if anything.
    pub fn limitation(&self) -> Option<String> {
        self.lock().limitation.clone()
    }

    /// Says it once.
    fn limited(&self, error: &std::io::Error) {
        let mut shared = self.lock();
        if shared.limitation.is_none() {
            let text = format!(
                "no alarm for memory pressure of single services ({error}): the kernel needs CONFIG_PSI, and `cgroup.pressure` of their cgroups must be 1; the host's own alarm is not touched by this"
            );
            tracing::warn!("{text}");
            shared.limitation = Some(text);
        }
    }
}

/// A service with an alarm.
#[derive(Debug)]
struct Alarm {
    file: File,
    fired: bool,
    /// When it fired last, until it is quiet.
    last: Option<Time>,
    due: Time,
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    enabled: bool,
    arming: memory_pressure::Config,
    pressures: Pressures,
    alarms: BTreeMap<String, Alarm>,
}

impl Sample {
    /// Without alarms yet.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            enabled: config.enabled,
            arming: sources.arming.clone(),
            pressures: sources.pressures.clone(),
            alarms: BTreeMap::new(),
        }
    }

    fn take_news(&mut self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.pressures.changed, &mut counter);
        let news = std::mem::take(&mut self.pressures.lock().news);
        for (service, file) in news {
            self.alarms.remove(&service);
            let Some(file) = file.filter(|_| self.enabled) else {
                continue;
            };
            match memory_pressure::arm(&file, &self.arming) {
                Ok(_) => {
                    let alarm = Alarm {
                        file,
                        fired: false,
                        last: None,
                        due: Time::default(),
                    };
                    self.alarms.insert(service, alarm);
                }
                Err(error) => self.pressures.limited(&error),
            }
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        self.take_news();
        let mut next = now.after(IDLE);
        self.alarms.retain(|service, alarm| {
            if alarm.fired {
                alarm.last = Some(now);
                alarm.due = now;
            }
            let Some(last) = alarm.last else {
                return true;
            };
            if now < alarm.due {
                next = next.min(alarm.due);
                return true;
            }
            // Its cgroup is gone, and the service with it.
            let Ok((some_avg10, full_avg10)) = procfs::pressure(&alarm.file) else {
                return false;
            };
            let sample = model::Sample::ServicePressure {
                service: service.clone(),
                some_avg10,
                full_avg10,
                alarm: std::mem::take(&mut alarm.fired),
            };
            out.push((now, sample));
            if some_avg10 == 0 && now.since(last) >= QUIET {
                alarm.last = None;
            } else {
                alarm.due = now.after(AGAIN);
                next = next.min(alarm.due);
            }
            true
        });
        next
    }

    fn nudge(&self) -> Option<BorrowedFd<'_>> {
        Some(self.pressures.changed.as_fd())
    }

    fn alarms(&self) -> Vec<BorrowedFd<'_>> {
        let alarms = self.alarms.values();
        alarms.map(|alarm| alarm.file.as_fd()).collect()
    }

    fn alarmed(&mut self, place: usize, broken: bool) {
        let service = self.alarms.keys().nth(place).cloned();
        let Some(service) = service else { return };
        if broken {
            self.alarms.remove(&service);
        } else if let Some(alarm) = self.alarms.get_mut(&service) {
            alarm.fired = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn sampler() -> Sample {
        Sample {
            enabled: true,
            arming: memory_pressure::Config::default(),
            pressures: Pressures::new().expect("an eventfd"),
            alarms: BTreeMap::new(),
        }
    }

    fn file(name: &str, text: &str) -> File {
        let name = format!("smart-monitor-pressure-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("it is written");
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path);
        std::fs::remove_file(path).expect("it goes");
        file.expect("it opens")
    }

    fn text(some: &str) -> String {
        format!(
            "some avg10={some} avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n"
        )
    }

    fn alarm(file: File) -> Alarm {
        Alarm {
            file,
            fired: false,
            last: None,
            due: Time::default(),
        }
    }

    #[test]
    fn after_an_alarm_it_is_read_until_it_is_quiet() {
        let mut sampler = sampler();
        let mut pressure = file("quiet", &text("12.50"));
        let handle = pressure.try_clone().expect("a second handle");
        sampler.alarms.insert("web".to_owned(), alarm(handle));
        let at = |seconds: i64| Time::from_nanos(seconds * 1_000_000_000);
        let mut out = Vec::new();
        let read = |out: &mut Vec<(Time, model::Sample)>| {
            out.pop().map(|(_, sample)| match sample {
                model::Sample::ServicePressure {
                    some_avg10, alarm, ..
                } => (some_avg10, alarm),
                _ => (0, false),
            })
        };
        assert_eq!(sampler.sample(at(1), true, &mut out), at(1).after(IDLE));
        assert_eq!(read(&mut out), None, "the host's alarm is not its own");
        sampler.alarmed(0, false);
        assert_eq!(sampler.sample(at(2), false, &mut out), at(3));
        assert_eq!(read(&mut out), Some((1250, true)));
        assert_eq!(sampler.sample(at(3), false, &mut out), at(4));
        assert_eq!(read(&mut out), Some((1250, false)));
        std::os::unix::fs::FileExt::write_all_at(&pressure, text("00.00").as_bytes(), 0)
            .and_then(|()| pressure.flush())
            .expect("it is written");
        assert_eq!(sampler.sample(at(11), false, &mut out), at(12));
        assert_eq!(sampler.sample(at(12), false, &mut out), at(12).after(IDLE));
        assert_eq!(out.len(), 2, "the last one says that it is quiet");
    }

    #[test]
    fn a_broken_alarm_is_given_up_and_the_others_stay() {
        let mut sampler = sampler();
        for name in ["a", "b", "c"] {
            sampler
                .alarms
                .insert(name.to_owned(), alarm(file(name, "")));
        }
        assert_eq!(sampler.alarms().len(), 3);
        sampler.alarmed(1, true);
        sampler.alarmed(7, false);
        let left: Vec<&String> = sampler.alarms.keys().collect();
        assert_eq!(left, ["a", "c"]);
        sampler.alarmed(1, false);
        sampler.sample(Time::default(), false, &mut Vec::new());
        let left: Vec<&String> = sampler.alarms.keys().collect();
        assert_eq!(left, ["a"], "what cannot be read is gone");
        sampler.pressures.clear("a");
        sampler.sample(Time::default(), false, &mut Vec::new());
        assert!(sampler.alarms.is_empty());
    }
}
