//! The connection to one manager: made anew when it is lost, and listened to.
//!
//! By way of a bus alone: on their own socket, which `systemctl` uses as root, managers name themselves as sender by a name that only a bus
//! gives out for calls, and libraries other than their own refuse such messages. A user's bus lets nobody but that user in, and root's
//! thread connects as that user.

#[path = "link/connect.rs"]
mod connect;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use zbus::export::futures_core::Stream as _;
use zbus::message::Type;
use zbus::{Connection, DynamicType, Message, MessageStream};

use super::Manager;
use crate::supervisors::Nudge;
pub(super) use connect::connect;

/// systemd's name on a bus.
const NAME: &str = "org.freedesktop.systemd1";
/// Where its units are.
const UNITS: &str = "/org/freedesktop/systemd1/unit";
pub(super) const MANAGER: &str = "/org/freedesktop/systemd1";
pub(super) const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(3);
/// How long an answer may take. systemd answers nobody while it reads its unit files.
const ANSWER: Duration = Duration::from_secs(5);
/// First wait before it is tried again; doubles up to the longest.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(10);
/// Ends of jobs that are kept while somebody waits for one.
const ENDS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    runtime: Handle,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    manager: Manager,
    nudge: Nudge,
    state: Mutex<State>,
    /// The state is another one.
    news: Condvar,
}

#[derive(Debug)]
struct State {
    live: Live,
    /// Counts connections.
    number: u64,
    /// Paths of units to the services of the configuration that are these.
    paths: BTreeMap<String, Vec<String>>,
    /// How many wait for the end of a job.
    waiting: usize,
    /// Path and result of jobs that have ended.
    ends: VecDeque<(String, String)>,
}

#[derive(Clone, Debug)]
enum Live {
    /// The first attempt, or the first after a loss, is under way.
    Connecting,
    Connected(Connection),
    Not(String),
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// They refused, in their words.
    Refused(String),
    /// They cannot be asked.
    Lost(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Lost(why) => f.write_str(why),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn becomes(&self, live: Live) {
        let mut state = self.lock();
        if matches!(live, Live::Connected(_)) {
            state.number += 1;
        }
        state.live = live;
        self.news.notify_all();
    }
}

impl Link {
    /// Begins to connect.
    pub(super) fn start(manager: Manager, nudge: Nudge, runtime: &Handle) -> Self {
        let shared = Arc::new(Shared {
            manager,
            nudge,
            state: Mutex::new(State {
                live: Live::Connecting,
                number: 0,
                paths: BTreeMap::new(),
                waiting: 0,
                ends: VecDeque::new(),
            }),
            news: Condvar::new(),
        });
        Self {
            task: runtime.spawn(keep(Arc::clone(&shared))),
            runtime: runtime.clone(),
            shared,
        }
    }

    /// A service of the configuration is the unit at this path.
    pub(super) fn note(&self, path: &str, service: &str) {
        let mut state = self.shared.lock();
        let services = state.paths.entry(path.to_owned()).or_default();
        if !services.iter().any(|known| known == service) {
            services.push(service.to_owned());
        }
    }

    /// Forgets which services are which units.
    pub(super) fn forget(&self) {
        self.shared.lock().paths.clear();
    }

    /// Which connection it is: they count from 1.
    pub(super) fn number(&self) -> u64 {
        self.shared.lock().number
    }

