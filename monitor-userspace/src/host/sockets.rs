//! Which processes have which sockets open, by the numbers of their inodes: one walk through `/proc/PID/fd`, of bounded length.
//!
//! Only links are read, which waits for nobody. What other users have open is seen by root alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::procfs;

/// Files of processes that one walk reads.
const READS: usize = 500_000;

/// The inodes of the sockets that a process has open.
pub fn sockets_of(pid: u32) -> Vec<u32> {
    of(pid, &mut usize::MAX.clone())
}

/// Who has these sockets open: those that have run for longest first. Sockets that nobody has who may be seen are not in it.
pub fn holders(wanted: &BTreeSet<u32>) -> BTreeMap<u32, Vec<procfs::Stat>> {
    let mut all: BTreeMap<u32, Vec<procfs::Stat>> = BTreeMap::new();
    let mut reads = READS;
    let mut processes = procfs::processes().unwrap_or_default();
    processes.sort_unstable_by_key(|stat| (stat.key.start_ticks, stat.key.pid));
    for stat in processes {
        for inode in of(stat.key.pid, &mut reads) {
            if wanted.contains(&inode) {
                let holders = all.entry(inode).or_default();
                if holders.last() != Some(&stat) {
                    holders.push(stat.clone());
                }
            }
        }
    }
    all
}

fn of(pid: u32, reads: &mut usize) -> Vec<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut found = Vec::new();
    for file in files {
        if *reads == 0 {
            break;
        }
        *reads -= 1;
        let link = file.and_then(|file| fs::read_link(file.path()));
        let inode = link.ok().and_then(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse::<u32>().ok()
        });
        found.extend(inode);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::listeners;
    use super::*;

    #[test]
    fn who_listens_is_found_by_the_inode() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let all = listeners::numbered().expect("the kernel answers");
        let own = all.iter().find(|(queue, _)| queue.address == address);
        let (_, inode) = own.expect("it is there");
        let found = holders(&BTreeSet::from([*inode]));
        let pids: Vec<u32> = found[inode].iter().map(|stat| stat.key.pid).collect();
        assert_eq!(pids, [std::process::id()]);
        assert!(sockets_of(std::process::id()).contains(inode));
        assert!(holders(&BTreeSet::from([0])).is_empty());
    }
}
