//! What this host has that actions need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::abilities::{Abilities, PROGRAMS};

/// Reads all of it. What cannot be read counts as not there.
pub fn read() -> Abilities {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let cgroup2 = mount_of(&mounts, "cgroup2");
    let controllers2 = cgroup2
        .as_ref()
        .and_then(|root| std::fs::read_to_string(root.join("cgroup.controllers")).ok())
        .unwrap_or_default();
    let version1 = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    Abilities {
        capabilities: capabilities(&status),
        kernel: kernel(),
        cgroup2,
        controllers2: controllers2.split_whitespace().map(str::to_owned).collect(),
        controllers1: in_version1(&version1),
        programs: PROGRAMS
            .iter()
            .filter(|name| is_in_path(name))
            .map(|name| (*name).to_owned())
            .collect(),
    }
}

fn capabilities(status: &str) -> u64 {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || {
        numbers
            .next()
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0)
    };
    (next(), next())
}

/// Where the first file system of this type is mounted.
fn mount_of(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, found) = (words.next()?, words.next()?, words.next()?);
        (found == kind).then(|| PathBuf::from(place))
    })
}

/// Controllers that a hierarchy of version 1 has: those whose hierarchy has a number, and that are on.
fn in_version1(cgroups: &str) -> BTreeSet<String> {
    let lines = cgroups.lines().filter(|line| !line.starts_with('#'));
    let found = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, hierarchy, _, on) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (hierarchy != "0" && on == "1").then(|| name.to_owned())
    });
    found.collect()
}

fn is_in_path(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| {
        let file: &Path = &folder.join(name);
        std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_they_are() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t000001feffffffff\n"), 0x1fe_ffff_ffff);
        assert_eq!(capabilities("nothing"), 0);
        let mounts = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            mount_of(mounts, "cgroup2"),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        let cgroups = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t9\t1\nmemory\t0\t9\t1\npids\t4\t9\t0\n";
        assert_eq!(in_version1(cgroups), BTreeSet::from(["cpu".to_owned()]));
    }

    #[test]
    fn this_host_has_a_kernel_and_a_shell() {
        assert!(kernel().0 >= 4, "{:?}", kernel());
        assert!(is_in_path("sh"));
        assert!(!is_in_path("no-program-is-called-this"));
    }
}
