//! The TCP ports that this host listens on, and whose they are: of the found service whose main process has it open or an ancestor of who
//! has, else of the unit whose cgroup that one is in. What is nobody's is a service of its own, a process each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Found, Known};
use crate::host::procfs::{self, Stat};
use crate::host::{listeners, sockets};

/// Longest line of ancestors that is followed.
const GENERATIONS: usize = 64;
/// Programs that hold a port for somebody else: for containers, which tell of those ports themselves.
const CARRIERS: [&str; 7] = [
    "docker-proxy",
    "rootlessport",
    "rootlesskit",
    "conmon",
    "slirp4netns",
    "pasta",
    "pasta.avx2",
];
/// Names that say nothing of what a program is.
const INTERPRETERS: [&str; 9] = [
    "python", "node", "java", "ruby", "perl", "php", "sh", "bash", "dotnet",
];

/// Where one listens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Own {
    /// As the kernel has it.
    pub(super) listen: Vec<SocketAddr>,
    /// By port: where it can be asked, and the name of who listens.
    pub(super) asked: BTreeMap<u16, (SocketAddr, String)>,
}

impl Own {
    fn add(&mut self, address: SocketAddr, comm: &str) {
        self.listen.push(address);
        let at = reached(address);
        let asked = self.asked.entry(at.port()).or_insert((at, comm.to_owned()));
        if at.is_ipv4() {
            asked.0 = at;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// By their place among what was found.
    pub(super) owned: BTreeMap<usize, Own>,
    pub(super) alone: Vec<(Found, Own)>,
    pub(super) problems: Vec<String>,
}

/// Where a listener can be asked from this host.
pub(super) fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Ports {
    pub(super) fn of(all: &[(&'static str, Found)], known: &Known) -> Result<Self, String> {
        let listeners = listeners::numbered()
            .map_err(|error| format!("the kernel does not tell who listens: {error}"))?;
        let inodes: BTreeSet<u32> = listeners.iter().map(|(_, inode)| *inode).collect();
        let holders = sockets::holders(&inodes);
        let processes =
            procfs::processes().map_err(|error| format!("cannot read /proc: {error}"))?;
        let processes = processes.into_iter().map(|stat| (stat.key.pid, stat));
        let host = Host {
            processes: processes.collect(),
            cgroup: &cgroup,
        };
        let listeners = listeners.into_iter().map(|(queue, inode)| {
            let holders = holders.get(&inode).cloned().unwrap_or_default();
            (queue.address, holders)
        });
        Ok(host.divide(all, known, listeners.collect()))
    }
}

/// The processes of the host.
struct Host<'a> {
    processes: BTreeMap<u32, Stat>,
    cgroup: &'a dyn Fn(u32) -> Option<String>,
}

impl Host<'_> {
    fn line(&self, pid: u32) -> Vec<&Stat> {
        let first = self.processes.get(&pid);
        let line = std::iter::successors(first, |stat| self.processes.get(&stat.parent));
        line.take(GENERATIONS).collect()
    }

    /// The found one whose process this is.
    fn owner(&self, pid: u32, all: &[(&'static str, Found)]) -> Option<usize> {
        let line = self.line(pid);
        let by_process = line.iter().find_map(|stat| {
            all.iter()
                .position(|(_, found)| found.processes.contains(&stat.key))
        });
        by_process.or_else(|| {
            let own = (self.cgroup)(pid)?;
            let within = |path: &str| {
                let rest = own.strip_prefix(path)?;
                (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
            };
            let paths = all.iter().enumerate();
            let paths =
                paths.filter_map(|(at, (_, found))| Some((within(found.cgroup.as_deref()?)?, at)));
            paths.max().map(|(_, at)| at)
        })
    }

    fn divide(
        &self,
        all: &[(&'static str, Found)],
        known: &Known,
        listeners: Vec<(SocketAddr, Vec<Stat>)>,
    ) -> Ports {
        let mut ports = Ports::default();
        let mut alone: BTreeMap<u32, (Stat, Own)> = BTreeMap::new();
        let published: BTreeSet<SocketAddr> = all
            .iter()
            .flat_map(|(_, found)| found.published.clone())
            .collect();
        let (mut unseen, mut activated, mut shared) = (Vec::new(), Vec::new(), Vec::new());
        for (address, holders) in listeners {
            // Those who were handed it by systemd are who serve it.
            let first = holders.iter().find(|stat| stat.key.pid != 1);
            let Some(first) = first else {
                let list = if holders.is_empty() {
                    &mut unseen
                } else {
                    &mut activated
                };
                list.push(address);
                continue;
            };
            let line = self.line(first.key.pid);
            let ours = line.iter().any(|stat| stat.comm == "smart-monitor");
            let configured = line
                .iter()
                .any(|stat| known.processes.contains_key(&stat.key.pid));
            let carried = published.contains(&address) || CARRIERS.contains(&&*first.comm);
            if ours || configured || carried {
                continue;
            }
            if let Some(at) = self.owner(first.key.pid, all) {
                ports.owned.entry(at).or_default().add(address, &first.comm);
            } else if first.comm.starts_with("PM2 v") {
                shared.push(address);
            } else {
                let of = alone.entry(first.key.pid);
                let (_, own) = of.or_insert_with(|| (first.clone(), Own::default()));
                own.add(address, &first.comm);
            }
        }
        let mut called: BTreeMap<String, usize> = BTreeMap::new();
        for (stat, _) in alone.values() {
            *called.entry(stat.comm.clone()).or_default() += 1;
        }
        let of = alone.into_values().filter_map(|(stat, own)| {
            let alone = called.get(&stat.comm) == Some(&1);
            let found = found(&stat, &own, alone)?;
            Some((found, own))
        });
        ports.alone = of.collect();
        let said = [
            (
                unseen,
                "by whom cannot be seen: be root, or it is the kernel itself (NFS)",
            ),
            (
                activated,
                "held by systemd until it is needed: checks would start it, so it is left out",
            ),
            (
                shared,
                "held by PM2 for an application in cluster mode: give that one a check of your own",
            ),
        ];
        let said = said
            .into_iter()
            .filter(|(addresses, _)| !addresses.is_empty());
        ports.problems = said
            .map(|(addresses, why)| format!("{}: {why}", list(&addresses)))
            .collect();
        ports
    }
}

/// Addresses, some of them.
fn list(addresses: &[SocketAddr]) -> String {
    let shown: Vec<String> = addresses.iter().take(8).map(ToString::to_string).collect();
    let more = addresses.len() - shown.len();
    let shown = shown.join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    }
}

/// What nobody supervises. `alone`: it is the only one of its name.
fn found(stat: &Stat, own: &Own, alone: bool) -> Option<Found> {
    let first = own
        .listen
        .iter()
        .min_by_key(|at| (at.port(), !at.is_ipv4()))?;
    let comm = stat.comm.as_str();
    let plain = comm.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let name = if !alone || INTERPRETERS.contains(&plain) {
        format!("{comm}-{}", first.port())
    } else {
        comm.to_owned()
    };
    let with = [("address".to_owned(), first.to_string().into())];
    Some(Found {
        name,
        with: toml::Table::from_iter(with),
        what: format!(
            "{comm} (PID {}) listens on {}; nobody supervises it",
            stat.key.pid,
            list(&own.listen)
        ),
        processes: vec![stat.key],
        cgroup: None,
        published: Vec::new(),
    })
}

/// The path of a process's cgroup: that of version 2, or of systemd's own hierarchy.
fn cgroup(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let named = || {
        text.lines()
            .find_map(|line| line.split_once(":name=systemd:"))
            .map(|(_, path)| path)
    };
    named().or_else(|| of("0::")).map(str::to_owned)
}

#[cfg(test)]
#[path = "ports/tests.rs"]
mod tests;
