//! The ways out of this host (`[[network]]`): looked at from the bottom up, and changed one step at a time.
//!
//! What a way was while all was well is learned, and kept in the state folder. Who repairs a way has its turn alone; while it has, nobody
//! else says what is broken. Every question has a time limit, that is derived from how fast answers came while all was well.

mod change;
pub mod files;
mod judge;
mod look;
mod news;
mod probe;
mod tables;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::{HostError, NetworkHand, procfs};
use crate::model::way::{Baseline, Diagnosis, NetworkStep, Primary, Way};
pub use change::{apply, has, left_alone};
pub use look::Looked;
pub use news::News;
use probe::{Ask, ask};
pub use probe::{is_reply, ping};
pub(super) use wire::{Netlink, Request, attribute, number};

/// What stands in an error of the system where something is not what was meant.
const OTHER: &str = "it is not what it was";
/// No answer is waited for for less, whatever the wire is like.
const LEAST: Duration = Duration::from_millis(200);
/// So many times as long as answers took is waited for one.
const PATIENCE: u32 = 8;
/// Time between two looks of a repair that has not shown an effect.
const PAUSE: Duration = Duration::from_millis(50);

/// Every way, by name.
#[derive(Debug)]
pub struct Ways {
    folder: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Known>>>,
}

/// A way, and what is known of it.
#[derive(Debug)]
pub struct Known {
    way: Way,
    file: PathBuf,
    state: Mutex<State>,
    taken: AtomicBool,
    wake: OwnedFd,
}

#[derive(Clone, Debug, Default)]
struct State {
    before: Baseline,
    rtt: Option<Duration>,
    anchor: usize,
    resolver: Option<IpAddr>,
    /// The file that names the resolvers, as it was seen last.
    resolv_conf: Option<String>,
}

/// What is kept for the next start.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    boot: String,
    before: Baseline,
}

