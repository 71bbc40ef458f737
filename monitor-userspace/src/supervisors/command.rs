//! `kind = "command"`: services that the daemon starts itself, each as a process in the foreground.
//!
//! They outlive the daemon: the next start finds each again and takes it over instead of starting a second one. Consumes what the
//! configuration names, emits through [`Notify`]. Each has a cgroup of its own, by which its whole process tree is known and ended;
//! where there can be none, it runs without, and `Commands::limitation` says so.

mod adoption;
mod asked;
mod hearing;
mod later;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::{Notify, Spec};
use crate::host::capture::Captured;
use crate::host::environment_file;
use crate::host::exec::{self, Program};
use crate::host::notify::notices::{Began, Notices};
use crate::host::service_cgroup::{Cgroups, ServiceCgroup};
use crate::host::signals::Held;
use crate::host::{HostError, Opened, Restarted, clock, procfs};
use crate::model::{ProcessKey, ServiceSignal, Time};
use adoption::Adoption;
use hearing::Hearing;
use later::Later;
pub use later::NotNow;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "command",
    summary: "a program that the daemon starts itself and keeps in the foreground",
    read: None,
    source: None,
    discover: None,
};

/// How long a process may take to die of SIGKILL.
const DYING: Duration = Duration::from_secs(10);

/// All services of this kind.
#[derive(Debug)]
pub struct Commands {
    instance: PathBuf,
    adoption: Adoption,
    cgroups: Option<Cgroups>,
    limitation: Mutex<Option<String>>,
    /// Folder for the output of services; none when it goes where the daemon's goes.
    logs: Option<Arc<Captured>>,
    /// Why output is not captured, though it should be.
    uncaptured: Mutex<Option<String>>,
    notify: Arc<dyn Notify>,
    services: Mutex<BTreeMap<String, Arc<Mutex<Managed>>>>,
    later: Later,
    hearing: Hearing,
    /// Itself, for the thread that listens to services.
    own: OnceLock<Weak<Self>>,
}

