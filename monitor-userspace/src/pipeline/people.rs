//! What people ask for, on its way from the API to the core: who they are, whom it is about, and the hot thread's end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::inbox::{Inbox, Message};
use super::teller::Teller;
use crate::actions::{self, Target};
use crate::api::{Acts, People};
use crate::config::Config;
use crate::host::procfs::{self, Stat};
use crate::host::{abilities, clock};
use crate::identity::Users;
use crate::model::Subject;

/// What the configuration names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each name, and what it is the name of.
    all: BTreeMap<String, Target>,
    /// `[[process]]`: process name to the entry's name.
    processes: BTreeMap<String, String>,
}

/// The same, as configured now.
pub(super) type Subjects = Arc<Mutex<Names>>;

/// What the API needs.
pub(super) fn people(
    inbox: &Inbox,
    subjects: &Subjects,
    next_silence: u64,
    teller: &Arc<Teller>,
) -> People {
    let (inbox, teller) = (inbox.clone(), Arc::clone(teller));
    let subjects = Arc::clone(subjects);
    let users = Mutex::new(Users::of("/etc/passwd"));
    let named = Arc::clone(&subjects);
    let acts = Acts {
        find: Box::new(move |name| find(&lock(&named), name)),
        rows: Box::new(|| actions::rows(&abilities::read())),
        watch: Box::new(move |service| teller.released(service)),
    };
    People::new(
        Box::new(move |user| {
            let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
            users
                .name(user, clock::now())
                .map(|name| name.as_ref().to_owned())
        }),
        Box::new(move || lock(&subjects).all.keys().cloned().collect()),
        acts,
        Box::new(move |asked| inbox.try_send(Message::Person(Box::new(asked)))),
        next_silence,
    )
}

fn lock(subjects: &Mutex<Names>) -> MutexGuard<'_, Names> {
    subjects.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a configuration names.
pub(super) fn name(subjects: &Subjects, config: &Config) {
    let services = config.services.iter();
    let services = services.map(|service| (service.name.clone(), Target::Service));
    let processes = config.groups.values();
    let processes = processes.map(|entry| (entry.clone(), Target::Process));
    let networks = config.networks.iter();
    let networks = networks.map(|way| (way.name.clone(), Target::Network));
    let folders = config.folders.iter();
    let folders = folders.map(|folder| (folder.name.clone(), Target::Folder));
    let all = services.chain(processes).chain(networks).chain(folders);
    *lock(subjects) = Names {
        all: all.collect(),
        processes: config.groups.clone(),
    };
}

/// Processes that are listed where one must be chosen.
const LISTED: usize = 10;

/// Whom a name or `pid:N` means.
fn find(names: &Names, name: &str) -> Result<Subject, String> {
    if let Some(pid) = name.strip_prefix("pid:") {
        return by_pid(pid);
    }
    let kind = names.all.get(name).ok_or_else(|| {
        let all = names.all.keys().map(String::as_str).collect::<Vec<_>>();
        let all = if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        };
        format!("nothing is called {name:?}: the configuration names {all}; a process can be named as pid:N")
    })?;
    let name = name.to_owned();
    match kind {
        Target::Service => Ok(Subject::Service { name }),
        Target::Folder => Ok(Subject::Folder { name }),
        Target::Network => Ok(Subject::Network { name }),
        Target::Process => the_process(names, &name),
    }
}

fn by_pid(pid: &str) -> Result<Subject, String> {
    let pid: u32 = pid
        .parse()
        .map_err(|_| format!("pid:{pid} is no process: write its number, as in pid:4711"))?;
    let stat = procfs::stat(pid).filter(|_| procfs::is_process(pid));
    let stat = stat.ok_or_else(|| format!("no process has the number {pid}"))?;
    Ok(subject(&stat))
}

fn subject(stat: &Stat) -> Subject {
    Subject::Process {
        process: stat.key,
        comm: stat.comm.clone(),
        group: None,
    }
}

/// The only process of a `[[process]]` entry.
fn the_process(names: &Names, entry: &str) -> Result<Subject, String> {
    let all = procfs::processes().map_err(|error| format!("cannot read /proc: {error}"))?;
    let of = |stat: &&Stat| {
        names
            .processes
            .get(&stat.comm)
            .is_some_and(|of| of == entry)
    };
    let found: Vec<&Stat> = all.iter().filter(|stat| !stat.exiting).filter(of).collect();
    match found.as_slice() {
        [] => Err(format!("no process of {entry} runs")),
        [one] => Ok(subject(one)),
        several => {
            let listed = several.iter().take(LISTED);
            let listed: Vec<_> = listed
                .map(|stat| format!("pid:{} ({})", stat.key.pid, stat.comm))
                .collect();
            Err(format!(
                "{} processes of {entry} run, say which: {}{}",
                several.len(),
                listed.join(", "),
                if several.len() > LISTED { ", ..." } else { "" }
            ))
        }
    }
}

/// Requests that the core has taken, until the board shows what became of them.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<oneshot::Sender<Result<(), String>>>);

impl Taken {
    pub(super) fn add(&mut self, taken: oneshot::Sender<Result<(), String>>) {
        self.0.push(taken);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The board shows it.
    pub(super) fn tell(&mut self) {
        for taken in self.0.drain(..) {
            // Who no longer waits was told to look for himself.
            let _ = taken.send(Ok(()));
        }
    }
}
