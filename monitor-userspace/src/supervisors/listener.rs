//! `kind = "listener"`: a process that nobody supervises, known by the address that it listens on.
//!
//! Its end is seen at once, and another one that listens there later is found. Nothing starts it: nobody knows how.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::{Phase, Seen, Source, Spec, Tools};
use crate::host::{HostError, listeners, procfs, sockets};
use crate::model::ProcessKey;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "listener",
    summary: "a process that nobody supervises, known by the address that it listens on: it is watched, and cannot be started",
    read: Some(read),
    source: Some(source),
    discover: None,
};

/// How often it is looked who listens; the end of a process is seen at once.
const EVERY: Duration = Duration::from_secs(5);

/// `with` of such a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    /// The address, as `ss -ltn` has it.
    address: SocketAddr,
}

fn read(_: &str, with: &toml::Table) -> Result<Vec<String>, String> {
    let with = parse(with)?;
    if with.address.port() == 0 {
        return Err("`address` needs a port".to_owned());
    }
    Ok(vec![with.address.to_string()])
}

fn parse(with: &toml::Table) -> Result<With, String> {
    let read = With::deserialize(with.clone());
    read.map_err(|error| {
        let why = error.message();
        format!("{why}: write for example `with = {{ address = \"127.0.0.1:8080\" }}`")
    })
}

fn source(_: Tools) -> Arc<dyn Source> {
    Arc::new(Listeners::default())
}

#[derive(Debug, Default)]
struct Listeners {
    services: Mutex<BTreeMap<String, Known>>,
}

/// A service, and who was found to listen.
#[derive(Clone, Copy, Debug)]
struct Known {
    with: With,
    /// The socket's inode, and who has had it open for longest.
    holder: Option<(u32, ProcessKey)>,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Who listens now.
    fn find(&self) -> Result<Option<(u32, ProcessKey)>, String> {
        let all = listeners::numbered();
        let all = all.map_err(|error| format!("the kernel does not tell who listens: {error}"))?;
        let inodes = all.iter().filter(|(it, _)| it.address == self.with.address);
        let inodes: BTreeSet<u32> = inodes.map(|(_, inode)| *inode).collect();
        let known = self.holder;
        if inodes.is_empty() {
            return Ok(None);
        }
        if let Some((inode, process)) = known
            && inodes.contains(&inode)
            && procfs::runs(process)
        {
            return Ok(known);
        }
        let holders = sockets::holders(&inodes);
        let first = holders
            .into_iter()
            .find_map(|(inode, all)| Some((inode, all.first()?.key)));
        first.map(Some).ok_or_else(|| {
            let address = self.with.address;
            format!("who listens on {address} cannot be seen: is the daemon root?")
        })
    }
}

fn failed(service: &str, why: String) -> HostError {
    HostError::Supervisor {
        by: SPEC.name,
        service: service.to_owned(),
        why,
    }
}

/// What can be done to one.
fn nothing(service: &str) -> HostError {
    let why = "nobody supervises it, so nobody knows how to stop or start it: have systemd run it, or write it as kind = \"command\"";
    failed(service, why.to_owned())
}

impl Source for Listeners {
    fn configure(&self, services: &BTreeMap<String, toml::Table>) {
        let mut known = self.lock();
        let before = std::mem::take(&mut *known);
        for (name, table) in services {
            let Ok(with) = parse(table) else { continue };
            let same = before.get(name).filter(|it| it.with == with);
            let holder = same.and_then(|it| it.holder);
            known.insert(name.clone(), Known { with, holder });
        }
    }

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let known = self.lock().get(service).copied();
        let known = known.ok_or_else(|| HostError::NoService(service.to_owned()))?;
        let found = known.find().map_err(|why| failed(service, why))?;
        // One that listens no more, and runs, is what its checks are for.
        let alive = known.holder.filter(|(_, process)| procfs::runs(*process));
        let holder = found.or(alive);
        if let Some(own) = self.lock().get_mut(service)
            && own.with == known.with
        {
            own.holder = holder.or(own.holder);
        }
        let phase = match holder {
            Some(_) => Phase::Running,
            None => Phase::Failed {
                why: format!("nobody listens on {}", known.with.address),
                gave_up: false,
            },
        };
        Ok(Seen {
            phase,
            process: holder.map(|(_, process)| process),
            cgroup_id: 0,
            healer: None,
        })
    }

    fn every(&self) -> Option<Duration> {
        Some(EVERY)
    }

    fn restart(&self, service: &str, _: Duration) -> Result<(), HostError> {
        Err(nothing(service))
    }

    fn stop(&self, service: &str, _: Duration) -> Result<(), HostError> {
        Err(nothing(service))
    }

    fn start(&self, service: &str) -> Result<(), HostError> {
        Err(nothing(service))
    }

    fn reload(&self, service: &str) -> Result<Option<String>, HostError> {
        let why = "nobody supervises it: set `reload = { signal = \"SIGHUP\" }`, or a command";
        Err(failed(service, why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_is_the_service() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let with = toml::Table::from_iter([("address".to_owned(), address.as_str().into())]);
        assert_eq!(read("web", &with), Ok(vec![address.clone()]));
        let source = Listeners::default();
        source.configure(&BTreeMap::from([("web".to_owned(), with)]));
        let own = procfs::stat(std::process::id()).expect("this process").key;
        for _ in 0..2 {
            let seen = source.look("web").expect("it is found");
            assert_eq!((seen.phase, seen.process), (Phase::Running, Some(own)));
        }
        drop(listener);
        // Its process runs: that it does not listen is for a check to say.
        assert_eq!(source.look("web").expect("it is known").process, Some(own));
        source.lock().get_mut("web").expect("it is there").holder = None;
        let seen = source.look("web").expect("it is known");
        let why = format!("nobody listens on {address}");
        let gave_up = false;
        assert_eq!(seen.phase, Phase::Failed { why, gave_up });
        assert!(source.restart("web", Duration::ZERO).is_err());
        assert!(source.look("other").is_err());
    }

    #[test]
    fn an_address_is_one_with_a_port() {
        for text in [
            "",
            "address = \"x\"",
            "address = \"127.0.0.1:0\"",
            "port = 5",
        ] {
            let with: toml::Table = text.parse().expect("it is TOML");
            assert!(read("web", &with).is_err(), "{text}");
        }
    }
}
