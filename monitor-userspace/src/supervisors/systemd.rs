//! `kind = "systemd"`: services that systemd runs, of the host or of a user, asked and told over D-Bus.
//!
//! systemd tells of every change of a unit; a look reads all of its properties in one answer, so that they belong together. Orders are
//! jobs, whose end is awaited. A stop that somebody ordered is never undone: whether there was one shows in `unit`, and orders that would
//! replace a job of somebody else are refused (mode `fail`).
//!
//! Calls are written by hand: they are ten, and generated proxies would bring streams and caches for each property.

#[path = "systemd/discover.rs"]
mod discover;
#[path = "systemd/link.rs"]
mod link;
#[path = "systemd/memory.rs"]
mod memory;
#[path = "systemd/orders.rs"]
mod orders;
#[path = "systemd/unit.rs"]
mod unit;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::{Builder, Handle};
use zbus::{OwnedObjectPath, Variant};

use super::{Nudge, Phase, Seen, Source, Spec, Tools};
use crate::host::cgroupfs::CgroupFs;
use crate::host::signals::Held;
use crate::host::{HostError, procfs};
use crate::model::ProcessKey;
use link::{Failed, Link};
use memory::Memory;
use unit::Unit;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "systemd",
    summary: "a service unit of systemd, of the host or of a user",
    read: Some(read),
    source: Some(source),
    discover: Some(discover::discover),
};

/// How often a look is begun anew because the main process was another one when it was looked for.
const LOOKS: usize = 5;

/// `with` of such a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// The unit; the name of the service when none.
    unit: Option<String>,
    /// Whose manager runs it; that of the host when none.
    user: Option<u32>,
}

/// Who runs a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Manager {
    Host,
    User(u32),
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("systemd"),
            Self::User(uid) => write!(f, "systemd of user {uid}"),
        }
    }
}

fn read(service: &str, with: &toml::Table) -> Result<Vec<String>, String> {
    let (unit, manager) = parse(service, with)?;
    let mut words = vec![unit];
    if let Manager::User(uid) = manager {
        words.push(format!("user={uid}"));
    }
    Ok(words)
}

fn parse(service: &str, with: &toml::Table) -> Result<(String, Manager), String> {
    let with = With::deserialize(with.clone()).map_err(|error| error.message().to_owned())?;
    let manager = with.user.map_or(Manager::Host, Manager::User);
    let written = with.unit.as_deref().unwrap_or(service);
    // As `systemctl` has it.
    let kinds = [
        "socket",
        "target",
        "timer",
        "mount",
        "automount",
        "swap",
        "path",
        "slice",
        "scope",
        "device",
    ];
    let name = match written.rsplit_once('.') {
        Some((_, "service")) => written.to_owned(),
        Some((_, kind)) if kinds.contains(&kind) => {
            return Err(format!(
                "`{written}` is a {kind}: only units of type service are supervised"
            ));
        }
        _ => format!("{written}.service"),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    // UNIT_NAME_MAX and VALID_CHARS of systemd's src/basic/unit-name.c.
    if name.len() > 255 || !name.chars().all(good) || name.starts_with(['.', '@']) {
        return Err(format!(
            "`{name}` cannot be the name of a unit: say `unit = \"NAME.service\"`"
        ));
    }
    if name.ends_with("@.service") {
        return Err(format!(
            "`{name}` is a template: name one that was made of it, for example `{}`",
            name.replace("@.service", "@1.service")
        ));
    }
    Ok((name, manager))
}

fn source(tools: Tools) -> Arc<dyn Source> {
    Arc::new(Systemd {
        nudge: tools.nudge,
        runtime: runtime().map_err(|error| format!("cannot begin to talk to systemd: {error}")),
        cgroups: CgroupFs::open().ok().flatten(),
        state: Mutex::default(),
    })
}

/// A thread that hears and speaks for all managers.
fn runtime() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("systemd-bus".to_owned());
    let thread = thread.stack_size(512 << 10);
    thread.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

#[derive(Debug)]
struct Systemd {
    nudge: Nudge,
    runtime: Result<Handle, String>,
    cgroups: Option<CgroupFs>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, Arc<Known>>,
    links: BTreeMap<Manager, Arc<Link>>,
}

/// A service of the configuration.
#[derive(Debug)]
struct Known {
    unit: String,
    manager: Manager,
    memory: Mutex<Memory>,
}

impl Known {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service, and whom to ask about it.
struct Asked {
    known: Arc<Known>,
    link: Arc<Link>,
}

fn failed(service: &str, why: impl fmt::Display) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why: why.to_string(),
    }
}

impl Systemd {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self, service: &str) -> Result<Asked, HostError> {
        if let Err(why) = &self.runtime {
            return Err(failed(service, why));
        }
        let state = self.lock();
        let known = state.services.get(service).cloned();
        let known = known.ok_or_else(|| HostError::NoService(service.to_owned()))?;
        let link = state.links.get(&known.manager).cloned();
        let link = link.ok_or_else(|| HostError::NoService(service.to_owned()))?;
        Ok(Asked { known, link })
    }

    /// The unit as it is now, and its main process, which is certain to be its own.
    fn unit(service: &str, asked: &Asked) -> Result<Look, HostError> {
        let told = |why: Failed| failed(service, why);
        for _ in 0..LOOKS {
            let (path, unit) = asked.unit(service).map_err(told)?;
            if let Some(why) = unit.unusable(&asked.known.unit) {
                return Err(failed(service, why));
            }
            if !unit.has_main() {
                return Ok(Look::At(Box::new(unit), None));
            }
            // They hold an ended process until they have drawn their conclusions: one that is gone means that they have by now.
            let Some(stat) = procfs::stat(unit.main_pid) else {
                continue;
            };
            if asked.is_its_own(&path, stat.key).map_err(told)? {
                return Ok(Look::At(Box::new(unit), Some(stat.key)));
            }
        }
        Ok(Look::Changing)
    }
}

