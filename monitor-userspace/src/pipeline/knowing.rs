//! Who did something: a thread of its own, fed by kernel events, asked when an incident is written down.
//!
//! Apart from the hot thread, since `/proc/PID/cmdline` waits for a lock that a process stuck in the kernel may hold for ever. What it
//! finds out comes back through the inbox, decides nothing, and so does not matter to a replay. An event that finds the thread
//! behind is counted and left out: what it would have told is then read from the host when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use monitor_common::Event;

use super::inbox::{Inbox, Message};
use crate::host::clock;
use crate::identity::{Who, WhoStats};
use crate::model::evidence::SocketKey;
use crate::model::{Identity, Incident, IncidentId, ProcessKey, Time};

/// Most events and questions that wait.
const CAPACITY: usize = 1024;
/// How often what is gone for long enough is forgotten.
const COLLECT: Duration = Duration::from_secs(5);

/// What the thread is told.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events, and a box for each would be an allocation on the hot path"
)]
enum Told {
    Event(Event),
    Question { incident: IncidentId, about: About },
}

/// Whom a question is about.
#[derive(Clone, Copy)]
enum About {
    Process(ProcessKey),
    /// Whoever has it open.
    Socket(SocketKey),
}

/// What is known, in numbers.
#[derive(Debug, Default)]
pub(super) struct Known {
    stats: Mutex<WhoStats>,
    missed: AtomicU64,
    logs_unread: AtomicU64,
}

impl Known {
    /// Sizes and losses of the tables.
    pub(super) fn stats(&self) -> WhoStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that found the thread behind.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Logs of incidents that were not read.
    pub(super) fn logs_unread(&self) -> u64 {
        self.logs_unread.load(Ordering::Relaxed)
    }

    pub(super) fn count_unread_log(&self) {
        self.logs_unread.fetch_add(1, Ordering::Relaxed);
    }
}

/// The hot thread's end.
#[derive(Debug)]
pub(super) struct Knowing {
    sender: SyncSender<Told>,
    known: Arc<Known>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Knowing {
    /// Starts the thread, which ends with the returned value.
    pub(super) fn start(inbox: Inbox, known: Arc<Known>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(CAPACITY);
        let shown = Arc::clone(&known);
        Builder::new()
            .name("who".to_owned())
            .stack_size(512 << 10)
            .spawn(move || run(&receiver, &inbox, &shown))?;
        Ok(Self { sender, known })
    }

    /// Passes on what an event says of processes and cgroups. Never waits.
    pub(super) fn feed(&self, event: &Event) {
        let tells = matches!(
            event,
            Event::ProcessExec(_)
                | Event::ProcessFork(_)
                | Event::ProcessExit(_)
                | Event::CgroupChange(_)
        );
        if tells && self.sender.try_send(Told::Event(*event)).is_err() {
            self.known.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks who the process is that an incident is about, unless it says so already. Never waits.
    pub(super) fn ask(&self, incident: &Incident) {
        let evidence = &incident.evidence;
        let process = evidence.process.map(About::Process);
        let about = process.or(evidence.socket.map(About::Socket));
        if let (None, Some(about)) = (&evidence.who, about) {
            let question = Told::Question {
                incident: incident.id,
                about,
            };
            // Asked again with the next line of its story.
            let _ = self.sender.try_send(question);
        }
    }
}

/// Who that is; nobody when it is not known any more.
fn answer(who: &mut Who, about: About) -> Identity {
    let now = clock::now();
    match about {
        About::Process(process) => who.of(process, 0, now),
        About::Socket(SocketKey { inode, cgroup_id }) => who
            .of_socket(inode, cgroup_id, now)
            .map_or_else(Identity::default, |found| who.of(found.first, 0, now)),
    }
}

fn run(receiver: &Receiver<Told>, inbox: &Inbox, known: &Known) {
    let mut who = Who::open();
    let mut collected = clock::now();
    loop {
        match receiver.recv_timeout(COLLECT) {
            Ok(Told::Event(event)) => {
                let at = Time::from_kernel(event.time_ns());
                who.begins(&event, at);
                who.ends(&event, at);
            }
            Ok(Told::Question { incident, about }) => {
                let found = answer(&mut who, about);
                if found != Identity::default() {
                    inbox.send(Message::Who {
                        incident,
                        who: Box::new(found),
                    });
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = clock::now();
        if now.since(collected) >= COLLECT {
            collected = now;
            who.collect(now);
            *known.stats.lock().unwrap_or_else(PoisonError::into_inner) = who.stats();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn whoever_has_a_socket_open_is_who_it_is_about() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let inode = rustix::fs::fstat(&socket).expect("it is open").st_ino;
        let about = |inode| {
            About::Socket(SocketKey {
                inode,
                cgroup_id: 0,
            })
        };
        let mut who = Who::open();
        let found = answer(&mut who, about(inode)).process;
        assert_eq!(found.expect("it runs").key.pid, std::process::id());
        assert_eq!(answer(&mut who, about(u64::MAX)), Identity::default());
    }
}
