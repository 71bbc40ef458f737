//! Looks for the files of a folder that its rules name. Never leaves it: every folder is opened beneath the one that is held open, with no
//! link followed and no mount crossed (`openat2`, since Linux 5.6).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

use crate::host::glob;
use crate::model::Folder;

/// Bounds of one look: entries, matching files, how deep, how long.
const ENTRIES: u64 = 1_000_000;
const MATCHING: usize = 100_000;
const DEPTH: usize = 32;
const LONGEST: Duration = Duration::from_mins(1);

/// A file that the patterns name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matching {
    /// Below the folder.
    pub(super) path: PathBuf,
    pub(super) is: Is,
    /// Bytes that it takes on the disk.
    pub(super) takes: u64,
    /// How many names it has.
    pub(super) names: u64,
}

/// Which file, and in what state: one that was written to since is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Is {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: i64,
    /// When it was last written to: seconds and nanoseconds since 1970.
    pub(super) written: (i64, u64),
}

impl Is {
    #[expect(
        clippy::unnecessary_cast,
        reason = "the type differs between architectures; nanoseconds are never negative"
    )]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            written: (stat.st_mtime, stat.st_mtime_nsec as u64),
        }
    }
}

/// How many names a file has.
#[expect(
    clippy::unnecessary_cast,
    reason = "the type differs between architectures"
)]
pub(super) fn names(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The oldest first.
    pub(super) matching: Vec<Matching>,
    /// There is more than was looked at.
    pub(super) bounded: bool,
    /// Folders inside that could not be looked into, and why not the first.
    pub(super) closed: (u32, Option<String>),
}

impl Found {
    fn could_not(&mut self, path: &Path, error: &io::Error) {
        self.closed.0 += 1;
        let why = || format!("{}: {error}", path.display());
        self.closed.1.get_or_insert_with(why);
    }
}

/// Opens what is beneath a folder.
pub(super) fn beneath(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let name = if path.as_os_str().is_empty() {
        b".".as_slice()
    } else {
        path.as_os_str().as_bytes()
    };
    openat2(
        root,
        name,
        flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        how,
    )
}

/// Looks.
pub(super) fn look(root: impl AsFd, rules: &Folder) -> Found {
    let mut look = Look {
        rules,
        found: Found::default(),
        entries: 0,
        until: Instant::now() + LONGEST,
        inside: vec![PathBuf::new()],
    };
    while let Some(path) = look.inside.pop() {
        if look.found.bounded {
            break;
        }
        let opened = beneath(&root, &path, OFlags::RDONLY | OFlags::DIRECTORY);
        let read = opened
            .map_err(io::Error::from)
            .and_then(|folder| look.folder(&folder, &path));
        match read {
            // Another file system, a link, or gone: nothing of ours.
            Err(error) if !path.as_os_str().is_empty() && is_elsewhere(&error) => {}
            Err(error) => look.found.could_not(&path, &error),
            Ok(()) => {}
        }
    }
    let mut found = look.found;
    found
        .matching
        .sort_by(|a, b| (a.is.written, &a.path).cmp(&(b.is.written, &b.path)));
    found
}

fn is_elsewhere(error: &io::Error) -> bool {
    let elsewhere = [Errno::XDEV, Errno::LOOP, Errno::NOENT, Errno::NOTDIR];
    let code = error.raw_os_error();
    elsewhere
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

struct Look<'a> {
    rules: &'a Folder,
    found: Found,
    entries: u64,
    until: Instant,
    /// Folders that are still to be looked into.
    inside: Vec<PathBuf>,
}

impl Look<'_> {
    fn folder(&mut self, folder: &OwnedFd, path: &Path) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            self.entries += 1;
            let full = self.found.matching.len() >= MATCHING;
            if full || self.entries > ENTRIES || Instant::now() > self.until {
                self.found.bounded = true;
                return Ok(());
            }
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let matches = || {
                let mut patterns = self.rules.patterns.iter();
                patterns.any(|pattern| glob::matches(pattern.as_bytes(), name))
            };
            let may_be_folder =
                matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            let wanted = (may_be_folder && self.rules.recursive) || matches();
            if !wanted {
                continue;
            }
            let stat = match statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let below = path.join(std::ffi::OsStr::from_bytes(name));
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if self.rules.recursive => {
                    if below.components().count() < DEPTH {
                        self.inside.push(below);
                    } else {
                        self.found.bounded = true;
                    }
                }
                FileType::RegularFile if matches() => self.found.matching.push(Matching {
                    path: below,
                    is: Is::of(&stat),
                    takes: u64::try_from(stat.st_blocks)
                        .unwrap_or(0)
                        .saturating_mul(512),
                    names: names(&stat),
                }),
                _ => {}
            }
        }
        Ok(())
    }
}
