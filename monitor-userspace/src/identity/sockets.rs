//! Whose a socket is: the processes that have it open, by the number of its inode, looked for in `/proc/PID/fd`.
//!
//! For events of sockets that come while nobody calls: the kernel knows the socket then, and no process. The cgroup that made the socket
//! is searched first, and all others only when nobody in it has it. Bounded in entries that are read a look-up, in look-ups a second
//! and in what is kept; never for the hot thread.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::pace::Budget;
use crate::host::cgroupfs::CgroupFs;
use crate::host::procfs;
use crate::model::{ProcessKey, Time};

/// How long an answer holds: numbers of inodes are given away again.
const FRESH: Duration = Duration::from_secs(1);
/// Answers that are kept.
const KEPT: usize = 512;
/// Look-ups a second that read `/proc`.
const LOOKUPS_PER_SECOND: u32 = 50;
/// Files of processes, and processes, that one look-up reads: some 50 ms of it.
const READS: u32 = 50_000;

/// The processes that have a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// The one that has run for longest.
    pub first: ProcessKey,
    /// Its name.
    pub comm: String,
    /// How many were found: more than one after a fork, or when the socket was handed over.
    pub count: usize,
}

/// Looks for the holders of sockets.
#[derive(Debug)]
pub struct Sockets {
    tree: Option<Arc<CgroupFs>>,
    answers: HashMap<u64, (Time, Option<Holders>)>,
    lookups: Budget,
}

impl Sockets {
    /// Nothing is known yet. Without a cgroup tree, every process of the host is looked at.
    pub fn new(tree: Option<Arc<CgroupFs>>) -> Self {
        Self {
            tree,
            answers: HashMap::new(),
            lookups: Budget::new(LOOKUPS_PER_SECOND),
        }
    }

    /// Who has the socket of this inode open; none when nobody has, or when there were too many questions or too many files. `cgroup_id`
    /// is that of the socket, 0 when unknown.
    pub fn holders(&mut self, inode: u64, cgroup_id: u64, at: Time) -> Option<Holders> {
        if inode == 0 {
            return None;
        }
        if let Some((asked, answer)) = self.answers.get(&inode)
            && at.since(*asked) <= FRESH
        {
            return answer.clone();
        }
        if !self.lookups.take(at) {
            return None;
        }
        let answer = self.search(inode, cgroup_id);
        if self.answers.len() >= KEPT {
            self.answers
                .retain(|_, (asked, _)| at.since(*asked) <= FRESH);
            if self.answers.len() >= KEPT {
                self.answers.clear();
            }
        }
        self.answers.insert(inode, (at, answer.clone()));
        answer
    }

    /// Look-ups that were left out, since there were too many in that second.
    pub fn deferred(&self) -> u64 {
        self.lookups.refused()
    }

    fn search(&self, inode: u64, cgroup_id: u64) -> Option<Holders> {
        let wanted = format!("socket:[{inode}]");
        let mut reads = READS;
        let near = match &self.tree {
            Some(tree) if cgroup_id != 0 => tree.processes(cgroup_id),
            _ => Vec::new(),
        };
        among(near.into_iter(), wanted.as_bytes(), &mut reads)
            .or_else(|| among(every_process(), wanted.as_bytes(), &mut reads))
    }
}

fn every_process() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The holders among these processes; looks no further when `reads` is used up.
fn among(pids: impl Iterator<Item = u32>, wanted: &[u8], reads: &mut u32) -> Option<Holders> {
    let mut found = Vec::new();
    for pid in pids {
        if holds(pid, wanted, reads)
            && let Some(stat) = procfs::stat(pid)
        {
            found.push(stat);
        }
        if *reads == 0 {
            break;
        }
    }
    found.sort_unstable_by_key(|stat| (stat.key.start_ticks, stat.key.pid));
    let count = found.len();
    let first = found.into_iter().next()?;
    Some(Holders {
        first: first.key,
        comm: first.comm,
        count,
    })
}

/// Whether one of the process's files is this. Only links are read: to ask about the file itself could wait for its file system.
fn holds(pid: u32, wanted: &[u8], reads: &mut u32) -> bool {
    *reads = reads.saturating_sub(1);
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
    for entry in entries.flatten().flatten() {
        *reads = reads.saturating_sub(1);
        if *reads == 0 {
            return false;
        }
        if fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str().as_bytes() == wanted) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    fn inode(socket: &UdpSocket) -> u64 {
        rustix::fs::fstat(socket.as_fd())
            .expect("it is open")
            .st_ino
    }

    #[test]
    fn an_open_socket_is_its_process_and_a_closed_one_nobody() {
        let at = |seconds: i64| Time::from_nanos(seconds * 1_000_000_000);
        let mut sockets = Sockets::new(None);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let inode = inode(&socket);
        let found = sockets.holders(inode, 0, at(1)).expect("it is open here");
        assert_eq!(found.first.pid, std::process::id());
        drop(socket);
        assert_eq!(sockets.holders(inode, 0, at(2)), Some(found), "still known");
        assert_eq!(sockets.holders(inode, 0, at(4)), None);
        assert_eq!(sockets.holders(0, 0, at(4)), None);
    }

    #[test]
    fn look_ups_and_answers_are_bounded() {
        let mut sockets = Sockets::new(None);
        let at = Time::from_nanos(1);
        sockets.lookups = Budget::new(2);
        for inode in 0..5 {
            assert_eq!(sockets.holders(u64::MAX - inode, 0, at), None);
        }
        assert_eq!(sockets.deferred(), 3);
        let mut reads = 1;
        let everybody = among(every_process(), b"socket:[0]", &mut reads);
        assert_eq!((everybody, reads), (None, 0));
    }
}
