//! What runs on this host, and how it could be configured: what those who run services say ([`crate::supervisors::Spec::discover`]), the
//! ports that it listens on, and the checks that would show that it serves.
//!
//! Asks, and changes nothing. Everybody has a time limit, and what cannot be asked is told with why and what to do. What others call
//! their things is theirs: names are made fit here, and what stands in comments is cleaned.

mod known;
mod names;
mod ports;
mod probe;
mod propose;
mod trial;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::host::procfs;
use crate::model::ProcessKey;
use crate::supervisors::{Discovered, Found, KINDS};
pub use known::Known;
use names::Names;
use ports::Ports;

/// How long those who run services may take to tell of them, all together.
const WITHIN: Duration = Duration::from_secs(15);
/// The kind of what nobody supervises.
pub const LISTENER: &str = "listener";

/// Something that runs, and how it could be configured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thing {
    /// The name of the service: fit, and its alone.
    pub name: String,
    /// Who runs it.
    pub kind: &'static str,
    /// `with` of the service.
    pub with: toml::Table,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// What would show that it serves.
    pub checks: Vec<toml::Table>,
    /// What it is, in one line.
    pub what: String,
    /// Why these checks, a line for each port; empty where nothing is known to be asked.
    pub why: String,
    /// Its main process.
    pub process: Option<ProcessKey>,
    /// The name of that.
    pub program: String,
    /// Where it can be asked, and the name of the program that listens there.
    #[serde(skip)]
    pub ports: Vec<(SocketAddr, String)>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Listing {
    /// In the order of kinds.
    pub services: Vec<Thing>,
    /// Found, and configured already: by these names.
    pub configured: Vec<String>,
    /// How many more were found than are listed.
    pub left_out: usize,
    /// Who could not be asked, or what could not be told: the kind, and why.
    pub problems: Vec<(&'static str, String)>,
}

/// Looks, without asking any port for anything.
///
/// `kinds`: those that are wanted, all when empty. `most`: so many are listed.
pub fn look(kinds: &[String], known: &Known, most: usize) -> Listing {
    let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|it| it == kind);
    let mut listing = Listing::default();
    let mut all = Vec::new();
    for (kind, discovered) in everybody() {
        if wanted(kind) {
            listing.left_out += discovered.left_out;
            let problems = discovered.problems.into_iter();
            listing.problems.extend(problems.map(|why| (kind, why)));
        }
        all.extend(discovered.found.into_iter().map(|found| (kind, found)));
    }
    let mut ports = match Ports::of(&all, known) {
        Ok(ports) => ports,
        Err(why) => {
            listing.problems.push((LISTENER, why));
            Ports::default()
        }
    };
    if wanted(LISTENER) {
        let problems = std::mem::take(&mut ports.problems).into_iter();
        listing.problems.extend(problems.map(|why| (LISTENER, why)));
    }
    let mut names = Names::taken(known.names());
    let owned = all.into_iter().enumerate();
    let owned = owned.map(|(at, (kind, found))| {
        let own = ports.owned.remove(&at).unwrap_or_default();
        (kind, found, own)
    });
    let mut rows: Vec<_> = owned.collect();
    let alone = std::mem::take(&mut ports.alone).into_iter();
    rows.extend(alone.map(|(found, own)| (LISTENER, found, own)));
    for (kind, found, own) in rows {
        if !wanted(kind) {
            continue;
        }
        let spec = KINDS.iter().find(|spec| spec.name == kind);
        let read = spec.and_then(|spec| spec.read);
        if let Some(Err(why)) = read.map(|read| read(&found.name, &found.with)) {
            let why = format!("{} cannot be configured: {why}", found.what);
            listing.problems.push((kind, why));
            continue;
        }
        let process = found.processes.first().copied();
        let stat = process.and_then(|process| procfs::stat(process.pid));
        let program = stat.map(|stat| stat.comm).unwrap_or_default();
        if let Some(name) = known.service(kind, &found, &own, &program) {
            listing.configured.push(name);
        } else if listing.services.len() >= most {
            listing.left_out += 1;
        } else {
            let thing = thing(kind, found, own, program, &mut names);
            listing.services.push(thing);
        }
    }
    listing
}

/// Adds the checks that would show that each serves. `probe`: ports are asked, on this host alone; else names of programs must do.
pub fn propose(listing: &mut Listing, probe: bool) -> Result<(), String> {
    let trials = probe.then(trial::Trials::new).transpose()?;
    for thing in &mut listing.services {
        (thing.checks, thing.why) = propose::checks(&thing.ports, trials.as_ref());
    }
    Ok(())
}

/// As a configuration.
pub fn written(listing: &Listing) -> String {
    written::all(listing)
}

/// As the part of a configuration that has them observed and nothing more.
pub fn observed(things: &[Thing]) -> String {
    written::observed(things)
}

/// A text of others on one line, of bounded length and without what a terminal would obey.
pub fn clean(text: &str) -> String {
    written::clean(text)
}

/// Whom one can ask.
pub fn kinds() -> Vec<&'static str> {
    let asked = KINDS.iter().filter(|spec| spec.discover.is_some());
    let asked = asked.map(|spec| spec.name);
    asked.chain([LISTENER]).collect()
}

/// Who is being asked: so that nobody who hangs is asked twice.
fn waiting() -> MutexGuard<'static, BTreeSet<&'static str>> {
    static WAITING: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What everybody says. Who does not answer in time is told so, and left behind with a thread that waits.
fn everybody() -> Vec<(&'static str, Discovered)> {
    let asked = KINDS
        .iter()
        .filter_map(|spec| Some((spec.name, spec.discover?)));
    let asked: Vec<_> = asked.collect();
    let (answer, answers) = sync_channel(asked.len());
    let mut all = BTreeMap::new();
    for (kind, discover) in &asked {
        let (kind, discover, answer) = (*kind, *discover, answer.clone());
        if !waiting().insert(kind) {
            let why = "no answer yet to what was asked last time: it hangs";
            all.insert(kind, Discovered::nobody(why));
            continue;
        }
        let thread = std::thread::Builder::new()
            .name(format!("ask-{kind}"))
            .stack_size(1 << 20);
        let begun = thread.spawn(move || {
            let discovered = discover();
            waiting().remove(kind);
            let _late = answer.send((kind, discovered));
        });
        if let Err(error) = begun {
            waiting().remove(kind);
            let why = format!("cannot start a thread to ask: {error}");
            all.insert(kind, Discovered::nobody(&why));
        }
    }
    drop(answer);
    let until = Instant::now() + WITHIN;
    while let Ok((kind, discovered)) =
        answers.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        all.insert(kind, discovered);
    }
    let late = || Discovered::nobody(&format!("no answer within {WITHIN:?}: try again later"));
    asked
        .into_iter()
        .map(|(kind, _)| (kind, all.remove(kind).unwrap_or_else(late)))
        .collect()
}

fn thing(
    kind: &'static str,
    found: Found,
    own: ports::Own,
    program: String,
    names: &mut Names,
) -> Thing {
    let mut listen = own.listen;
    listen.extend(&found.published);
    listen.sort_unstable();
    listen.dedup();
    let mut asked = own.asked;
    for address in &found.published {
        let at = ports::reached(*address);
        asked.entry(at.port()).or_insert((at, program.clone()));
    }
    Thing {
        name: names.of(&found.name, kind),
        kind,
        with: found.with,
        listen,
        checks: Vec::new(),
        what: found.what,
        why: String::new(),
        process: found.processes.first().copied(),
        program,
        ports: asked.into_values().collect(),
    }
}
