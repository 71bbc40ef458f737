//! What a configuration names already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::ports::Own;
use crate::config::Config;
use crate::supervisors::{Found, KINDS};

/// Most of a PID file that is read, bytes.
const LINE: u64 = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Known {
    names: BTreeSet<String>,
    /// Kind, and what is acted on.
    outside: BTreeMap<(&'static str, Vec<String>), String>,
    listen: BTreeMap<SocketAddr, String>,
    /// Names of processes that `[[process]]` entries name, and the entries.
    groups: BTreeMap<String, String>,
    /// Main processes of programs with a PID file.
    pub(super) processes: BTreeMap<u32, String>,
}

impl Known {
    /// All of that.
    pub fn of(config: &Config) -> Self {
        let outside = config.outside.iter();
        let words = outside.map(|(name, it)| ((it.kind, it.words.clone()), name.clone()));
        let services = config.services.iter();
        let listen = services.flat_map(|it| it.listen.iter().map(|at| (*at, it.name.clone())));
        let processes = config.outside.iter().filter_map(|(name, it)| {
            let file = it.with.get("file").filter(|_| it.kind == "pid_file")?;
            Some((pid(file.as_str()?)?, name.clone()))
        });
        Self {
            names: config.named.keys().cloned().collect(),
            outside: words.collect(),
            listen: listen.collect(),
            groups: config.groups.clone(),
            processes: processes.collect(),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.iter()
    }

    /// The service that this is.
    ///
    /// `comm`: the name of its main process.
    pub(super) fn service(
        &self,
        kind: &'static str,
        found: &Found,
        own: &Own,
        comm: &str,
    ) -> Option<String> {
        let spec = KINDS.iter().find(|spec| spec.name == kind);
        let read = spec.and_then(|spec| spec.read);
        let words = read.and_then(|read| read(&found.name, &found.with).ok());
        let named = words.map(|words| (kind, words));
        let named = named.and_then(|key| self.outside.get(&key));
        let addresses = own.listen.iter().chain(&found.published);
        let mut listed = addresses.filter_map(|at| self.listen.get(at));
        let processes = found.processes.iter();
        let mut running = processes.filter_map(|it| self.processes.get(&it.pid));
        let named = named.or_else(|| listed.next()).or_else(|| running.next());
        named.or_else(|| self.groups.get(comm)).cloned()
    }
}

fn pid(file: &str) -> Option<u32> {
    if !std::fs::metadata(file).ok()?.is_file() {
        return None;
    }
    let file = std::io::Read::take(std::fs::File::open(file).ok()?, LINE);
    std::io::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_configured_is_known_by_whom_it_names_and_by_its_address() {
        let text = "[[service]]\nname = \"web\"\nkind = \"systemd\"\nwith = { unit = \"nginx\" }\n\
            [[service]]\nname = \"api\"\nkind = \"pm2\"\nlisten = [\"127.0.0.1:3000\"]\n";
        let config = Config::parse(text, Path::new("x.toml")).expect("it is good");
        let known = Known::of(&config);
        let found = |unit: &str| Found {
            name: "other".to_owned(),
            with: toml::Table::from_iter([("unit".to_owned(), unit.into())]),
            what: String::new(),
            processes: Vec::new(),
            cgroup: None,
            published: Vec::new(),
        };
        let of = |kind, unit: &str, own: &Own| known.service(kind, &found(unit), own, "cruncher-1");
        let none = Own::default();
        assert_eq!(
            of("systemd", "nginx.service", &none).as_deref(),
            Some("web")
        );
        assert_eq!(of("systemd", "apache2.service", &none), None);
        let mut own = Own::default();
        own.listen
            .push("127.0.0.1:3000".parse().expect("it is one"));
        assert_eq!(
            of("systemd", "apache2.service", &own).as_deref(),
            Some("api")
        );
        let batch = "[[process]]\nname = \"batch\"\ncomm = [\"cruncher-1\"]\n";
        let config = Config::parse(batch, Path::new("x.toml")).expect("it is good");
        let entry = Known::of(&config).service("systemd", &found("x.service"), &none, "cruncher-1");
        assert_eq!(entry.as_deref(), Some("batch"));
        let names: Vec<_> = known.names().cloned().collect();
        assert_eq!(names, ["api", "web"]);
    }
}