/// What a look at a unit has brought.
enum Look {
    At(Box<Unit>, Option<ProcessKey>),
    /// It changes faster than it can be looked at.
    Changing,
}

impl Asked {
    /// All of its properties, at one moment; and where it is.
    fn unit(&self, service: &str) -> Result<(String, Unit), Failed> {
        let broken =
            |error: zbus::Error| Failed::Lost(format!("an answer makes no sense: {error}"));
        let answer = self.link.manager("LoadUnit", self.known.unit.clone())?;
        let path: OwnedObjectPath = answer.body().deserialize().map_err(broken)?;
        let path = path.to_string();
        self.link.note(&path, service);
        // Else it would forget how a unit ended as soon as nobody else needs it.
        if !self.known.memory().is_kept(self.link.number()) {
            let kept = self.link.manager("RefUnit", self.known.unit.clone());
            if let Err(why) = kept {
                tracing::debug!(%service, %why, "systemd may forget how it ended");
            }
        }
        let properties = "org.freedesktop.DBus.Properties";
        let answer = self
            .link
            .call(path.clone(), properties, "GetAll", String::new())?;
        let body = answer.body();
        let all: HashMap<&str, Variant<'_>> = body.deserialize().map_err(broken)?;
        Ok((path, Unit::read(&all)))
    }

    /// Whether a process is the unit's: asked for by a file that means this very process where they can (253), else by its number.
    fn is_its_own(&self, path: &str, process: ProcessKey) -> Result<bool, Failed> {
        if self.known.memory().verified == Some(process) {
            return Ok(true);
        }
        let Ok(held) = Held::open(process) else {
            return Ok(false);
        };
        let by_file = held.try_clone_fd().ok().map(|fd: OwnedFd| {
            let answer = self.link.manager("GetUnitByPIDFD", zbus::Fd::from(fd))?;
            let read = answer
                .body()
                .deserialize::<(OwnedObjectPath, String, Vec<u8>)>();
            let (unit, ..) = read.map_err(|error| Failed::Lost(error.to_string()))?;
            Ok::<_, Failed>(unit)
        });
        let unit = match by_file {
            Some(Ok(unit)) => unit,
            _ => match self.link.manager("GetUnitByPID", process.pid) {
                Ok(answer) => {
                    let read = answer.body().deserialize();
                    read.map_err(|error| Failed::Lost(error.to_string()))?
                }
                // It has ended.
                Err(Failed::Refused(_)) => return Ok(!procfs::runs(process)),
                Err(lost) => return Err(lost),
            },
        };
        let own = unit.as_str() == path;
        if own {
            self.known.memory().verified = Some(process);
        }
        Ok(own)
    }
}

impl Source for Systemd {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let Ok(runtime) = &self.runtime else { return };
        let mut state = self.lock();
        let before = std::mem::take(&mut state.services);
        for (name, with) in services {
            // Config has found it good.
            let Ok((unit, manager)) = parse(name, with) else {
                continue;
            };
            let same = before.get(name);
            let same = same.filter(|known| known.unit == unit && known.manager == manager);
            let known = same.cloned().unwrap_or_else(|| {
                let memory = Mutex::default();
                Arc::new(Known {
                    unit,
                    manager,
                    memory,
                })
            });
            state.services.insert(name.clone(), known);
            let link = || Arc::new(Link::start(manager, self.nudge.clone(), runtime));
            state.links.entry(manager).or_insert_with(link);
        }
        let State { services, links } = &mut *state;
        links.retain(|manager, _| services.values().any(|known| known.manager == *manager));
        for link in links.values() {
            // Looks, which follow, note them anew.
            link.forget();
        }
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let asked = self.asked(service)?;
        let (unit, process) = match Self::unit(service, &asked)? {
            Look::At(unit, process) => (unit, process),
            Look::Changing => {
                return Ok(Seen {
                    phase: Phase::Stopping,
                    process: None,
                    cgroup_id: 0,
                    healer: None,
                });
            }
        };
        let cgroups = self.cgroups.as_ref();
        let own = Some(&*unit.control_group).filter(|path| path.len() > 1);
        let cgroup_id = cgroups.zip(own).and_then(|(fs, path)| fs.id_of(path));
        let (phase, between) = asked.known.memory().judge(&unit);
        if between {
            // Told now: that it was stopped. The next look finds what runs by now.
            self.nudge.service(service);
        }
        if phase == Phase::Running && process.is_none() {
            let why = "it is active without a main process: systemd does not know which of its processes that is (`PIDFile=` says so for Type=forking)";
            return Err(failed(service, why));
        }
        Ok(Seen {
            healer: unit.healer(&phase),
            // One that is being started is told of when it is ready.
            process: process.filter(|_| !matches!(phase, Phase::Starting | Phase::Stopped)),
            phase,
            cgroup_id: cgroup_id.unwrap_or(0),
        })
    }

    fn every(&self) -> Option<Duration> {
        None
    }

    fn restart(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        self.order(service, &orders::RESTART, term_grace)
    }

    fn stop(&self, service: &str, term_grace: Duration) -> Result<(), HostError> {
        self.order(service, &orders::STOP, term_grace)
    }

    fn start(&self, service: &str) -> Result<(), HostError> {
        self.order(service, &orders::START, Duration::ZERO)
    }

    fn reload(&self, service: &str) -> Result<Option<String>, HostError> {
        self.reloads(service)
    }
}

#[cfg(test)]
#[path = "systemd/tests.rs"]
mod tests;
