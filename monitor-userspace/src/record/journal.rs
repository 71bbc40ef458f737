//! The audit journal: JSON, a line an entry, appended. Intent before the act, outcome after it.
//!
//! An entry is handed to the kernel before the act it announces (so it survives `kill -9` of the daemon) and forced to the disk right
//! after by [`Journal::sync`], off the hot path: the acts of today (kill, restart) do not outlive a power cut either. With
//! `intent = "before"` an intent is forced before its act. A torn last line is cut off at the next start. Every line has a sum that follows
//! from the line before (`chain`). The file and its older generations are bounded (`generations`). If an entry cannot be
//! written, nothing may act.

mod chain;
mod config;
mod entry;
mod generations;
mod place;
mod read;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Time;
use chain::Sum;
pub use config::{Config, Intent};
pub use entry::{Entry, Line};
use place::{create, identity_of};
use read::LINE;
pub use read::{Found, Place, Shape, Stored, read};
pub use verify::{Break, Report, Verdict, verify};

/// Space reserved ahead, so that a full disk does not stop the next few hundred entries.
const AHEAD: u64 = 1 << 20;
/// After an entry that could not be written, there must be room for so much before the next one is: otherwise what little is left
/// takes a short entry, and the long one of the next act fails again.
const ROOM: u64 = 64 << 10;
/// Most files that were moved away and wait to be forced to the disk.
const LEFT: usize = 8;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the journal {}: {source}; {help}", path.display())]
pub struct JournalError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
    help: &'static str,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    path: PathBuf,
    config: Config,
    open: Mutex<Open>,
    /// Held while generations are moved. Never waited for on the hot path, but where somebody put another file in the journal's place.
    moving: Mutex<()>,
    /// A new file was begun since this was last asked.
    begun: AtomicBool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode of the file: what the path must lead to.
    identity: (u64, u64),
    length: u64,
    reserved: u64,
    dirty: bool,
    /// The last entry could not be written.
    failed: bool,
    /// Sum of the last line.
    last: Sum,
    /// How many generations there were before this one.
    generation: u64,
    /// The folder does not have the file on the disk yet.
    new: bool,
    /// Files that were written until they were moved away, and are not forced to the disk yet.
    left: Vec<File>,
}

