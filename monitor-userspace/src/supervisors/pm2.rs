//! `kind = "pm2"`: applications of PM2, over the RPC of its daemon.
//!
//! An application may have several processes of one name, its instances. One of them, the first that runs, is the main process, and
//! stays so for as long as PM2 keeps it up; a restart is one of all of them that were not stopped. PM2's stream of events is not
//! listened to: PM2 sends every line that any application logs to whoever does. The end of a process is seen at once without it.

mod apps;
mod discover;
mod rpc;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Nudge, Phase, Seen, Source, Spec, Tools};
use crate::host::HostError;
use crate::model::ProcessKey;
use apps::{Entry, Instance};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "pm2",
    summary: "an application of PM2, asked and told over its daemon's socket",
    read: Some(read),
    source: Some(source),
    discover: Some(discover::discover),
};

/// How often PM2 is asked; the end of a process is seen at once.
const EVERY: Duration = Duration::from_secs(2);
/// How long PM2, which does one thing at a time, is left to start what has ended: mostly it takes less than 10 ms.
const HEAD_START: Duration = Duration::from_millis(20);
/// How long an answer may take.
const ANSWERS: Duration = Duration::from_secs(3);
/// How long PM2 may take to start an instance, which may itself say when it is ready.
const STARTS: Duration = Duration::from_secs(15);

/// `with` of such a service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// The application's name; the service's when none.
    #[serde(default)]
    app: String,
    /// `PM2_HOME` of the user whose daemon it is.
    #[serde(default = "home")]
    home: PathBuf,
}

fn home() -> PathBuf {
    "/root/.pm2".into()
}

fn read(service: &str, with: &toml::Table) -> Result<Vec<String>, String> {
    let with = parse(service, with)?;
    if !with.home.is_absolute() {
        return Err("`home` must be an absolute path: PM2_HOME, as in /home/web/.pm2".to_owned());
    }
    if with.app.chars().any(char::is_control) {
        return Err("`app` is the name that `pm2 list` shows".to_owned());
    }
    Ok(vec![with.home.display().to_string(), with.app])
}

fn parse(service: &str, with: &toml::Table) -> Result<With, String> {
    let read = With::deserialize(with.clone());
    let mut with = read.map_err(|error| error.message().to_owned())?;
    if with.app.is_empty() {
        service.clone_into(&mut with.app);
    }
    Ok(with)
}

fn source(tools: Tools) -> Arc<dyn Source> {
    Arc::new(Pm2 {
        nudge: tools.nudge,
        services: Mutex::default(),
    })
}

#[derive(Debug)]
struct Pm2 {
    nudge: Nudge,
    services: Mutex<BTreeMap<String, Known>>,
}

/// A service, and what was seen of it.
#[derive(Clone, Debug)]
struct Known {
    with: With,
    /// By PM2's number.
    instances: BTreeMap<u64, Instance>,
    /// That of the main process.
    main: Option<u64>,
}

/// An instance, and what is to be made of it.
#[derive(Clone, Debug)]
struct Judged {
    id: u64,
    entry: Entry,
    phase: Phase,
    process: Option<ProcessKey>,
}

impl Known {
    fn new(with: With) -> Self {
        Self {
            with,
            instances: BTreeMap::new(),
            main: None,
        }
    }

    /// The instances, by PM2's number.
    fn ask(&mut self) -> Result<Vec<Judged>, String> {
        let socket = self.with.home.join("rpc.sock");
        let all: Option<Vec<Entry>> = rpc::ask(&socket, "getMonitorData", &json!({}), ANSWERS)?;
        let own = all.unwrap_or_default().into_iter();
        let own = own.filter(|entry| entry.is_of(&self.with.app));
        let mut before = std::mem::take(&mut self.instances);
        let mut judged = Vec::new();
        for entry in own {
            let Some(id) = entry.id() else { continue };
            let mut instance = before.remove(&id).unwrap_or_default();
            let (phase, process) = instance.judge(&entry);
            self.instances.insert(id, instance);
            judged.push(Judged {
                id,
                entry,
                phase,
                process,
            });
        }
        if judged.is_empty() {
            return Err(format!(
                "PM2 of {} has no application called {}: see `pm2 list`",
                self.with.home.display(),
                self.with.app
            ));
        }
        judged.sort_by_key(|it| it.id);
        Ok(judged)
    }