    /// The connection, for which is waited while it is being made; and which one it is.
    fn bus(&self) -> Result<(Connection, u64), Failed> {
        let state = self.shared.lock();
        let connecting = |state: &mut State| matches!(state.live, Live::Connecting);
        let news = &self.shared.news;
        let waited = news.wait_timeout_while(state, CONNECTING, connecting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &state.live {
            Live::Connected(bus) => Ok((bus.clone(), state.number)),
            Live::Not(why) => Err(Failed::Lost(why.clone())),
            Live::Connecting => {
                let why = format!("{} has not taken a connection so far", self.shared.manager);
                Err(Failed::Lost(why))
            }
        }
    }

    /// Calls a method of the manager and waits for the answer, for 5 s at most.
    pub(super) fn manager<B>(&self, method: &'static str, body: B) -> Result<Message, Failed>
    where
        B: Serialize + DynamicType + Send + Sync + 'static,
    {
        self.call(MANAGER.to_owned(), INTERFACE, method, body)
    }

    /// Calls a method of any of its objects and waits for the answer, for 5 s at most.
    pub(super) fn call<B>(
        &self,
        path: String,
        interface: &'static str,
        method: &'static str,
        body: B,
    ) -> Result<Message, Failed>
    where
        B: Serialize + DynamicType + Send + Sync + 'static,
    {
        let (bus, _) = self.bus()?;
        let (answer, answered) = sync_channel(1);
        // Not `block_on`, which must not be called where tokio runs.
        let asks = self.runtime.spawn(async move {
            let _ = answer.send(call(&bus, &path, interface, method, &body).await);
        });
        match answered.recv_timeout(ANSWER) {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(failed(error)),
            Err(RecvTimeoutError::Timeout) => {
                asks.abort();
                let manager = self.shared.manager;
                let why = format!("{manager} did not answer {method} within {ANSWER:?}");
                Err(Failed::Lost(why))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Failed::Lost("the connection was closed".to_owned()))
            }
        }
    }

    /// Gives an order and waits until its job has ended: with which result.
    pub(super) fn job<B>(
        &self,
        method: &'static str,
        body: B,
        within: Duration,
    ) -> Result<String, Failed>
    where
        B: Serialize + DynamicType + Send + Sync + 'static,
    {
        let (_, number) = self.bus()?;
        self.shared.lock().waiting += 1;
        let order = self.manager(method, body);
        let ended = order.and_then(|answer| {
            let body = answer.body();
            let path: zbus::ObjectPath<'_> = body.deserialize().map_err(failed)?;
            self.ended(&path, number, within)
        });
        let mut state = self.shared.lock();
        state.waiting -= 1;
        if state.waiting == 0 {
            state.ends.clear();
        }
        ended
    }

    fn ended(&self, path: &str, number: u64, within: Duration) -> Result<String, Failed> {
        let deadline = Instant::now() + within;
        let mut state = self.shared.lock();
        loop {
            if let Some((_, result)) = state.ends.iter().find(|(job, _)| job == path) {
                return Ok(result.clone());
            }
            if state.number != number || !matches!(state.live, Live::Connected(_)) {
                let why = "the connection was lost while its job ran: how that ended is not known";
                return Err(Failed::Lost(why.to_owned()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("its job did not end within {within:?}; systemd goes on with it");
                return Err(Failed::Refused(why));
            }
            let waited = self.shared.news.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn call<B>(
    bus: &Connection,
    path: &str,
    interface: &'static str,
    method: &'static str,
    body: &B,
) -> zbus::Result<Message>
where
    B: Serialize + DynamicType,
{
    bus.call_method(Some(NAME), path, Some(interface), method, body)
        .await
}

pub(super) fn failed(error: zbus::Error) -> Failed {
    match error {
        zbus::Error::MethodError(_, Some(why), _) => Failed::Refused(why),
        zbus::Error::MethodError(name, None, _) => Failed::Refused(name.to_string()),
        zbus::Error::FDO(error) => match *error {
            zbus::fdo::Error::NoReply(why) | zbus::fdo::Error::Disconnected(why) => {
                Failed::Lost(why)
            }
            error => Failed::Refused(error.to_string()),
        },
        error => Failed::Lost(format!("the answer cannot be had: {error}")),
    }
}

/// Keeps the connection, for as long as it is let.
async fn keep(shared: Arc<Shared>) {
    let mut wait = SOON;
    loop {
        match connect(shared.manager).await {
            Ok((bus, mut heard)) => {
                tracing::debug!(manager = %shared.manager, "connected");
                let since = Instant::now();
                shared.becomes(Live::Connected(bus.clone()));
                shared.nudge.all();
                listen(&shared, &bus, &mut heard).await;
                if since.elapsed() > LATER {
                    wait = SOON;
                }
                tracing::warn!(manager = %shared.manager, "the connection was lost");
                shared.becomes(Live::Connecting);
            }
            Err(why) => {
                shared.becomes(Live::Not(why));
            }
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(LATER);
    }
}

/// Until the connection is lost.
async fn listen(shared: &Shared, bus: &Connection, heard: &mut MessageStream) {
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut *heard).poll_next(context)).await;
        let Some(Ok(message)) = next else { return };
        if message.message_type() == Type::Signal && hear(shared, &message) {
            // Whoever has that name now does not know yet that we listen.
            let bus = bus.clone();
            tokio::spawn(async move {
                let _ = call(&bus, MANAGER, INTERFACE, "Subscribe", &()).await;
            });
            shared.nudge.all();
        }
    }
}

/// Takes a signal; whether systemd is another one on the bus.
fn hear(shared: &Shared, message: &Message) -> bool {
    let header = message.header();
    let member = header.member().map(zbus::names::MemberName::as_str);
    match member {
        Some("PropertiesChanged") => {
            let state = shared.lock();
            let path = header.path().map(zbus::ObjectPath::as_str);
            let services = path.and_then(|path| state.paths.get(path));
            for service in services.into_iter().flatten() {
                shared.nudge.service(service);
            }
        }
        Some("JobRemoved") => {
            let body = message.body();
            let read: zbus::Result<(u32, zbus::ObjectPath<'_>, &str, &str)> = body.deserialize();
            let mut state = shared.lock();
            if let Ok((_, path, _, result)) = read
                && state.waiting > 0
            {
                if state.ends.len() == ENDS {
                    state.ends.pop_front();
                }
                let end = (path.to_string(), result.to_owned());
                state.ends.push_back(end);
                shared.news.notify_all();
            }
        }
        // Unit files were read again: any unit may be another one.
        Some("Reloading") => shared.nudge.all(),
        Some("NameOwnerChanged") => {
            let body = message.body();
            let read: zbus::Result<(&str, &str, &str)> = body.deserialize();
            return read.is_ok_and(|(name, ..)| name == NAME);
        }
        _ => {}
    }
    false
}
