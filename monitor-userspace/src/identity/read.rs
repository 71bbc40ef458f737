//! One process out of `/proc`, or nothing: never another one that has its PID.
//!
//! The folder of the process is opened first, and everything is read through it: once that process has ended, the kernel answers no
//! question put through it, whoever has the number by then. The start time is compared before and after all the same. Half a dozen
//! small reads, each bounded; the command line alone touches memory of the process (which may be swapped out), so it is read only
//! where it is wanted.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::cgroups::CgroupIdentity;
use crate::host::cgroupfs::CgroupFs;
use crate::model::ProcessKey;

/// Bytes of a command line that are kept.
pub(super) const ARGV_MAX: usize = 4096;
/// `/proc/PID/stat` is 64 bytes of name and some fifty numbers.
const STAT_MAX: u64 = 2048;
/// `/proc/PID/status`: the users stand in its first lines.
const STATUS_MAX: u64 = 2048;
/// `/proc/PID/cgroup`: a line of up to `PATH_MAX` for each of a dozen hierarchies, in practice.
const CGROUP_MAX: u64 = 32 << 10;

/// What `/proc` says of a process.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) comm: String,
    pub(super) parent_pid: u32,
    pub(super) uid: u32,
    /// Of v2; zero when there is none.
    pub(super) cgroup_id: u64,
    /// On a host with v1 hierarchies, of a process in the root of v2.
    pub(super) legacy: Option<Arc<CgroupIdentity>>,
    /// Bytes and whether they were cut; none when they were not wanted, or are gone with the memory of an ending process.
    pub(super) argv: Option<(Vec<u8>, bool)>,
}

/// Reads this very process; none when it has ended. `wants_argv` is told its name.
pub(super) fn process(
    key: ProcessKey,
    tree: Option<&CgroupFs>,
    wants_argv: impl Fn(&str) -> bool,
) -> Option<Reading> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, format!("/proc/{}", key.pid), flags, Mode::empty()).ok()?;
    let before = stat(&folder)?;
    if before.start_ticks != key.start_ticks {
        return None;
    }
    let uid = real_uid(&read(&folder, "status", STATUS_MAX)?)?;
    let (cgroup_id, legacy) = read(&folder, "cgroup", CGROUP_MAX)
        .map(|bytes| cgroup(&String::from_utf8_lossy(&bytes), tree))
        .unwrap_or_default();
    let argv = wants_argv(&before.comm)
        .then(|| read(&folder, "cmdline", ARGV_MAX as u64 + 1))
        .flatten()
        .map(cut_argv);
    let after = stat(&folder)?;
    if after.start_ticks != key.start_ticks {
        return None;
    }
    Some(Reading {
        comm: after.comm,
        parent_pid: after.parent_pid,
        uid,
        cgroup_id,
        legacy,
        argv: argv.filter(|(bytes, _)| !(bytes.is_empty() && after.ending)),
    })
}

/// Cuts a command line to what is kept.
pub(super) fn cut_argv(mut argv: Vec<u8>) -> (Vec<u8>, bool) {
    let cut = argv.len() > ARGV_MAX;
    argv.truncate(ARGV_MAX);
    (argv, cut)
}

fn read(folder: &OwnedFd, name: &str, most: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

struct Stat {
    comm: String,
    parent_pid: u32,
    start_ticks: u64,
    ending: bool,
}

fn stat(folder: &OwnedFd) -> Option<Stat> {
    parse_stat(&read(folder, "stat", STAT_MAX)?)
}

/// Not `host::procfs`'s: a name may be any bytes, and a process must not hide behind them here.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    // Field 3 is the state, 4 the parent, 22 the start (proc(5)).
    let mut fields = rest.split_ascii_whitespace();
    let ending = matches!(fields.next()?, "Z" | "X" | "x");
    let parent_pid = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        comm,
        parent_pid,
        start_ticks,
        ending,
    })
}

fn real_uid(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `HIERARCHY:CONTROLLERS:PATH`, a line a hierarchy; v2 is number 0 (cgroups(7)).
fn cgroup(text: &str, tree: Option<&CgroupFs>) -> (u64, Option<Arc<CgroupIdentity>>) {
    let path_of = |line: &str| -> Option<(bool, String)> {
        let (number, rest) = line.split_once(':')?;
        let (_, path) = rest.split_once(':')?;
        Some((number == "0", path.to_owned()))
    };
    let lines = || text.lines().filter_map(path_of);
    let unified = lines().find_map(|(is_unified, path)| is_unified.then_some(path));
    let id = unified
        .as_deref()
        .and_then(|path| tree?.id_of(path))
        .unwrap_or(0);
    if unified.is_some_and(|path| path != "/") {
        return (id, None);
    }
    let legacy = lines()
        .filter(|(is_unified, path)| !is_unified && path != "/")
        .map(|(_, path)| CgroupIdentity::of(path))
        .find(|cgroup| cgroup.place.is_known());
    (id, legacy.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_any_bytes() {
        let line = b"42 (a) \xff(b) S 7 42 42 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 987654 1 2";
        let stat = parse_stat(line).expect("it reads");
        assert_eq!(
            (
                stat.comm.as_str(),
                stat.parent_pid,
                stat.start_ticks,
                stat.ending
            ),
            ("a) \u{fffd}(b", 7, 987_654, false)
        );
        for garbage in [&b""[..], b")(", b"1 (x", b"1 (x) S", b"1 (x) S 1 2 3"] {
            assert!(parse_stat(garbage).is_none());
        }
    }

    #[test]
    fn hierarchies_of_v1_are_looked_at_behind_the_root_of_v2() {
        let id = "3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a";
        let text = format!(
            "9:name=systemd:/\n4:memory:/docker/{id}\n2:cpu:/system.slice/a.service\n0::/\n"
        );
        let (_, legacy) = cgroup(&text, None);
        let legacy = legacy.expect("it is found");
        assert_eq!(legacy.place.container.as_ref().expect("docker").id, id);
        let text = format!("4:memory:/docker/{id}\n0::/system.slice/b.service\n");
        assert_eq!(cgroup(&text, None), (0, None));
        assert_eq!(cgroup("4:memory:/mine\n0::/\n", None), (0, None));
        // No v2 at all; a path with colons.
        let text = format!("4:memory:/system.slice:docker:{id}\n");
        assert!(cgroup(&text, None).1.is_some());
        assert_eq!(cgroup("garbage\n::\n:\n", None), (0, None));
    }

    #[test]
    fn we_read_ourselves_and_nobody_with_our_number() {
        let own = crate::host::procfs::stat(std::process::id()).expect("we run");
        let reading = process(own.key, None, |_| true).expect("we run");
        let (argv, cut) = reading.argv.expect("we have a command line");
        assert!(!argv.is_empty() && !cut);
        assert_eq!(
            Some(reading.uid),
            crate::host::procfs::real_uid(own.key.pid)
        );
        assert_eq!((reading.comm, reading.parent_pid), (own.comm, own.parent));
        let former = ProcessKey {
            start_ticks: own.key.start_ticks - 1,
            ..own.key
        };
        assert!(process(former, None, |_| true).is_none());
        let nobody = ProcessKey {
            pid: u32::MAX,
            start_ticks: 0,
        };
        assert!(process(nobody, None, |_| true).is_none());
        assert!(process(own.key, None, |_| false).is_some_and(|own| own.argv.is_none()));
    }
}