    /// The one that stands for all of them. Whether another look will find another one.
    fn choose(&mut self, judged: &[Judged]) -> Option<(Judged, bool)> {
        let main = self
            .main
            .and_then(|main| judged.iter().find(|it| it.id == main));
        let best = judged.iter().min_by_key(|it| rank(&it.phase))?;
        let chosen = match main.map(|main| (main, &main.phase)) {
            Some((main, Phase::Running | Phase::Starting | Phase::Stopping)) => main,
            // That it was stopped is said before another one takes its place, which else would look like a fault.
            Some((main, Phase::Stopped))
                if best.id != main.id && rank(&best.phase) < rank(&main.phase) =>
            {
                self.main = None;
                return Some((main.clone(), true));
            }
            _ => best,
        };
        self.main = Some(chosen.id);
        Some((chosen.clone(), false))
    }
}

/// Lowest first.
const fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Running => 0,
        Phase::Starting => 1,
        Phase::Stopping => 2,
        Phase::Failed { .. } => 3,
        Phase::Stopped => 4,
    }
}

impl Pm2 {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, service: &str) -> Result<Known, HostError> {
        let known = self.lock().get(service).cloned();
        known.ok_or_else(|| HostError::NoService(service.to_owned()))
    }

    /// Does something to all instances of a service that are to have it done.
    fn each(
        &self,
        service: &str,
        act: impl Fn(&PathBuf, &[Judged], &Judged) -> Result<(), String>,
    ) -> Result<(), HostError> {
        let mut known = self.known(service)?;
        let done = known.ask().and_then(|judged| {
            let socket = known.with.home.join("rpc.sock");
            judged.iter().try_for_each(|it| act(&socket, &judged, it))
        });
        done.map_err(|why| failed(service, why))
    }
}

/// Has PM2 stop one.
fn stop(socket: &Path, it: &Judged) -> Result<(), String> {
    let within = it.entry.stops_within() + ANSWERS;
    rpc::act(socket, "stopProcessId", &json!(it.id), within)
}

/// Has PM2 start one, after it has stopped it where it runs.
fn start(socket: &Path, it: &Judged) -> Result<(), String> {
    // One that PM2 is about to start anew is stopped before, or it would be started twice.
    if it.entry.pid().is_some() && !it.entry.is_up() {
        stop(socket, it)?;
    }
    let within = it.entry.stops_within() + STARTS;
    rpc::act(socket, "restartProcessId", &json!({ "id": it.id }), within)
}

fn failed(service: &str, why: String) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why,
    }
}

impl Source for Pm2 {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let mut before = std::mem::take(&mut *self.lock());
        let known = services.iter().filter_map(|(name, with)| {
            let with = parse(name, with).ok()?;
            let same = before.remove(name).filter(|it| it.with == with);
            Some((name.clone(), same.unwrap_or_else(|| Known::new(with))))
        });
        let known = known.collect();
        *self.lock() = known;
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let mut known = self.known(service)?;
        let judged = known.ask().map_err(|why| failed(service, why))?;
        let chosen = known.choose(&judged);
        // Not when another configuration has come meanwhile.
        if let Some(own) = self
            .lock()
            .get_mut(service)
            .filter(|own| own.with == known.with)
        {
            *own = known;
        }
        let (main, again) = chosen.ok_or_else(|| HostError::NoService(service.to_owned()))?;
        if again {
            self.nudge.service(service);
        }
        Ok(Seen {
            healer: main.entry.healer(),
            phase: main.phase,
            process: main.process,
            cgroup_id: 0,
        })
    }

    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn head_start(&self) -> Duration {
        HEAD_START
    }

    fn restart(&self, service: &str, _: Duration) -> Result<(), HostError> {
        self.each(service, |socket, all, it| {
            // What a person has stopped stays so, unless that is all there is.
            let is_stopped = |it: &Judged| it.phase == Phase::Stopped;
            if is_stopped(it) && !all.iter().all(is_stopped) {
                return Ok(());
            }
            start(socket, it)
        })
    }

    fn stop(&self, service: &str, _: Duration) -> Result<(), HostError> {
        self.each(service, |socket, _, it| stop(socket, it))
    }

    fn start(&self, service: &str) -> Result<(), HostError> {
        self.each(service, |socket, _, it| match it.phase {
            Phase::Running => Ok(()),
            _ => start(socket, it),
        })
    }

    fn reload(&self, service: &str) -> Result<Option<String>, HostError> {
        let why = "PM2 reloads an application by replacing its processes, which restart_service does: for one that reads its configuration again set `reload = { signal = \"SIGHUP\" }`, or a command";
        Err(failed(service, why.to_owned()))
    }
}