#[derive(Debug)]
struct Managed {
    program: Program,
    held: Option<Held>,
    cgroup: Option<ServiceCgroup>,
    /// The one before, empty: removed when that costs no start its time.
    last_cgroup: Option<ServiceCgroup>,
    wanted: bool,
    /// A person or a rule wants it so, until it is started.
    stopped: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Commands {
    /// No services yet. `instance` is the daemon's state folder; what services write goes to files in `logs`, else where the daemon's
    /// goes; sockets for what they say of themselves are made in `sockets`.
    pub fn new(
        instance: &Path,
        logs: Option<PathBuf>,
        sockets: PathBuf,
        notify: Arc<dyn Notify>,
    ) -> Arc<Self> {
        let services = Mutex::new(BTreeMap::new());
        let adoption = Adoption::new(instance);
        let (cgroups, without) = match Cgroups::find(instance) {
            Ok(cgroups) => (Some(cgroups), None),
            Err(error) => (None, Some(error)),
        };
        let commands = Self {
            instance: instance.to_owned(),
            adoption,
            cgroups,
            limitation: Mutex::default(),
            logs: logs.map(|folder| Arc::new(Captured::new(folder))),
            uncaptured: Mutex::default(),
            notify,
            services,
            later: Later::default(),
            hearing: Hearing::new(sockets),
            own: OnceLock::new(),
        };
        if let Some(error) = without {
            commands.limited(&error);
        }
        let commands = Arc::new(commands);
        let _only_once = commands.own.set(Arc::downgrade(&commands));
        commands
    }

    /// The daemon's state folder.
    pub fn instance(&self) -> &Path {
        &self.instance
    }

    /// The folder of the files that services write to; none where they write to what the daemon does.
    pub fn logs(&self) -> Option<PathBuf> {
        let logs = self.logs.as_ref();
        logs.map(|captured| captured.folder().to_owned())
    }

    /// These files, and how long they may become.
    pub fn captured(&self) -> Option<Arc<Captured>> {
        self.logs.clone()
    }

    /// What services say of themselves.
    pub fn notices(&self) -> Arc<Notices> {
        self.hearing.notices()
    }

    /// What it cannot do on this host.
    pub fn limitations(&self) -> Vec<String> {
        let both = [&self.limitation, &self.uncaptured];
        let both = both
            .into_iter()
            .filter_map(|limitation| lock(limitation).clone());
        both.collect()
    }

    /// Where the output of a service that is about to start goes; none for where the daemon's goes.
    fn output(&self, name: &str, program: &Program) -> Option<File> {
        let opened = self.logs.as_ref()?.open(name, program.user);
        let mut uncaptured = lock(&self.uncaptured);
        match opened {
            Ok(file) => {
                *uncaptured = None;
                Some(file)
            }
            Err(error) => {
                let text = format!(
                    "the output of {name} goes where the daemon's goes, and is not in its incidents: cannot {error}"
                );
                tracing::warn!("{text}");
                *uncaptured = Some(text);
                None
            }
        }
    }

    /// Says it once.
    fn limited(&self, error: &HostError) {
        let mut limitation = lock(&self.limitation);
        if limitation.is_none() {
            let text = format!(
                "services run without a cgroup of their own ({error}): of a service that ends, only its process group is ended with it; under systemd the unit needs Delegate=yes"
            );
            tracing::warn!("{text}");
            *limitation = Some(text);
        }
    }

    /// Takes what the configuration wants: starts (or takes over) what is new, stops what is gone; a changed command is used at the
    /// service's next start. `may_start` is asked right before each start; one that it refuses is told as a start that failed, so
    /// that a restart can be decided about; one that something else is to start is left to that. Returns the names whose command changed.
    pub fn apply(
        &self,
        wanted: &BTreeMap<String, Program>,
        stop_grace: Duration,
        may_start: impl Fn(&str, &Program) -> Result<(), NotNow>,
    ) -> Vec<String> {
        let mut changed = Vec::new();
        if let Some(captured) = &self.logs {
            let bounds = wanted.iter();
            let bounds = bounds.map(|(name, program)| (name.clone(), program.log));
            captured.bound(bounds.collect());
        }
        let gone: Vec<String> = lock(&self.services)
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.stop(&name, stop_grace);
            self.adoption.keep_stopped(&name, false);
            lock(&self.services).remove(&name);
        }
        if let Some(cgroups) = &self.cgroups {
            cgroups.sweep(wanted.keys().map(String::as_str));
        }
        let mut marked = None;
        for (name, program) in wanted {
            let known = lock(&self.services).get(name).cloned();
            if let Some(managed) = known {
                let mut managed = lock(&managed);
                if managed.program != *program {
                    if managed.program.notify != program.notify
                        && let Some(held) = &managed.held
                    {
                        let main = held.process();
                        self.listen_to(name, program, Some(main.pid));
                        self.hearing.runs(name, main, managed.cgroup.as_ref());
                    }
                    managed.program.clone_from(program);
                    changed.push(name.clone());
                }
                continue;
            }
            let managed = Managed {
                program: program.clone(),
                held: None,
                cgroup: None,
                last_cgroup: None,
                wanted: true,
                stopped: false,
            };
            let managed = Arc::new(Mutex::new(managed));
            // Whoever asks for it from now on waits until it is known whether it runs.
            let shared = Arc::clone(&managed);
            let mut managed = lock(&managed);
            lock(&self.services).insert(name.clone(), shared);
            self.later.is_there(name);
            let marked = marked.get_or_insert_with(|| self.adoption.marked());
            let uid = program
                .user
                .map_or_else(|| rustix::process::getuid().as_raw(), |(uid, _)| uid);
            let noted = self.adoption.cgroup(name);
            let noted = noted.as_ref().and_then(ServiceCgroup::at);
            let found = self.adoption.find(name, uid, marked, noted.as_ref());
            let earlier = || self.cgroups.as_ref()?.earlier(name);
            managed.cgroup = noted.or_else(earlier);
            match found.and_then(|process| Held::open(process).ok()) {
                Some(held) => {
                    let pid = held.process().pid;
                    tracing::info!(service = %name, pid, "found running, taken over");
                    // Started without one, it stays without one until its next start.
                    managed.cgroup = managed.cgroup.take().filter(|cgroup| cgroup.holds(pid));
                    self.listen_to(name, program, Some(pid));
                    self.hold(name, &mut managed, held, true);
                    self.adoption.keep_stopped(name, false);
                }
                None if self.adoption.is_stopped(name) => {
                    tracing::info!(service = %name, "it was stopped, and stays so");
                    managed.stopped = true;
                    self.notify.service(name, ServiceSignal::Stopped);
                }
                None => match may_start(name, program) {
                    Ok(()) => {
                        if let Err(error) = self.start(name, &mut managed) {
                            tracing::error!(service = %name, %error, "cannot start the service");
                        }
                    }
                    Err(NotNow::Waits(reason)) => {
                        tracing::warn!(service = %name, %reason, "the service is not started yet");
                        self.later.waits(name);
                    }
                    Err(NotNow::Refused(reason)) => {
                        tracing::warn!(service = %name, %reason, "the service is not started");
                        self.notify
                            .service(name, ServiceSignal::StartFailed { reason });
                    }
                },
            }
        }
        changed
    }

