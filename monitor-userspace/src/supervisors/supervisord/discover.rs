//! The programs of every supervisord of this host, which is asked where it listens: its Unix sockets, whatever its configuration is.
//!
//! supervisord binds a socket under a name that ends with its PID, and then gives it its own name: `supervisor/http.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::rpc::{Failure, call};
use super::{ANSWERS, Info};
use crate::host::procfs;
use crate::host::sockets::sockets_of;
use crate::supervisors::{Discovered, Found};

/// Most that are asked.
const DAEMONS: usize = 32;
/// Longest command line that is looked at, bytes.
const LINE: usize = 4096;

pub(super) fn discover() -> Discovered {
    let daemons = match procfs::processes() {
        Ok(all) => all
            .into_iter()
            .filter(|stat| is_supervisord(&stat.comm, stat.key.pid)),
        Err(error) => return Discovered::nobody(&format!("cannot read /proc: {error}")),
    };
    let pids: Vec<u32> = daemons.map(|stat| stat.key.pid).take(DAEMONS).collect();
    if pids.is_empty() {
        return Discovered::nobody("no supervisord runs here");
    }
    let mut all = Discovered::default();
    let named = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for pid in pids {
        let sockets = listens_at(pid, &named, &sockets_of(pid));
        if sockets.is_empty() {
            all.problems.push(format!(
                "supervisord (PID {pid}) listens at no Unix socket that can be seen: set [unix_http_server] in its configuration, and be root"
            ));
        }
        for socket in sockets {
            if let Err(why) = daemon(&socket, &mut all) {
                all.problems.push(format!(
                    "supervisord at {} cannot be asked: {why}",
                    socket.display()
                ));
            }
        }
    }
    all
}

/// A script by its own name, or by that of Python.
fn is_supervisord(comm: &str, pid: u32) -> bool {
    if !comm.starts_with("python") {
        return comm == "supervisord";
    }
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.get(..line.len().min(LINE)).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    words
        .nth(1)
        .is_some_and(|script| script == b"supervisord" || script.ends_with(b"/supervisord"))
}

/// The names of its sockets, from `/proc/net/unix`: the inode is the seventh word, the path what follows it.
fn listens_at(pid: u32, named: &str, own: &[u32]) -> BTreeSet<PathBuf> {
    let by_inode: BTreeMap<u32, String> = named
        .lines()
        .skip(1)
        .filter_map(|line| {
            let after = |rest: &'_ str| Some(rest.trim_start().split_once(' ')?.1.to_owned());
            let rest = (0..6).try_fold(line.to_owned(), |rest, _| after(&rest))?;
            let (inode, path) = rest.trim_start().split_once(' ')?;
            Some((inode.parse().ok()?, path.to_owned()))
        })
        .collect();
    let paths = own.iter().filter_map(|inode| by_inode.get(inode));
    let end = format!(".{pid}");
    let paths = paths.filter(|path| path.starts_with('/'));
    paths
        .map(|path| path.strip_suffix(&end).unwrap_or(path).into())
        .collect()
}

fn daemon(socket: &Path, all: &mut Discovered) -> Result<(), Failure> {
    let records = call(socket, None, "getAllProcessInfo", &[], ANSWERS)?;
    for info in records.iter().filter_map(Info::of) {
        let running = ["RUNNING", "STARTING"].contains(&&*info.state);
        if let Some(stat) = procfs::stat(info.pid).filter(|_| running && info.pid != 0) {
            let program = if info.group == info.name {
                info.name.clone()
            } else {
                format!("{}:{}", info.group, info.name)
            };
            let with = [
                ("program".to_owned(), program.as_str().into()),
                ("socket".to_owned(), socket.display().to_string().into()),
            ];
            all.add(Found {
                name: info.name,
                with: toml::Table::from_iter(with),
                what: format!("supervisord at {} runs {program}", socket.display()),
                processes: vec![stat.key],
                cgroup: None,
                published: Vec::new(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_under_its_own_name() {
        let named = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 71 /run/a b.sock.42\n\
            0000000000000000: 00000002 00000000 00010000 0001 01   72 /run/other.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 73\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 74 @abstract\n\
            rubbish\n";
        let found = listens_at(42, named, &[71, 73, 74]);
        assert_eq!(found, BTreeSet::from(["/run/a b.sock".into()]));
        let other = listens_at(42, named, &[72]);
        assert_eq!(other, BTreeSet::from(["/run/other.sock".into()]));
        assert!(listens_at(42, "", &[71]).is_empty());
    }
}
