//! What services say to their sockets (`NOTIFY_SOCKET`): a thread of its own, from the first service on that is to say something.
//!
//! Only the service's own processes are listened to: those in its cgroup, or where it has none those of its process group. Of one
//! service, [`TURN`] datagrams are read in [`REST`] at most: what comes faster waits in the socket, and with it who sends it. A socket that
//! anybody can write to is closed to others once a stranger has done so, and it is known which user the service speaks as.

mod ear;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::Commands;
use crate::host::notify::notices::{Began, Notices};
use crate::host::notify::{Datagram, LONGEST, Said, Socket};
use crate::host::service_cgroup::ServiceCgroup;
use crate::host::signals::Held;
use crate::host::{HostError, clock, procfs};
use crate::model::{ProcessKey, Time};
use ear::{Ear, REST, TURN, Whose};

/// Between two changes of a service's main process, at least.
const SETTLES: Duration = Duration::from_secs(1);
/// Most processes that were main ones, and have not ended yet.
const LEAVING: usize = 256;
/// How long a new main process is tried to be taken over while the service is being started or stopped.
const MOVES: Duration = Duration::from_secs(10);
/// Between two such tries.
const AGAIN: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Hearing {
    folder: PathBuf,
    notices: Arc<Notices>,
    ears: Mutex<Ears>,
}

#[derive(Debug, Default)]
struct Ears {
    sockets: BTreeMap<String, Ear>,
    /// Children of ours that were main processes, until they end.
    leaving: Vec<Held>,
    /// Processes that are to be the main ones; one a service.
    moving: BTreeMap<String, Move>,
    /// Wakes the thread; none before there is one.
    wake: Option<OwnedFd>,
}

/// A process that is to be the main one of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    process: ProcessKey,
    /// Not before.
    from: Time,
    /// It is tried until then.
    until: Time,
}

impl Hearing {
    /// Sockets are made in this folder, each with its service's name.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            notices: Arc::default(),
            ears: Mutex::default(),
        }
    }

    pub(super) fn notices(&self) -> Arc<Notices> {
        Arc::clone(&self.notices)
    }

    fn lock(&self) -> MutexGuard<'_, Ears> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the socket of a service that is about to be started, or keeps the one it has; its path.
    pub(super) fn open(
        &self,
        service: &str,
        user: Option<(u32, u32)>,
        commands: &Weak<Commands>,
    ) -> Result<PathBuf, HostError> {
        let mut ears = self.lock();
        if ears.wake.is_none() {
            ears.wake = Some(start(commands.clone())?);
        }
        ears.moving.remove(service);
        if let Some(ear) = ears.sockets.get_mut(service) {
            ear.begin(user)?;
            return Ok(ear.socket.path().to_owned());
        }
        let path = self.folder.join(service);
        let ear = Ear::new(Socket::bind(&path, user)?, user);
        ears.sockets.insert(service.to_owned(), ear);
        Ok(path)
    }

    /// A service is about to be started, or was found running.
    pub(super) fn begin(&self, service: &str, began: Began) {
        self.notices.begin(service, began, clock::now());
    }

    /// A service runs as this process from now on. Nothing where it has no socket.
    pub(super) fn runs(&self, service: &str, main: ProcessKey, cgroup: Option<&ServiceCgroup>) {
        let mut ears = self.lock();
        // It is waited for as the main one again.
        ears.leaving.retain(|held| held.process() != main);
        let Some(ear) = ears.sockets.get_mut(service) else {
            return;
        };
        let cgroup = cgroup.and_then(|cgroup| ServiceCgroup::at(&cgroup.place()));
        let stat = procfs::stat(main.pid).filter(|stat| stat.key == main);
        // One that has ended led the group that it was started with.
        let group = stat.map_or(main.pid, |stat| stat.group);
        ear.whose = Some(Arc::new(Whose {
            main,
            group,
            cgroup,
        }));
        ears.wake();
    }

    /// A service is not listened to any more: it was stopped, or no longer has a check for it.
    pub(super) fn close(&self, service: &str) {
        let mut ears = self.lock();
        ears.sockets.remove(service);
        ears.moving.remove(service);
        ears.wake();
    }

    /// A main process whose service has another one by now: it is a child of ours until it ends.
    pub(super) fn leaves(&self, held: Held) {
        let mut ears = self.lock();
        let process = held.process();
        let known = ears.leaving.iter().any(|held| held.process() == process);
        if !known && ears.leaving.len() < LEAVING {
            ears.leaving.push(held);
        }
        ears.wake();
    }
}

