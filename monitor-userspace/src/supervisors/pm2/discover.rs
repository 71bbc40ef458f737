//! The applications of every PM2 daemon of this host. Each says in its name as a process whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::apps::Entry;
use super::{ANSWERS, rpc};
use crate::host::procfs;
use crate::model::ProcessKey;
use crate::supervisors::{Discovered, Found};

/// Most daemons that are asked.
const DAEMONS: usize = 32;

pub(super) fn discover() -> Discovered {
    let homes = match homes() {
        Ok(homes) if homes.is_empty() => return Discovered::nobody("no PM2 daemon runs here"),
        Ok(homes) => homes,
        Err(error) => return Discovered::nobody(&format!("cannot read /proc: {error}")),
    };
    let mut all = Discovered::default();
    for home in homes.iter().take(DAEMONS) {
        if let Err(why) = daemon(home, &mut all) {
            let home = home.display();
            all.problems.push(format!(
                "PM2 of {home} cannot be asked: {why}: are you root, or its user?"
            ));
        }
    }
    if homes.len() > DAEMONS {
        let more = homes.len() - DAEMONS;
        all.problems.push(format!(
            "{more} more PM2 daemons were not asked: {DAEMONS} are at most"
        ));
    }
    all
}

fn homes() -> std::io::Result<BTreeSet<PathBuf>> {
    let daemons = procfs::processes()?.into_iter();
    let daemons = daemons.filter(|stat| stat.comm.starts_with("PM2 v"));
    Ok(daemons
        .filter_map(|stat| {
            let line = std::fs::read(format!("/proc/{}/cmdline", stat.key.pid)).ok()?;
            home(&line)
        })
        .collect())
}

/// `PM2 v5.4.3: God Daemon (/root/.pm2)`
fn home(line: &[u8]) -> Option<PathBuf> {
    let line = std::str::from_utf8(line).ok()?;
    let (_, rest) = line.split_once(": God Daemon (")?;
    let (home, _) = rest.rsplit_once(')')?;
    home.starts_with('/').then(|| home.into())
}

fn daemon(home: &Path, all: &mut Discovered) -> Result<(), String> {
    let socket = home.join("rpc.sock");
    let entries: Option<Vec<Entry>> = rpc::ask(&socket, "getMonitorData", &json!({}), ANSWERS)?;
    let mut apps: BTreeMap<String, Vec<ProcessKey>> = BTreeMap::new();
    for entry in entries.unwrap_or_default() {
        let stat = entry.pid().and_then(procfs::stat);
        // Instances of an application have one name.
        if let (Some(app), Some(stat)) = (entry.running(), stat) {
            apps.entry(app.to_owned()).or_default().push(stat.key);
        }
    }
    for (app, processes) in apps {
        let with = [
            ("app".to_owned(), app.as_str().into()),
            ("home".to_owned(), home.display().to_string().into()),
        ];
        all.add(Found {
            with: toml::Table::from_iter(with),
            what: format!("PM2 of {} runs {app}", home.display()),
            name: app,
            processes,
            cgroup: None,
            published: Vec::new(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_says_whose_it_is() {
        let of = |line: &str| home(line.as_bytes());
        let found = of("PM2 v6.0.5: God Daemon (/home/web (old)/.pm2)\0\0\0");
        assert_eq!(found, Some("/home/web (old)/.pm2".into()));
        for other in [
            "",
            "PM2 v6",
            "PM2 v6: God Daemon (",
            "PM2 v6: God Daemon (x)",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(home(&[0xff, 0xfe]), None);
    }
}
