//! What is asked of a single service: to stop and stay so, to start, to read its configuration again.

use std::time::Duration;

use super::{Commands, Managed, add_environment, end, end_rest, lock};
use crate::host::command::{Ended, Order, Runner};
use crate::host::signals::Held;
use crate::host::{HostError, Opened, Reloaded, Restarted, clock, procfs};
use crate::model::command::Reload;
use crate::model::{ProcessKey, ServiceSignal, Time};

/// How long a process that does not take a signal as a word to reload may take to end of it.
const SETTLES: Duration = Duration::from_millis(500);
/// How long a command that reloads a service may take.
const RELOADS: Duration = Duration::from_secs(30);

impl Commands {
    /// Stops a service, which stays so until [`Commands::start_asked`]; a restart of the daemon does not start it either. When this
    /// began.
    pub fn stop_asked(
        &self,
        name: &str,
        process: Option<ProcessKey>,
        grace: Duration,
    ) -> Result<Time, HostError> {
        let managed = self.managed(name)?;
        let mut managed = lock(&managed);
        managed.is_wanted(name)?;
        let runs = managed.running();
        match (process, runs) {
            (Some(meant), None) => return Err(HostError::Gone(meant)),
            (meant, Some(found)) if meant != Some(found) => {
                return Err(HostError::Replaced {
                    service: name.to_owned(),
                    found,
                });
            }
            _ => {}
        }
        let acted = clock::now();
        self.adoption.keep_stopped(name, true);
        self.notify.service(name, ServiceSignal::Stopped);
        if let Some(held) = managed.held.take()
            && let Err(error) = end(name, &held, &managed, grace)
        {
            // It still runs, and is watched as before.
            self.adoption.keep_stopped(name, false);
            self.hold(name, &mut managed, held, true);
            return Err(error);
        }
        managed.stopped = true;
        let cgroups = [managed.last_cgroup.take(), managed.cgroup.take()];
        for cgroup in cgroups.into_iter().flatten() {
            end_rest(name, &cgroup);
        }
        self.hearing.close(name);
        self.adoption.note(name, None, None);
        Ok(acted)
    }

    /// Starts a service that does not run. From here on, it is one that is to run, also when this start fails.
    pub fn start_asked(&self, name: &str, command: &[String]) -> Result<Restarted, HostError> {
        let managed = self.managed(name)?;
        let mut managed = lock(&managed);
        if !managed.wanted {
            return Err(HostError::NoService(name.to_owned()));
        }
        if managed.program.command != command {
            return Err(HostError::OtherCommand(name.to_owned()));
        }
        if let Some(process) = managed.running() {
            return Err(HostError::Runs {
                service: name.to_owned(),
                process,
            });
        }
        if let Some(held) = managed.held.take() {
            end(name, &held, &managed, Duration::ZERO)?;
        }
        managed.stopped = false;
        self.adoption.keep_stopped(name, false);
        self.start(name, &mut managed)
    }

    /// Has a service read its configuration again. It is waited for: one that ends of it, or a command that fails, is told.
    pub fn reload_asked(
        &self,
        name: &str,
        process: ProcessKey,
        how: &Reload,
        runner: &Runner,
    ) -> Result<Reloaded, HostError> {
        let managed = self.managed(name)?;
        let (held, order) = {
            let managed = lock(&managed);
            managed.is_wanted(name)?;
            match managed.running() {
                Some(found) if found == process => {}
                Some(found) => {
                    return Err(HostError::Replaced {
                        service: name.to_owned(),
                        found,
                    });
                }
                None => return Err(HostError::Gone(process)),
            }
            // Of its own: the service can be restarted meanwhile.
            (Held::open(process)?, managed.order(name, how)?)
        };
        let acted = clock::now();
        let refused = match (how, order) {
            (Reload::Signal(signal), _) => {
                held.reload(*signal)?;
                None
            }
            (Reload::Supervisor, _) => {
                Some("the daemon runs it, and has no way of its own to do that".to_owned())
            }
            (Reload::Command(_), order) => {
                let finished = runner.run(&order)?;
                let late = finished.ended == Some(Ended::Time);
                (finished.status != 0 || late).then(|| {
                    format!(
                        "it failed (wait status {:#x}): {}{}",
                        finished.status, finished.output, finished.errors
                    )
                })
            }
        };
        let ended = held.wait(SETTLES)?.then(|| "it ended of that".to_owned());
        Ok(Reloaded {
            acted,
            refused: ended.or(refused),
        })
    }
}

impl Managed {
    /// Its process, while it runs.
    fn running(&self) -> Option<ProcessKey> {
        let process = self.held.as_ref().map(Held::process);
        process.filter(|process| procfs::runs(*process))
    }

    /// Refuses one that is not to run.
    fn is_wanted(&self, name: &str) -> Result<(), HostError> {
        if self.stopped {
            return Err(HostError::Stopped(name.to_owned()));
        }
        if !self.wanted {
            return Err(HostError::NoService(name.to_owned()));
        }
        Ok(())
    }

    /// A command that has to do with the service: as its user, where it is.
    fn order(&self, name: &str, how: &Reload) -> Result<Order, HostError> {
        let command = match how {
            Reload::Signal(_) | Reload::Supervisor => Vec::new(),
            Reload::Command(command) => command.clone(),
        };
        let mut program = self.program.clone();
        add_environment(&mut program)?;
        let mut environment = program.environment;
        environment.push((super::adoption::SERVICE.to_owned(), name.to_owned()));
        Ok(Order {
            command,
            timeout: RELOADS,
            user: self.program.user,
            environment,
            folder: self.program.folder.clone(),
            ..Order::default()
        })
    }
}
