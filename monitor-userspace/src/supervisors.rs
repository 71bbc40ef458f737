//! Supervisors: who starts and stops a service. A file each, and a line in `supervisors!`.
//!
//! The daemon runs `kind = "command"` itself ([`command`]). Services of the other kinds are run by somebody else, who is asked and told
//! ([`Source`]), and whose word decides whether an end was a fault ([`followed`]). A supervisor tells the pipeline what became of a
//! service through [`Notify`]; it decides nothing.

pub mod command;
#[path = "supervisors/shared/exchange.rs"]
mod exchange;
#[path = "supervisors/shared/followed.rs"]
pub mod followed;
#[path = "supervisors/shared/found.rs"]
mod found;
#[path = "supervisors/shared/nudge.rs"]
mod nudge;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::HostError;
use crate::host::command::Runner;
use crate::model::{Healer, ProcessKey, ServiceSignal};
use command::Commands;
use followed::Followed;
pub use found::{Discovered, Found};
pub use nudge::Nudge;

/// What a supervisor declares of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// File stem, and the `kind` in the configuration.
    pub name: &'static str,
    /// What it runs, in one line.
    pub summary: &'static str,
    /// From a service's name and what its `with` says to what is acted on: the words that stand in plans. None for those that are no
    /// [`Source`].
    pub read: Option<Read>,
    /// Begins to talk to it; none for those that are no [`Source`].
    pub source: Option<fn(Tools) -> Arc<dyn Source>>,
    /// What it runs on this host now; none for those that nobody can be asked about.
    pub discover: Option<fn() -> Discovered>,
}

/// See [`Spec::read`].
pub type Read = fn(&str, &toml::Table) -> Result<Vec<String>, String>;

/// What the daemon lends to a supervisor.
#[derive(Clone, Debug)]
pub struct Tools {
    /// To say that something may have changed.
    pub nudge: Nudge,
    /// Runs programs.
    pub runner: Arc<Runner>,
}

macro_rules! supervisors {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Every kind of service.
        pub const KINDS: &[Spec] = &[command::SPEC, $($name::SPEC,)*];
    };
}

supervisors! {
    container,
    listener,
    none,
    pid_file,
    pm2,
    supervisord,
    systemd,
}

/// Somebody else who runs services. All of it may wait, for some seconds at most.
pub trait Source: Send + Sync + fmt::Debug {
    /// These are followed from now on, and no others: what `with` says of each, which [`Spec::read`] has found good.
    fn configure(&self, services: &BTreeMap<String, toml::Table>);

    /// How a service is. An error: they cannot be asked, or know no such service.
    fn look(&self, service: &str) -> Result<Seen, HostError>;

    /// How often to look where nothing says that something changed; none where they always say so.
    fn every(&self) -> Option<Duration>;

    /// How long they are left alone when a process has ended that they will start anew: a question would keep them from that.
    fn head_start(&self) -> Duration {
        Duration::ZERO
    }

    /// Starts it anew, and waits until they say that it is done.
    fn restart(&self, service: &str, term_grace: Duration) -> Result<(), HostError>;

    /// Stops it, to stay so, and waits until they say that it is done.
    fn stop(&self, service: &str, term_grace: Duration) -> Result<(), HostError>;

    /// Starts it, and waits until they say that it is done.
    fn start(&self, service: &str) -> Result<(), HostError>;

    /// Has it read its configuration again, in their way: what went wrong. An error where they have none.
    fn reload(&self, service: &str) -> Result<Option<String>, HostError>;
}

/// A service, as those who run it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its main process.
    pub process: Option<ProcessKey>,
    /// The number of the cgroup that is its alone; 0 for none.
    pub cgroup_id: u64,
    /// Whether they start it anew by themselves when it has ended, and how long that takes at most.
    pub healer: Option<Healer>,
}

/// Where a service is in its life, as those who run it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They start it, for the first time or anew.
    Starting,
    /// It runs.
    Running,
    /// They were told to stop it, and are at it.
    Stopping,
    /// It was stopped because they were told to, or never started.
    Stopped,
    /// It ended by itself, or could not be started, and they do nothing about it.
    Failed {
        /// Why, in their words.
        why: String,
        /// They did, and have given up.
        gave_up: bool,
    },
}

/// What a supervisor tells. Never lost: an implementation waits rather than drop.
pub trait Notify: Send + Sync + fmt::Debug {
    /// What became of a service.
    fn service(&self, service: &str, change: ServiceSignal);

    /// A service's process is to be watched: this file becomes readable when it has ended.
    fn watch(&self, service: &str, process: ProcessKey, pidfd: OwnedFd);

    /// A service that was just started has a cgroup: this file tells how its processes stall for lack of memory. Until the next
    /// [`Notify::service`].
    fn pressure(&self, service: &str, file: File);
}

/// Everybody who runs services.
#[derive(Debug)]
pub struct Supervisors {
    /// The daemon's own.
    pub commands: Arc<Commands>,
    notify: Arc<dyn Notify>,
    /// Runs programs.
    pub runner: Arc<Runner>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    followed: BTreeMap<&'static str, Arc<Followed>>,
    /// Who runs which service.
    kinds: BTreeMap<String, &'static str>,
}

/// A service of the configuration that somebody else runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// Who: a name of [`KINDS`].
    pub kind: &'static str,
    /// What is acted on, as it stands in plans.
    pub words: Vec<String>,
    /// What `with` says.
    pub with: toml::Table,
}

/// Who runs a service.
#[derive(Debug)]
pub enum Owner {
    /// The daemon.
    Us(Arc<Commands>),
    /// Somebody else.
    Them(Arc<Followed>),
}

impl Supervisors {
    /// Nobody but the daemon, so far.
    pub fn new(commands: Arc<Commands>, notify: Arc<dyn Notify>, runner: Arc<Runner>) -> Self {
        Self {
            commands,
            notify,
            runner,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Services of others that are followed from now on, and no others. Those whom nobody has asked for yet are begun to be talked to now.
    pub fn follow(&self, outside: &BTreeMap<String, Outside>) -> std::io::Result<()> {
        let mut state = self.lock();
        state.kinds = outside
            .iter()
            .map(|(name, outside)| (name.clone(), outside.kind))
            .collect();
        for spec in KINDS {
            let Some(source) = spec.source else { continue };
            let own = outside.iter().filter(|(_, it)| it.kind == spec.name);
            let own: BTreeMap<String, Outside> =
                own.map(|(name, it)| (name.clone(), it.clone())).collect();
            let known = state.followed.get(spec.name).cloned();
            let followed = match known {
                Some(followed) => followed,
                None if own.is_empty() => continue,
                None => {
                    let nudge = Nudge::new()?;
                    let tools = Tools {
                        nudge: nudge.clone(),
                        runner: Arc::clone(&self.runner),
                    };
                    let notify = Arc::clone(&self.notify);
                    let runner = Arc::clone(&self.runner);
                    let followed =
                        Followed::start(spec.name, source(tools), nudge, notify, runner)?;
                    state.followed.insert(spec.name, Arc::clone(&followed));
                    followed
                }
            };
            followed.configure(own);
        }
        Ok(())
    }

    /// Who runs a service.
    pub fn owner(&self, service: &str) -> Owner {
        let state = self.lock();
        let kind = state.kinds.get(service);
        match kind.and_then(|kind| state.followed.get(kind)) {
            Some(followed) => Owner::Them(Arc::clone(followed)),
            None => Owner::Us(Arc::clone(&self.commands)),
        }
    }
}
