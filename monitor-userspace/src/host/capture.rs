//! Files that take what the daemon's services write: `logs/NAME.log` in the state folder, and those before, `NAME.log.1` the newest.
//!
//! The service itself has the file open, for appending, so that it goes on when the daemon is gone, and never waits for the daemon. A
//! file over its `max_size` becomes an old one at the service's start. While it runs, the older part is copied, and then taken away from
//! the beginning of the file in one step of the file system's (`FALLOC_FL_COLLAPSE_RANGE`: ext4, xfs): nothing that is written meanwhile
//! is lost. Other file systems cannot do that: there the file is emptied, and what is written between the last look and that is lost.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

use super::HostError;

/// Most old files of a service.
pub const MOST: u32 = 100;

/// How much of what a service writes is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A file over so many bytes becomes an old one.
    pub max_size: u64,
    /// So many old ones are kept.
    pub keep: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_size: 8 << 20,
            keep: 1,
        }
    }
}

/// Files of services, and how long each may be.
#[derive(Debug)]
pub struct Captured {
    folder: PathBuf,
    bounds: Mutex<BTreeMap<String, Bounds>>,
}

/// The folder of these files.
pub fn folder(state: &Path) -> PathBuf {
    state.join("logs")
}

/// The file of a service.
pub fn file(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}.log"))
}

fn old(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Those before this file, the newest first.
pub fn before(path: &Path) -> Vec<PathBuf> {
    let all = (1..=MOST).map(|number| old(path, number));
    all.take_while(|path| path.exists()).collect()
}

fn error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let what = format!("{what} {}", path.display());
    move |source| HostError::System { what, source }
}

impl Captured {
    /// In this folder, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            bounds: Mutex::default(),
        }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How much is kept of each service from now on; the usual of others, which may have been services once.
    pub fn bound(&self, bounds: BTreeMap<String, Bounds>) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    fn bounds(&self, service: &str) -> Bounds {
        let bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        bounds.get(service).copied().unwrap_or_default()
    }

    /// Opens the file of a service that is about to start. It becomes its user's, numeric user and group, since some programs open
    /// `/dev/stderr` anew; the folder lets nobody else in.
    pub fn open(&self, service: &str, user: Option<(u32, u32)>) -> Result<File, HostError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        made.map_err(error("make", &self.folder))?;
        let path = file(&self.folder, service);
        let mut file = append(&path).map_err(error("open", &path))?;
        let length = file.metadata().map_err(error("read", &path))?.len();
        let bounds = self.bounds(service);
        if length > bounds.max_size {
            make_room(&path, bounds.keep)
                .map_err(error("make room for the older part of", &path))?;
            if bounds.keep > 0 {
                fs::rename(&path, old(&path, 1)).map_err(error("rename", &path))?;
            } else {
                fs::remove_file(&path).map_err(error("remove", &path))?;
            }
            file = append(&path).map_err(error("open", &path))?;
        }
        if let Some((uid, gid)) = user {
            fchown(&file, Some(uid), Some(gid)).map_err(error("give to its service", &path))?;
        }
        Ok(file)
    }

    /// Makes those short that are too long. What could not be kept is said; it goes all the same, since a full disk stops the journal.
    pub fn keep_short(&self) -> Vec<HostError> {
        // No folder: nothing was ever captured.
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let logs = paths.filter(|path| path.extension().is_some_and(|it| it == "log"));
        let cut = logs.filter_map(|path| {
            let service = path.file_stem().and_then(|name| name.to_str());
            let bounds = self.bounds(service.unwrap_or_default());
            cut(&path, bounds)
                .map_err(error("keep the older part of", &path))
                .err()
        });
        cut.collect()
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Without NONBLOCK, a pipe in its place would hold us up.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file; remove it"));
    }
    Ok(file)
}

fn cut(path: &Path, bounds: Bounds) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if !about.is_file() || about.size() <= bounds.max_size {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // What can be taken away in one step ends where a block of the file system does, and is not all of it.
    let block = about.blksize().max(1);
    let piece = (bounds.max_size / block * block).max(block);
    let whole = about.size().saturating_sub(1) / piece * piece;
    let kept = keep(&file, path, (whole, piece), bounds.keep);
    if whole > 0 && kept.is_ok() && collapse(&file, whole) {
        return Ok(());
    }
    // Copied as far as it goes by now, until nothing has come since.
    let kept = kept.and_then(|()| keep_rest(&file, path, whole, bounds));
    file.set_len(0)?;
    kept
}

/// Takes the first bytes of a file away, while others append to it. Whether that can be done here.
fn collapse(file: &File, length: u64) -> bool {
    // What is on its way to the disk is waited for here, and not while the file is locked.
    file.sync_data().is_ok() && fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, length).is_ok()
}

/// Makes the place of the newest old file free; those that are too many go.
fn make_room(path: &Path, keep: u32) -> io::Result<()> {
    for number in (1..=MOST).rev() {
        let from = old(path, number);
        let moved = if number >= keep {
            fs::remove_file(from)
        } else {
            fs::rename(from, old(path, number + 1))
        };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Copies the first `whole` bytes of a file to the places of old ones, in pieces of this length; of what would not be kept, nothing.
fn keep(file: &File, path: &Path, (whole, piece): (u64, u64), keep: u32) -> io::Result<()> {
    if keep == 0 {
        return make_room(path, keep);
    }
    let mut from = whole.saturating_sub(piece.saturating_mul(u64::from(keep)));
    let new = path.with_extension("log.new");
    while from < whole {
        let done = copy(file, &new, from, piece)
            .and_then(|()| make_room(path, keep))
            .and_then(|()| fs::rename(&new, old(path, 1)));
        if let Err(error) = done {
            let _gone = fs::remove_file(&new);
            return Err(error);
        }
        from += piece;
    }
    Ok(())
}

/// Appends what is in the file from here on to the newest old one, until nothing more has come.
fn keep_rest(file: &File, path: &Path, mut from: u64, bounds: Bounds) -> io::Result<()> {
    if bounds.keep == 0 {
        return Ok(());
    }
    let mut kept = append(&old(path, 1))?;
    // A service that writes faster than this copies is not waited for.
    for _ in 0..100 {
        let mut rest = Part { file, at: from };
        let copied = io::copy(&mut (&mut rest).take(bounds.max_size), &mut kept)?;
        if copied == 0 {
            break;
        }
        from += copied;
    }
    Ok(())
}

fn copy(file: &File, to: &Path, from: u64, length: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut to = options.open(to)?;
    let mut part = Part { file, at: from };
    io::copy(&mut (&mut part).take(length), &mut to)?;
    Ok(())
}

/// A file from somewhere on, with a place of its own: another reader may be elsewhere.
struct Part<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