impl Ears {
    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Fails only when the counter is full, and then the thread is awake anyway.
            let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
        }
    }

    /// A process of a service is to be its main one: at once, or when the one before has been that for a while.
    fn moves(&mut self, name: &str, process: ProcessKey, now: Time) {
        let moved = self.sockets.get(name).and_then(|ear| ear.moved);
        let from = moved.map_or(now, |moved| moved.after(SETTLES).max(now));
        let until = from.after(MOVES);
        let to = Move {
            process,
            from,
            until,
        };
        self.moving.insert(name.to_owned(), to);
    }
}

/// Whether a process was told of this socket when it was started.
pub(super) fn knows(pid: u32, path: &Path) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut pairs = environment.split(|byte| *byte == 0);
    let told = format!("NOTIFY_SOCKET={}", path.display());
    pairs.any(|pair| pair == told.as_bytes())
}

/// Starts the thread, which ends with the services; what wakes it.
fn start(commands: Weak<Commands>) -> Result<OwnedFd, HostError> {
    let failed = |source: std::io::Error| HostError::System {
        what: "listen to services".to_owned(),
        source,
    };
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let wake = eventfd(0, flags).map_err(|error| failed(error.into()))?;
    let own = wake.try_clone().map_err(failed)?;
    let run = move || {
        loop {
            let Some(round) = commands.upgrade().map(|it| Round::of(&it.hearing)) else {
                return;
            };
            // Its services can go while nothing happens.
            let heard = round.wait(&own);
            let Some(commands) = commands.upgrade() else {
                return;
            };
            commands.hear(heard);
        }
    };
    std::thread::Builder::new()
        .name("hearing".to_owned())
        .stack_size(256 << 10)
        .spawn(run)
        .map_err(failed)?;
    Ok(wake)
}

/// What is waited for at once.
struct Round {
    sockets: Vec<(String, Arc<Socket>, Arc<Whose>)>,
    leaving: Vec<OwnedFd>,
    /// When something is to be done in any case.
    until: Option<Time>,
}

/// Services that have said something, and who may speak for them.
type Heard = Vec<(String, Arc<Whose>)>;

impl Round {
    fn of(hearing: &Hearing) -> Self {
        let now = clock::now();
        let ears = hearing.lock();
        let moving = ears.moving.values();
        let mut until = moving.map(|it| it.from.max(now.after(AGAIN))).min();
        let mut sockets = Vec::new();
        for (name, ear) in &ears.sockets {
            if let Some(rests) = ear.rests_until(now) {
                until = Some(until.map_or(rests, |until| until.min(rests)));
                continue;
            }
            if let Some(whose) = &ear.whose {
                sockets.push((name.clone(), Arc::clone(&ear.socket), Arc::clone(whose)));
            }
        }
        let leaving = ears.leaving.iter();
        let leaving = leaving.filter_map(|held| held.try_clone_fd().ok());
        Self {
            sockets,
            leaving: leaving.collect(),
            until,
        }
    }

    fn wait(self, wake: &OwnedFd) -> Heard {
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let sockets = self.sockets.iter().map(|(_, socket, _)| socket.fd());
        let leaving = self.leaving.iter().map(AsFd::as_fd);
        let all = std::iter::once(wake.as_fd()).chain(sockets).chain(leaving);
        let mut fds: Vec<PollFd<'_>> = all.map(|fd: BorrowedFd<'_>| watch(fd)).collect();
        let left = self.until.map(|until| until.since(clock::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        if let Err(error) = poll(&mut fds, left.as_ref())
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "cannot wait for what services say");
            std::thread::sleep(REST);
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut counter = [0; 8];
        let _ = rustix::io::read(wake, &mut counter);
        let sockets = self.sockets.into_iter().zip(ready.into_iter().skip(1));
        let heard = sockets.filter(|(_, ready)| *ready);
        let heard = heard.map(|((name, _, whose), _)| (name, whose));
        heard.collect()
    }
}