    fn hold(&self, name: &str, managed: &mut Managed, held: Held, adopted: bool) {
        let process = held.process();
        let started = ServiceSignal::Started {
            process,
            adopted,
            cgroup_id: managed.cgroup.as_ref().map_or(0, ServiceCgroup::id),
        };
        self.notify.service(name, started);
        match managed.cgroup.as_ref().map(ServiceCgroup::memory_pressure) {
            Some(Ok(file)) => self.notify.pressure(name, file),
            Some(Err(error)) => {
                tracing::debug!(service = %name, %error, "no file tells its memory pressure");
            }
            None => {}
        }
        match held.try_clone_fd() {
            Ok(pidfd) => self.notify.watch(name, process, pidfd),
            Err(error) => {
                tracing::error!(service = %name, %error, "its end will only be seen by the kernel's event");
            }
        }
        managed.held = Some(held);
        self.hearing.runs(name, process, managed.cgroup.as_ref());
        let place = managed.cgroup.as_ref().map(ServiceCgroup::place);
        self.adoption.note(name, Some(process), place);
    }

    /// A new cgroup for a start. Nothing of the process before is left in the old one after this.
    fn renew_cgroup(&self, name: &str, managed: &mut Managed) {
        if let Some(last) = managed.last_cgroup.take() {
            end_rest(name, &last);
        }
        managed.last_cgroup = managed.cgroup.take();
        let old = managed.last_cgroup.as_ref();
        if let Some(old) = old {
            end_workers(name, old);
        }
        let Some(cgroups) = &self.cgroups else {
            return;
        };
        match cgroups.make(name, old) {
            Ok(cgroup) => managed.cgroup = Some(cgroup),
            Err(error) => self.limited(&error),
        }
    }

    /// Listens to a service that is about to be started, or was found running as this process; where to.
    fn listen_to(&self, name: &str, program: &Program, found: Option<u32>) -> Option<PathBuf> {
        if program.notify.is_none() {
            self.hearing.close(name);
            return None;
        }
        let own = self.own.get()?;
        match self.hearing.open(name, program.user, own) {
            Ok(path) => {
                let began = match found {
                    None => Began::Started,
                    Some(pid) if hearing::knows(pid, &path) => Began::Found,
                    Some(_) => Began::Deaf,
                };
                self.hearing.begin(name, began);
                Some(path)
            }
            Err(error) => {
                tracing::error!(service = %name, %error, "it has no way to say that it is ready");
                None
            }
        }
    }

    /// Its time is before anybody hears of the new process: what they find out about it then comes after the act.
    fn start(&self, name: &str, managed: &mut Managed) -> Result<Restarted, HostError> {
        self.later.begins(name);
        let mut program = managed.program.clone();
        program
            .environment
            .push((adoption::SERVICE.to_owned(), name.to_owned()));
        program.environment.push((
            adoption::INSTANCE.to_owned(),
            self.instance.display().to_string(),
        ));
        if let Err(error) = add_environment(&mut program) {
            let reason = error.to_string();
            self.notify
                .service(name, ServiceSignal::StartFailed { reason });
            return Err(error);
        }
        self.renew_cgroup(name, managed);
        if let Some(socket) = self.listen_to(name, &program, None) {
            let mut tell = |name: &str, value: String| {
                program.environment.push((name.to_owned(), value));
            };
            tell("NOTIFY_SOCKET", socket.display().to_string());
            let watchdog = managed.program.notify.and_then(|notify| notify.watchdog);
            if let Some(time) = watchdog {
                tell("WATCHDOG_USEC", time.as_micros().to_string());
            }
        }
        let output = self.output(name, &program);
        match exec::start(&program, managed.cgroup.as_ref(), output.as_ref()) {
            Ok(held) => {
                let acted = clock::now();
                let process = held.process();
                let outside = managed.cgroup.take_if(|cgroup| !cgroup.holds(process.pid));
                if let Some(cgroup) = outside.filter(|_| procfs::runs(process)) {
                    self.limited(&cgroup.not_entered());
                }
                self.hold(name, managed, held, false);
                Ok(Restarted { process, acted })
            }
            Err(error) => {
                let reason = error.to_string();
                self.notify
                    .service(name, ServiceSignal::StartFailed { reason });
                Err(error)
            }
        }
    }