impl Journal {
    /// Opens the journal in this folder, which is made if need be; cuts off a torn last line. A second daemon on the same folder
    /// is refused.
    pub fn open(folder: &Path, config: Config) -> Result<Self, JournalError> {
        let path = folder.join(generations::CURRENT);
        let fail = |what, help| {
            let path = path.clone();
            move |source| JournalError {
                what,
                path,
                source,
                help,
            }
        };
        std::fs::create_dir_all(folder).map_err(fail(
            "make the folder of",
            "make it, or name another with --state-dir or [daemon] state_dir",
        ))?;
        let writable = "check its owner and free space, or name another folder with --state-dir or [daemon] state_dir";
        let mut file = create(&path).map_err(fail("write", writable))?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => fail(
                "lock",
                "another smart-monitor uses this state folder: stop it, or name another folder with --state-dir",
            )(std::io::ErrorKind::WouldBlock.into()),
            std::fs::TryLockError::Error(source) => fail("lock", writable)(source),
        })?;
        let (length, torn) = whole_lines(&mut file).map_err(fail("read", writable))?;
        if torn > 0 {
            file.set_len(length)
                .map_err(fail("cut a torn line off", writable))?;
            tracing::warn!(path = %path.display(), bytes = torn, "the journal ended in half a line, which is cut off");
        }
        let stored = Stored::open(folder).map_err(fail("read", writable))?;
        let last = stored.last_sum().map_err(fail("read", writable))?;
        let before = stored.generation().map_err(fail("read", writable))?;
        let identity = file.metadata().map_err(fail("read", writable))?;
        let open = Open {
            file,
            identity: identity_of(&identity),
            length,
            reserved: 0,
            dirty: false,
            failed: false,
            last: last.unwrap_or(Sum::NONE),
            generation: before.saturating_add(u64::from(length == 0 && last.is_some())),
            new: true,
            left: Vec::new(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            path,
            config,
            open: Mutex::new(open),
            moving: Mutex::new(()),
            begun: AtomicBool::new(false),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a new file was begun since this was last asked. What must be remembered is to be written into it again, since the
    /// file that has it will go.
    pub fn take_begun(&self) -> bool {
        self.begun.swap(false, Ordering::Relaxed)
    }

    /// Has the next [`Journal::take_begun`] say that a new file was begun.
    pub fn set_begun(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, all of them or none. When this returns, they survive the daemon.
    pub fn append(&self, now: Time, unix_ns: i64, entries: Vec<Entry>) -> Result<(), JournalError> {
        self.add(now, unix_ns, entries).map(drop)
    }

    /// Appends what is about to be done, which may be done when this returns: the entry survives the daemon then, and with
    /// `intent = "before"` the machine as well.
    pub fn announce(&self, now: Time, unix_ns: i64, intent: Entry) -> Result<(), JournalError> {
        let open = self.add(now, unix_ns, vec![intent])?;
        if self.config.intent == Intent::With {
            return Ok(());
        }
        // The file it was written to, whatever becomes the journal meanwhile; and nobody waits for the disk under the lock.
        let file = open.file.try_clone();
        let new = open.new.then_some(open.generation);
        drop(open);
        let force = || {
            file?.sync_data()?;
            self.force_folder(new)
        };
        force().map_err(|error| self.fail("force to the disk", error))
    }

    fn add(
        &self,
        now: Time,
        unix_ns: i64,
        entries: Vec<Entry>,
    ) -> Result<MutexGuard<'_, Open>, JournalError> {
        let line = |entry| {
            let line = Line {
                unix_ns,
                monotonic_ns: now.nanos(),
                entry,
            };
            serde_json::to_vec(&line).map_err(|error| self.fail("write", error.into()))
        };
        let objects: Vec<_> = entries.into_iter().map(line).collect::<Result<_, _>>()?;
        let mut open = self.lock();
        let there = std::fs::metadata(&self.path);
        if !there
            .as_ref()
            .is_ok_and(|file| identity_of(file) == open.identity)
        {
            self.replace(&mut open, there.ok())
                .map_err(|error| self.fail("begin anew", error))?;
        }
        if open.failed {
            // Half a line is no line. Where it could not be taken back at once, it is now, or nothing is written.
            let length = open.length;
            open.file
                .set_len(length)
                .and_then(|()| has_room(&open))
                .map_err(|error| self.fail("write", error))?;
        }
        if open.length >= self.config.size.0 {
            self.rotate(&mut open)
                .map_err(|error| self.fail("rotate", error))?;
        }
        let (mut text, mut last) = (Vec::with_capacity(8 << 10), open.last);
        if open.length == 0 && last != Sum::NONE {
            let head = line(Entry::Continued {
                generation: open.generation,
                after: last.to_string(),
            })?;
            last = chain::add(&mut text, &head, last);
        }
        for object in &objects {
            last = chain::add(&mut text, object, last);
        }
        let added = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if let Err(error) = open.file.write_all(&text) {
            let before = open.length;
            let _ = open.file.set_len(before);
            open.failed = true;
            return Err(self.fail("write", error));
        }
        open.length = open.length.saturating_add(added);
        open.last = last;
        open.dirty = true;
        open.failed = false;
        Ok(open)
    }

    /// Forces what was appended to the disk, and makes ready for what may come: space, and room for the next generation. Called off the
    /// hot path.
    pub fn sync(&self) -> Result<(), JournalError> {
        // Nothing slow under the lock: the hot thread appends under it.
        let (file, reserve, left, new, full) = {
            let mut open = self.lock();
            if !std::mem::take(&mut open.dirty) {
                return Ok(());
            }
            let low = open.reserved < open.length.saturating_add(AHEAD / 2);
            let reserve = low.then_some(open.length);
            if low {
                open.reserved = open.length.saturating_add(AHEAD);
            }
            let file = open.file.try_clone();
            let file = file.map_err(|error| self.fail("force", error))?;
            let full = open.length >= self.config.size.0 / 8 * 7;
            let new = open.new.then_some(open.generation);
            (file, reserve, std::mem::take(&mut open.left), new, full)
        };
        if let Some(from) = reserve {
            // Where the file system cannot, the next append will say so when it fails.
            let _ =
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, from, AHEAD);
        }
        let force = || {
            left.iter().chain([&file]).try_for_each(File::sync_data)?;
            self.force_folder(new)
        };
        force().map_err(|error| self.fail("force to the disk", error))?;
        if full && let Err(error) = self.make_room() {
            // It is done again, and said by who needs it, when the journal is full.
            tracing::warn!(%error, path = %self.path.display(), "no room can be made for another generation of the journal yet");
        }
        Ok(())
    }

    /// Forces to the disk that the file is there, where it is the new one of this generation.
    fn force_folder(&self, new: Option<u64>) -> std::io::Result<()> {
        let Some(generation) = new else { return Ok(()) };
        File::open(&self.folder)?.sync_all()?;
        let mut open = self.lock();
        open.new &= open.generation != generation;
        Ok(())
    }

    fn fail(&self, what: &'static str, source: std::io::Error) -> JournalError {
        let help = "nothing acts until it can be written: check free space and the mount";
        JournalError {
            what,
            path: self.path.clone(),
            source,
            help,
        }
    }
}

/// Whether there is room for [`ROOM`] more bytes. Where the file system cannot say, there is.
fn has_room(open: &Open) -> std::io::Result<()> {
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(&open.file, flags, open.length, ROOM) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Length of the file up to the end of its last whole line, and of what comes after.
fn whole_lines(file: &mut File) -> std::io::Result<(u64, u64)> {
    let length = file.seek(SeekFrom::End(0))?;
    let (mut end, mut bytes) = (length, Vec::new());
    while end > 0 {
        let start = end.saturating_sub(LINE);
        file.seek(SeekFrom::Start(start))?;
        bytes.clear();
        file.take(end - start).read_to_end(&mut bytes)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = start.saturating_add(u64::try_from(last).unwrap_or(0) + 1);
            break;
        }
        end = start;
    }
    Ok((end, length - end))
}