impl Ways {
    /// None yet; what is learned is kept in this folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            all: Mutex::default(),
        }
    }

    /// Takes the configuration; what was learned of a way that stays the same is kept.
    pub fn configure(&self, ways: &[Way]) -> std::io::Result<()> {
        let mut fresh = BTreeMap::new();
        for way in ways {
            let old = self.find(&way.name).filter(|known| known.way == *way);
            let known = match old {
                Some(known) => known,
                None => Arc::new(Known::new(way.clone(), &self.folder)?),
            };
            fresh.insert(way.name.clone(), known);
        }
        *self.lock() = fresh;
        Ok(())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Known>> {
        self.lock().values().cloned().collect()
    }

    /// One's turn to change a way; refused while somebody else has it.
    pub fn turn(&self, name: &str) -> Result<Turn, HostError> {
        let known = self.find(name);
        let known = known.ok_or_else(|| HostError::NoNetwork(name.to_owned()))?;
        if known.taken.swap(true, Ordering::AcqRel) {
            let what = format!("network {name} is being changed by another act");
            return Err(HostError::OtherNetwork(what));
        }
        Ok(Turn(known))
    }

    fn find(&self, name: &str) -> Option<Arc<Known>> {
        self.lock().get(name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Known>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(way: Way, folder: &Path) -> std::io::Result<Self> {
        let file = folder.join(format!("network-{}.json", way.name));
        let kept = std::fs::read(&file).ok();
        let kept: Option<Kept> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let before = kept.map(|mut kept| {
            if kept.boot != procfs::boot_id() {
                // Numbers of devices are given anew.
                kept.before.device = 0;
            }
            kept.before
        });
        let state = State {
            before: before.unwrap_or_default(),
            ..State::default()
        };
        Ok(Self {
            way,
            file,
            state: Mutex::new(state),
            taken: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// As configured.
    pub const fn way(&self) -> &Way {
        &self.way
    }

    /// Somebody changes it right now.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Readable when somebody has changed it.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Forgets that somebody has.
    pub fn reset(&self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
    }

    /// What was learned.
    pub fn before(&self) -> Baseline {
        self.state().before.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within(&self) -> Duration {
        let rtt = self.state().rtt;
        let wanted = rtt.map_or(self.way.timeout, |rtt| rtt.saturating_mul(PATIENCE));
        wanted.max(LEAST).min(self.way.timeout)
    }

    /// Looks at all of it. `suspicious`: nothing beyond the gateway is expected to answer.
    pub fn look(&self, suspicious: bool) -> Result<Diagnosis, HostError> {
        let before = self.before();
        let looked = look::look(&self.way, &before, self.within(), suspicious);
        let looked = looked.map_err(|source| HostError::System {
            what: format!("look at network {}", self.way.name),
            source,
        })?;
        let mut state = self.state();
        if let Some(rtt) = looked.rtt {
            let faded = state.rtt.unwrap_or_default() / 8 * 7;
            state.rtt = Some(rtt.max(faded));
        }
        if let Some(anchor) = looked.anchor {
            state.anchor = anchor;
        }
        let text = looked.diagnosis.seen.resolv_conf.as_deref();
        let mut named = files::resolvers(text.unwrap_or_default()).into_iter();
        state.resolver = named.find(|it| looked.diagnosis.seen.resolvers.contains(it));
        state
            .resolv_conf
            .clone_from(&looked.diagnosis.seen.resolv_conf);
        Ok(looked.diagnosis)
    }

    /// Whether what answered last still answers.
    pub fn glance(&self) -> bool {
        let state = self.state().clone();
        if !self.way.names.is_empty() && files::read(&self.way.resolv_conf) != state.resolv_conf {
            return false;
        }
        look::glance(&self.way, state.anchor, state.resolver, self.within())
    }

    /// Takes a look at which all was well for what it is to be brought back to.
    pub fn learn(&self, found: &Diagnosis) {
        let mut state = self.state();
        let Some(learned) = learned(&self.way, &state.before, found) else {
            return;
        };
        if learned == state.before {
            return;
        }
        state.before = learned;
        let kept = Kept {
            boot: procfs::boot_id(),
            before: state.before.clone(),
        };
        drop(state);
        if let Err(error) = self.keep(&kept) {
            tracing::warn!(network = %self.way.name, %error, "what was learned of it is not kept for the next start");
        }
    }

    fn keep(&self, kept: &Kept) -> std::io::Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(kept)?)?;
        std::fs::rename(new, &self.file)
    }
}

/// What a look teaches; none where it shows no more than that packets get through by another way.
fn learned(way: &Way, before: &Baseline, found: &Diagnosis) -> Option<Baseline> {
    let seen = &found.seen;
    let works = found.fault.is_none() && seen.device.index != 0 && seen.up && seen.carrier;
    if !works || way.on_backup(before, seen) {
        return None;
    }
    let mut defaults: Vec<_> = seen.routes.iter().filter(|it| it.to.is_none()).collect();
    defaults.sort_by_key(|route| route.metric);
    let own = defaults
        .iter()
        .find(|route| route.device == seen.device.index);
    let first = defaults
        .first()
        .is_none_or(|first| first.device == seen.device.index);
    if !first || (own.is_none() && way.primary(before).is_some()) {
        return None;
    }
    let gateway = own.and_then(|route| route.via);
    let routes = seen
        .routes
        .iter()
        .filter(|it| it.device == seen.device.index);
    let known = seen
        .neighbour
        .as_ref()
        .filter(|it| Some(it.address) == gateway);
    let same = before.gateway == gateway;
    let link = known.map(|it| it.link.clone());
    let kept = before.gateway_link.clone();
    let text = seen.resolv_conf.as_deref().unwrap_or_default();
    let named = files::resolvers(text);
    let mut backups = named
        .first()
        .into_iter()
        .filter(|it| way.backup_resolvers.contains(it));
    let answers = named.iter().any(|it| seen.resolvers.contains(it));
    let resolv_conf = if answers && backups.next().is_none() {
        seen.resolv_conf.clone()
    } else {
        before.resolv_conf.clone()
    };
    Some(Baseline {
        device: seen.device.index,
        addresses: seen.addresses.iter().take(MOST).copied().collect(),
        routes: routes.take(MOST).copied().collect(),
        gateway,
        gateway_link: link.unwrap_or(if same { kept } else { Vec::new() }),
        resolv_conf,
    })
}

/// Most addresses and routes that are remembered of a way.
const MOST: usize = 64;

/// See [`Ways::turn`].
#[derive(Debug)]
pub struct Turn(Arc<Known>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }
}

impl NetworkHand for Turn {
    fn look(&self) -> Result<Diagnosis, HostError> {
        self.0.look(true)
    }

    fn confirm(&self, within: Duration) -> Result<Diagnosis, HostError> {
        let deadline = Instant::now() + within;
        loop {
            let found = self.0.look(false)?;
            if found.fault.is_none() || Instant::now() >= deadline {
                return Ok(found);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn apply(&self, step: &NetworkStep) -> Result<bool, HostError> {
        apply(step)
    }

    fn has(&self, step: &NetworkStep) -> Result<bool, HostError> {
        has(step)
    }

    fn left_alone(&self, step: &NetworkStep) -> Option<String> {
        left_alone(step)
    }

    fn answers(&self, primary: &Primary) -> Result<bool, HostError> {
        let way = &self.0.way;
        let questions: Vec<Ask> = match primary {
            Primary::Gateway(device, address) => {
                let within = self.0.within();
                let reached = look::reaches(device.index, *address, within);
                return reached.map_err(|source| HostError::System {
                    what: format!("ask {address} whether it is there"),
                    source,
                });
            }
            Primary::Resolvers(all) => {
                let name = way.names.first().map(String::as_str).unwrap_or_default();
                let asks = all.iter().map(|it| Ask::Dns(*it, name.to_owned()));
                asks.collect()
            }
            Primary::Endpoint(address) => vec![Ask::Serves(*address)],
        };
        Ok(ask(&questions, self.0.within()).iter().any(Option::is_some))
    }
}

/// The file that says which address of an endpoint is used, with this one.
pub fn hosts_with(text: &str, name: &str, address: SocketAddr) -> String {
    files::with_host(text, name, address.ip())
}

#[cfg(test)]
mod tests;