    /// Ends what is left of a service and starts it anew.
    pub fn restart(
        &self,
        name: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
        command: &[String],
    ) -> Result<Restarted, HostError> {
        let managed = self.managed(name)?;
        let mut managed = lock(&managed);
        if managed.stopped {
            return Err(HostError::Stopped(name.to_owned()));
        }
        if !managed.wanted {
            return Err(HostError::NoService(name.to_owned()));
        }
        if managed.program.command != command {
            return Err(HostError::OtherCommand(name.to_owned()));
        }
        let mut ended = None;
        if let Some(held) = &managed.held {
            let found = held.process();
            if process.is_some_and(|meant| meant != found) {
                return Err(HostError::Replaced {
                    service: name.to_owned(),
                    found,
                });
            }
            ended = end(name, held, &managed, term_grace)?;
        }
        managed.held = None;
        let started = self.start(name, &mut managed)?;
        let acted = ended.unwrap_or(started.acted);
        Ok(Restarted { acted, ..started })
    }

    fn managed(&self, name: &str) -> Result<Arc<Mutex<Managed>>, HostError> {
        self.later.until_there(name);
        let managed = lock(&self.services).get(name).cloned();
        managed.ok_or_else(|| HostError::NoService(name.to_owned()))
    }

    /// The main process of a service; none when it does not run.
    pub fn running(&self, name: &str) -> Result<Option<ProcessKey>, HostError> {
        let managed = self.managed(name)?;
        let process = lock(&managed).held.as_ref().map(Held::process);
        Ok(process.filter(|process| procfs::runs(*process)))
    }

    /// Stops a service for good.
    pub fn stop(&self, name: &str, grace: Duration) {
        let Some(managed) = lock(&self.services).get(name).cloned() else {
            return;
        };
        let mut managed = lock(&managed);
        managed.wanted = false;
        self.notify.service(name, ServiceSignal::Stopped);
        let held = managed.held.take();
        if let Some(held) = &held
            && let Err(error) = end(name, held, &managed, grace)
        {
            tracing::error!(service = %name, %error, "cannot stop the service");
            return;
        }
        let cgroups = [managed.last_cgroup.take(), managed.cgroup.take()];
        for cgroup in cgroups.into_iter().flatten() {
            end_rest(name, &cgroup);
        }
        self.hearing.close(name);
        self.adoption.note(name, None, None);
    }

    /// Stops all of them at the same time.
    pub fn stop_all(&self, grace: Duration) {
        let names: Vec<String> = lock(&self.services).keys().cloned().collect();
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(move || self.stop(name, grace));
            }
        });
    }
}

/// Reads what a program's environment has from a file. What stands in the configuration comes after it, and so counts.
fn add_environment(program: &mut Program) -> Result<(), HostError> {
    let Some(path) = &program.environment_file else {
        return Ok(());
    };
    let mut read = environment_file::read(path).map_err(|why| HostError::System {
        what: "its environment".to_owned(),
        source: std::io::Error::other(why),
    })?;
    read.append(&mut program.environment);
    program.environment = read;
    Ok(())
}

/// Ends a process of ours, waits until it is gone, and takes its exit status. Returns when it was told to end; none for one that
/// had ended, or begun to, by itself.
fn end(
    name: &str,
    held: &Held,
    managed: &Managed,
    grace: Duration,
) -> Result<Option<Time>, HostError> {
    let process = held.process();
    let exiting = procfs::stat(process.pid).is_none_or(|stat| stat.key != process || stat.exiting);
    let told = (!exiting).then(clock::now);
    let (program, cgroup) = (&managed.program, managed.cgroup.as_ref());
    let grace = program.stop_timeout.unwrap_or(grace);
    if told.is_some() {
        match held.ask_to_end(program.stop_signal.unwrap_or_default()) {
            Ok(()) if !held.wait(grace)? => match held.kill() {
                Ok(()) => held.release_memory(),
                Err(HostError::Gone(_)) => {}
                Err(error) => return Err(error),
            },
            Ok(()) | Err(HostError::Gone(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if !held.wait(DYING)? {
        return Err(HostError::Undying {
            process,
            within: DYING,
        });
    }
    if let Some(cgroup) = cgroup {
        end_workers(name, cgroup);
    }
    held.bury();
    Ok(told)
}

/// Ends what a service that has ended left in its cgroup.
fn end_workers(name: &str, cgroup: &ServiceCgroup) {
    match cgroup.end() {
        Ok(false) => {}
        Ok(true) => tracing::info!(service = %name, "what it left behind was ended"),
        Err(error) => {
            tracing::error!(service = %name, %error, "what it left behind is not ended");
        }
    }
}

/// The same, for good.
fn end_rest(name: &str, cgroup: &ServiceCgroup) {
    end_workers(name, cgroup);
    if let Err(error) = cgroup.remove() {
        tracing::warn!(service = %name, %error, "its cgroup stays behind");
    }
}
