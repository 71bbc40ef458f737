//! The services of the configuration, and findable by what events name: a process, a cgroup, a port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Deref;

use super::{ProcessKey, Service};

/// Services by name. They are read like the map they are; what changes one goes through [`Services::change`], which keeps the
/// indexes. Where several have the same process, cgroup or port, the first by name is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    all: BTreeMap<String, Service>,
    by_process: BTreeSet<(ProcessKey, String)>,
    by_cgroup: BTreeSet<(u64, String)>,
    by_port: BTreeSet<(u16, String)>,
}

/// What a service is found by.
#[derive(PartialEq, Eq)]
struct Found {
    process: Option<ProcessKey>,
    cgroup_id: u64,
    listen: Vec<SocketAddr>,
}

impl Found {
    fn by(service: &Service) -> Self {
        Self {
            process: service.process,
            cgroup_id: service.cgroup_id,
            listen: service.listen.clone(),
        }
    }
}

impl Deref for Services {
    type Target = BTreeMap<String, Service>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl FromIterator<Service> for Services {
    fn from_iter<I: IntoIterator<Item = Service>>(services: I) -> Self {
        let mut all = Self::default();
        for service in services {
            all.insert(service);
        }
        all
    }
}

impl Services {
    /// Adds one, in the place of the one that had its name.
    pub fn insert(&mut self, service: Service) {
        if let Some(before) = self.all.remove(&service.name) {
            self.forget(&service.name, &Found::by(&before));
        }
        self.note(&service.name, &Found::by(&service));
        self.all.insert(service.name.clone(), service);
    }

    /// Changes one; none when there is none of this name.
    pub fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Service) -> T) -> Option<T> {
        let service = self.all.get_mut(name)?;
        let before = Found::by(service);
        let result = change(service);
        let after = Found::by(service);
        if before != after {
            self.forget(name, &before);
            self.note(name, &after);
        }
        Some(result)
    }

    fn note(&mut self, name: &str, found: &Found) {
        if let Some(process) = found.process {
            self.by_process.insert((process, name.to_owned()));
        }
        if found.cgroup_id != 0 {
            self.by_cgroup.insert((found.cgroup_id, name.to_owned()));
        }
        let ports = found.listen.iter().map(SocketAddr::port);
        self.by_port
            .extend(ports.map(|port| (port, name.to_owned())));
    }

    fn forget(&mut self, name: &str, found: &Found) {
        if let Some(process) = found.process {
            self.by_process.remove(&(process, name.to_owned()));
        }
        self.by_cgroup.remove(&(found.cgroup_id, name.to_owned()));
        for own in &found.listen {
            self.by_port.remove(&(own.port(), name.to_owned()));
        }
    }

    /// The one whose main process this is.
    pub fn of_process(&self, process: ProcessKey) -> Option<&Service> {
        self.indexed(&self.by_process, process).next()
    }

    /// The one whose processes are in this cgroup.
    pub fn of_cgroup(&self, cgroup_id: u64) -> Option<&Service> {
        self.indexed(&self.by_cgroup, cgroup_id).next()
    }

    /// The one that listens on this port with an address that is good enough.
    pub fn listening(&self, port: u16, good: impl Fn(SocketAddr) -> bool) -> Option<&Service> {
        let mut on_port = self.indexed(&self.by_port, port);
        on_port.find(|service| {
            let mut own = service.listen.iter();
            own.any(|own| own.port() == port && good(*own))
        })
    }

    fn indexed<'a, K: Copy + Ord>(
        &'a self,
        index: &'a BTreeSet<(K, String)>,
        key: K,
    ) -> impl Iterator<Item = &'a Service> {
        // An empty text stands before every name, and allocates nothing.
        index
            .range((key, String::new())..)
            .take_while(move |(other, _)| *other == key)
            .filter_map(|(_, name)| self.all.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, pid: u32, cgroup_id: u64, listen: &[&str]) -> Service {
        let start_ticks = u64::from(pid);
        let mut service = Service::new(name);
        service.process = (pid != 0).then_some(ProcessKey { pid, start_ticks });
        service.cgroup_id = cgroup_id;
        service.listen = listen.iter().filter_map(|own| own.parse().ok()).collect();
        service
    }

    /// Every look-up there is, by the indexes and by looking at each service.
    fn agree(services: &Services) {
        for pid in 0..6 {
            let process = ProcessKey {
                pid,
                start_ticks: u64::from(pid),
            };
            let scanned = services.values().find(|it| it.process == Some(process));
            assert_eq!(services.of_process(process), scanned);
            let cgroup_id = u64::from(pid);
            let mut all = services.values();
            let scanned = all.find(|it| cgroup_id != 0 && it.cgroup_id == cgroup_id);
            assert_eq!(services.of_cgroup(cgroup_id), scanned);
        }
        for peer in ["127.0.0.1:80", "127.0.0.1:81", "10.0.0.1:80", "[::1]:82"] {
            let peer: SocketAddr = peer.parse().expect("an address");
            let scanned = services.values().find(|it| it.listen.contains(&peer));
            assert_eq!(services.listening(peer.port(), |own| own == peer), scanned);
        }
    }

    #[test]
    fn the_indexes_find_what_looking_at_each_would() {
        let mut services: Services = [
            service("c", 1, 1, &["127.0.0.1:80", "10.0.0.1:80"]),
            service("a", 0, 0, &["127.0.0.1:80"]),
            service("b", 2, 1, &["127.0.0.1:80", "127.0.0.1:80"]),
        ]
        .into_iter()
        .collect();
        agree(&services);
        assert_eq!(services.of_cgroup(1).map(|it| &*it.name), Some("b"));

        let started = services.change("a", |it| {
            it.process = service("", 3, 0, &[]).process;
            it.cgroup_id = 3;
            it.starts += 1;
            it.starts
        });
        assert_eq!(started, Some(1));
        agree(&services);
        services.change("b", |it| it.listen.clear());
        services.change("c", |it| it.process = None);
        agree(&services);
        services.insert(service("c", 4, 0, &["[::1]:82"]));
        agree(&services);
        assert_eq!(services.change("nobody", |_| ()), None);
        assert_eq!(services.len(), 3);
    }
}
