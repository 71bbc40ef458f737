//! Mounted file systems and the room on them.
//!
//! Asking a file system of the network can take for ever: those are never asked.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfs, fstat, fstatvfs, openat2, statvfs};

use crate::model::{FolderId, Room};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub place: PathBuf,
    /// Its type.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Whether it can be written to.
    pub writable: bool,
    /// Device number as the kernel writes it, `8:1`.
    pub device: String,
}

/// File systems that are somewhere else, or in a process of somebody's: they may never answer.
const REMOTE: &[&str] = &[
    "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre", "ocfs2", "gfs2", "orangefs",
    "virtiofs", "autofs",
];
/// Most mounts that are looked at.
const MOUNTS: usize = 4096;

impl Mount {
    /// Whether it can be asked without waiting for anybody else.
    pub fn is_local(&self) -> bool {
        !REMOTE.contains(&self.kind.as_str()) && !self.kind.starts_with("fuse")
    }

    /// Whether it stores things for good: on a disk, in a pool of disks, or the root of a container.
    fn stores(&self) -> bool {
        let disk = self.source.starts_with("/dev/");
        let pool = matches!(self.kind.as_str(), "zfs" | "btrfs" | "bcachefs");
        disk || pool || (self.kind == "overlay" && self.place == Path::new("/"))
    }

    /// The name of its disk below `/dev`, or what is mounted where that is no disk.
    pub fn name(&self) -> &str {
        self.source.strip_prefix("/dev/").unwrap_or(&self.source)
    }
}

/// Every mount of this namespace, as far as they are looked at.
pub fn all() -> io::Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(parse).take(MOUNTS).collect())
}

/// The writable ones on disks of this host, each file system once: where it was mounted first.
pub fn disks(all: &[Mount]) -> Vec<&Mount> {
    let mut seen = BTreeSet::new();
    let stores = |mount: &&Mount| mount.writable && mount.is_local() && mount.stores();
    let disks = all.iter().filter(stores);
    disks.filter(|mount| seen.insert(&mount.device)).collect()
}

/// What a path is on: the last mount that its longest known beginning is.
pub fn of<'a>(all: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let holds = all.iter().filter(|mount| path.starts_with(&mount.place));
    holds.max_by_key(|mount| mount.place.components().count())
}

/// A line of `mountinfo`: number, parent, device, root, place, options, fields up to `-`, type, source, options of the file system.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = words.nth(2)?;
    let place = words.nth(1)?;
    let options = words.next()?;
    let mut rest = words.skip_while(|word| *word != b"-").skip(1);
    let (kind, source) = (rest.next()?, rest.next()?);
    let whole = rest.next().unwrap_or_default();
    let writable = |options: &[u8]| {
        options
            .split(|byte| *byte == b',')
            .all(|word| word != b"ro")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Mount {
        place: PathBuf::from(std::ffi::OsString::from_vec(plain(place))),
        kind: text(kind),
        source: text(&plain(source)),
        writable: writable(options) && writable(whole),
        device: text(device),
    })
}

/// Without the kernel's `\040` for what would part words.
fn plain(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut left = word;
    while let Some((first, rest)) = left.split_first() {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            out.push(byte);
            left = rest.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            left = rest;
        }
    }
    out
}

/// The room on the file system that is mounted there, and its device number.
pub fn room_at(place: &Path) -> io::Result<(u64, Room)> {
    let room = room(&statvfs(place)?);
    Ok((rustix::fs::stat(place)?.st_dev, room))
}

/// The room on the file system of an open file.
pub fn room_of(file: impl AsFd) -> io::Result<Room> {
    Ok(room(&fstatvfs(file)?))
}

/// What a folder's path leads to, without following a link, and the room there.
pub fn folder(path: &Path) -> io::Result<(FolderId, Room)> {
    let file = open_folder(path, OFlags::PATH)?;
    Ok((id_of(&file)?, room_of(&file)?))
}

/// Opens a folder by a path none of whose parts may be a link.
pub fn open_folder(path: &Path, flags: OFlags) -> io::Result<std::os::fd::OwnedFd> {
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(
        rustix::fs::CWD,
        path.as_os_str().as_bytes(),
        flags,
        Mode::empty(),
        how,
    )?)
}

/// Which folder an open one is.
pub fn id_of(file: impl AsFd) -> io::Result<FolderId> {
    let stat = fstat(file)?;
    Ok(FolderId {
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

fn room(of: &StatVfs) -> Room {
    let size = of.f_frsize.max(1);
    Room {
        used: of.f_blocks.saturating_sub(of.f_bfree).saturating_mul(size),
        available: of.f_bavail.saturating_mul(size),
        inodes_used: of.f_files.saturating_sub(of.f_ffree),
        inodes_left: of.f_ffree,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
23 22 0:5 / /proc rw - proc proc rw\n\
24 22 8:17 / /data\\040two rw master:3 - xfs /dev/sdb1 rw\n\
25 22 8:1 /home /srv rw - ext4 /dev/sda1 rw\n\
26 22 0:41 / /net rw - nfs4 host:/x rw\n\
27 22 7:1 / /snap ro - squashfs /dev/loop1 ro\n\
28 22 0:50 / /pool rw - zfs tank/data rw\n";

    #[test]
    fn the_kernels_lines_are_read() {
        let lines = LINES.as_bytes().split(|byte| *byte == b'\n');
        let all: Vec<Mount> = lines.filter_map(parse).collect();
        assert_eq!(all.len(), 7);
        let disks: Vec<&str> = disks(&all).iter().map(|mount| mount.name()).collect();
        assert_eq!(disks, ["sda1", "sdb1", "tank/data"]);
        let on = |path: &str| of(&all, Path::new(path)).map(|mount| mount.source.as_str());
        assert_eq!(on("/data two/x"), Some("/dev/sdb1"));
        assert_eq!(on("/data"), Some("/dev/sda1"));
        assert!(
            !of(&all, Path::new("/net/a"))
                .expect("it is mounted")
                .is_local()
        );
    }

    #[test]
    fn this_host_has_a_root_with_room() {
        let all = all().expect("it reads");
        assert!(of(&all, Path::new("/")).is_some());
        let (_, room) = room_at(Path::new("/")).expect("it answers");
        assert!(room.used > 0 && room.share() <= 10_000, "{room:?}");
        assert!(folder(Path::new("/proc/self/cwd")).is_err(), "it is a link");
    }
}