impl Commands {
    /// Takes what services have said, the ends of those that were their main processes, and new main processes.
    fn hear(&self, heard: Heard) {
        let mut buffer = [0; LONGEST];
        for (name, whose) in heard {
            // Others are to be heard, too, however long one takes.
            for _ in 0..TURN {
                let now = clock::now();
                let mut ears = self.hearing.lock();
                let ear = ears.sockets.get_mut(&name);
                let received = ear.and_then(|ear| ear.next(&whose, now, &mut buffer));
                drop(ears);
                let Some(datagram) = received else { break };
                let bytes = buffer.get(..datagram.length).unwrap_or_default();
                if let Err(why) = self.take(&name, &whose, datagram, bytes)
                    && self.hearing.notices.refuse(&name) == 1
                {
                    tracing::warn!(service = %name, "what was sent to its NOTIFY_SOCKET is not taken: {why}; more of that is counted");
                }
            }
        }
        self.hearing
            .lock()
            .leaving
            .retain(|held| held.reap().is_none() && procfs::runs(held.process()));
        let moving = std::mem::take(&mut self.hearing.lock().moving);
        for (name, to) in moving {
            let settled = clock::now() >= to.from && self.new_main(&name, to.process);
            let now = clock::now();
            let mut ears = self.hearing.lock();
            if !settled {
                if now < to.until {
                    ears.moving.entry(name).or_insert(to);
                }
            } else if let Some(ear) = ears.sockets.get_mut(&name) {
                ear.moved = Some(now);
            }
        }
    }

    fn take(
        &self,
        name: &str,
        whose: &Arc<Whose>,
        datagram: Datagram,
        bytes: &[u8],
    ) -> Result<(), String> {
        let (pid, uid) = datagram
            .sender
            .ok_or("the kernel does not say who has sent it")?;
        if !whose.is(pid) {
            if procfs::real_uid(whose.main.pid) != Some(uid)
                && let Some(ear) = self.hearing.lock().sockets.get_mut(name)
                && ear.is_of(whose)
            {
                ear.close_to(uid, name);
            }
            return Err(format!(
                "process {pid} of user {uid} sent it, which is none of the service's, or ended before it was read"
            ));
        }
        if datagram.cut {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let said = Said::read(bytes)?;
        let other = said.main.filter(|main| *main != whose.main.pid);
        let other = other.map(|main| {
            let stat = procfs::stat(main).filter(|_| whose.is(main));
            stat.ok_or_else(|| format!("MAINPID={main} is no process of the service"))
        });
        let other = other.transpose()?;
        let now = clock::now();
        // Held until all of it is taken: a start that begins meanwhile would have it counted as said by the next process.
        let mut ears = self.hearing.lock();
        if !ears.sockets.get(name).is_some_and(|ear| ear.is_of(whose)) {
            return Ok(());
        }
        match other {
            Some(stat) => ears.moves(name, stat.key, now),
            None if said.main.is_some() => {
                ears.moving.remove(name);
            }
            None => {}
        }
        self.hearing.notices.take(name, &said, now);
        let ready = self.hearing.notices.of(name);
        let ready = ready.is_some_and(|(notice, _)| notice.ready.is_some());
        if let Some(ear) = ears.sockets.get_mut(name).filter(|_| ready) {
            ear.spoke_as(uid);
        }
        Ok(())
    }

    /// Takes over the process that a service says is its main one. Whether that is settled.
    fn new_main(&self, name: &str, process: ProcessKey) -> bool {
        let Some(managed) = super::lock(&self.services).get(name).cloned() else {
            return true;
        };
        let Ok(mut managed) = managed.try_lock() else {
            return false;
        };
        let before = managed.held.as_ref().map(Held::process);
        if managed.stopped || !managed.wanted || before.is_none_or(|before| before == process) {
            return true;
        }
        let own = managed.cgroup.as_ref();
        if own.is_some_and(|cgroup| !cgroup.holds(process.pid)) {
            return true;
        }
        let Ok(held) = Held::open(process) else {
            return true;
        };
        tracing::info!(service = %name, pid = process.pid, "it has another main process, as it says");
        if let Some(old) = managed.held.take() {
            self.hearing.leaves(old);
        }
        self.hold(name, &mut managed, held, true);
        true
    }
}

#[cfg(test)]
mod tests;
