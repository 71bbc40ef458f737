//! The audit journal: JSON, a line an entry, appended. Intent before the act, outcome after it.
//!
//! An entry is handed to the kernel before the act it announces (so it survives `kill -9` of the daemon) and forced to the disk right
//! after by [`Journal::sync`], off the hot path: the acts of today (kill, restart) do not outlive a power cut either. A torn last line
//! is cut off at the next start. Two generations of `SIZE` are kept. If an entry cannot be written, nothing may act.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::{Effect, Incident, Plan, Request, Time};

/// Size at which a journal becomes the old generation, bytes.
const SIZE: u64 = 16 << 20;
/// Longest line that is read back; an incident with a full story is below 32 KiB.
const LINE: u64 = 1 << 20;
/// Space reserved ahead, so that a full disk does not stop the next few hundred entries.
const AHEAD: u64 = 1 << 20;
/// After an entry that could not be written, there must be room for so much before the next one is: otherwise what little is left
/// takes a short entry, and the long one of the next act fails again.
const ROOM: u64 = 64 << 10;

/// What stands in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The daemon started.
    Started {
        /// Its version.
        version: String,
        /// Its process id.
        pid: u32,
        /// Which boot of the machine this is: monotonic times mean something only within one.
        boot: String,
    },
    /// The daemon ended in an orderly way.
    Ended,
    /// An incident began, or its state changed.
    Incident {
        /// As it is now. What was frozen stands in the first such line, and again in one that has the last lines of a log too.
        incident: Box<Incident>,
    },
    /// An action is about to be done.
    Intent {
        /// The incident it is for, with its evidence but for what was frozen.
        incident: Box<Incident>,
        /// The action.
        action: String,
        /// What exactly.
        plan: Plan,
        /// The `[[remedy]]` that allows it.
        #[serde(default)]
        rule: String,
        /// The person who allowed it, where one was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// It changes back what an action before it changed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
    },
    /// A person asked for something.
    Person {
        /// Who.
        by: String,
        /// What.
        request: Request,
    },
    /// An action was done, or could not be.
    Effect {
        /// What it did.
        effect: Effect,
    },
    /// The journal can be written again.
    Resumed,
    /// A fork storm is about to be ended with all of its cgroup, as the guard's arming announced.
    StormEnding {
        /// The service, or the path of the cgroup.
        target: String,
        /// The cgroup.
        cgroup_id: u64,
    },
    /// A guard is armed in the kernel, which acts on it by itself from now on: the intent of all it will do.
    Guarded {
        /// What it limits: `memory_ceiling` or `fork_storm`.
        guard: String,
        /// The service, or the path of the cgroup.
        target: String,
        /// Bytes, or processes and threads a second.
        limit: u64,
        /// Whether the kernel kills whoever crosses it; otherwise it only reports.
        enforce: bool,
    },
    /// The configuration was loaded anew.
    Reloaded {
        /// The file.
        file: String,
    },
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub unix_ns: i64,
    /// `CLOCK_MONOTONIC`, nanoseconds: the clock of the times within the entry.
    pub monotonic_ns: i64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

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
    path: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    reserved: u64,
    dirty: bool,
    /// The last entry could not be written.
    failed: bool,
}

impl Journal {
    /// Opens the journal in this folder, which is made if need be; cuts off a torn last line. A second daemon on the same folder
    /// is refused.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join("journal.jsonl");
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
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail("write", writable))?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => fail(
                "lock",
                "another smart-monitor uses this state folder: stop it, or name another folder with --state-dir",
            )(std::io::ErrorKind::WouldBlock.into()),
            std::fs::TryLockError::Error(source) => fail("lock", writable)(source),
        })?;
        let length = whole_lines(&mut file).map_err(fail("read", writable))?;
        file.set_len(length)
            .map_err(fail("cut a torn line off", writable))?;
        let open = Mutex::new(Open {
            file,
            length,
            reserved: 0,
            dirty: false,
            failed: false,
        });
        Ok(Self { path, open })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, all of them or none. When this returns, they survive the daemon.
    pub fn append(&self, now: Time, unix_ns: i64, entries: Vec<Entry>) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(2048);
        for entry in entries {
            let line = Line {
                unix_ns,
                monotonic_ns: now.nanos(),
                entry,
            };
            serde_json::to_writer(&mut bytes, &line)
                .map_err(|error| self.fail("write", error.into()))?;
            bytes.push(b'\n');
        }
        let mut open = self.lock();
        if open.file.metadata().is_ok_and(|file| file.nlink() == 0) {
            tracing::error!(path = %self.path.display(), "the journal was deleted; a new one is begun");
            *open = self
                .begin()
                .map_err(|error| self.fail("begin anew", error))?;
        }
        if open.failed {
            has_room(&open).map_err(|error| self.fail("write", error))?;
        }
        if open.length >= SIZE {
            self.rotate(&mut open)
                .map_err(|error| self.fail("rotate", error))?;
        }
        let before = open.length;
        let added = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Err(error) = open.file.write_all(&bytes) {
            // Half a line is no line.
            let _ = open.file.set_len(before);
            open.failed = true;
            return Err(self.fail("write", error));
        }
        open.length = before.saturating_add(added);
        open.dirty = true;
        open.failed = false;
        Ok(())
    }

    /// Forces what was appended to the disk, and reserves space for what may come. Called off the hot path.
    pub fn sync(&self) -> Result<(), JournalError> {
        // Nothing slow under the lock: the hot thread appends under it.
        let (file, reserve) = {
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
            (file.map_err(|error| self.fail("force", error))?, reserve)
        };
        if let Some(from) = reserve {
            // Where the file system cannot, the next append will say so when it fails.
            let _ =
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, from, AHEAD);
        }
        file.sync_data()
            .map_err(|error| self.fail("force to the disk", error))
    }

    fn rotate(&self, open: &mut Open) -> std::io::Result<()> {
        match std::fs::rename(&self.path, self.path.with_extension("1.jsonl")) {
            Ok(()) => {}
            // An attempt before this one came no further.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        *open = self.begin()?;
        Ok(())
    }

    /// An empty file in the journal's place.
    fn begin(&self) -> std::io::Result<Open> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        file.try_lock()
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::WouldBlock))?;
        Ok(Open {
            file,
            length: 0,
            reserved: 0,
            dirty: true,
            failed: false,
        })
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

/// Length of the file up to the end of its last whole line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail = length.min(LINE);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes)?;
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    let torn = bytes.len() - last.map_or(0, |at| at + 1);
    Ok(length - u64::try_from(torn).unwrap_or(0))
}

/// Reads the lines of a state folder's journal, oldest first. Lines that do not read (written by a newer version, damaged) are
/// counted, not fatal.
pub fn read(folder: &Path, mut each: impl FnMut(Line)) -> std::io::Result<u64> {
    let mut unreadable = 0;
    for name in ["journal.1.jsonl", "journal.jsonl"] {
        let file = match File::open(folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::new(file);
        let mut text = Vec::new();
        loop {
            text.clear();
            if reader.by_ref().take(LINE).read_until(b'\n', &mut text)? == 0 {
                break;
            }
            match serde_json::from_slice(&text) {
                Ok(line) => each(line),
                Err(_) => unreadable += 1,
            }
        }
    }
    Ok(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("smart-monitor-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn entries(folder: &Path) -> (Vec<Entry>, u64) {
        let mut all = Vec::new();
        let unreadable = read(folder, |line| all.push(line.entry)).expect("it reads");
        (all, unreadable)
    }

    #[test]
    fn a_torn_line_is_cut_off_and_the_rest_is_kept() {
        let folder = folder("torn");
        let journal = Journal::open(&folder).expect("it opens");
        journal
            .append(Time::default(), 0, vec![Entry::Ended, Entry::Ended])
            .expect("it writes");
        drop(journal);
        let path = folder.join("journal.jsonl");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("it opens");
        file.write_all(b"{\"entry\":\"ended\",\"unix")
            .expect("it writes");
        let journal = Journal::open(&folder).expect("it opens again");
        journal
            .append(Time::default(), 0, vec![Entry::Ended])
            .expect("it writes");
        assert_eq!(entries(&folder), (vec![Entry::Ended; 3], 0));
        std::fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn a_second_daemon_on_the_same_folder_is_refused() {
        let folder = folder("lock");
        let _first = Journal::open(&folder).expect("it opens");
        let second = Journal::open(&folder).expect_err("it is locked");
        assert!(
            second.to_string().contains("another smart-monitor"),
            "{second}"
        );
        std::fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn a_damaged_line_is_counted_and_passed_over() {
        let folder = folder("damaged");
        std::fs::create_dir_all(&folder).expect("it is made");
        let text = "not json\n{\"unix_ns\":1,\"monotonic_ns\":1,\"entry\":\"ended\"}\n\n";
        std::fs::write(folder.join("journal.jsonl"), text).expect("it writes");
        assert_eq!(entries(&folder), (vec![Entry::Ended], 2));
        std::fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn a_rotation_that_was_cut_short_is_finished() {
        let folder = folder("rotation");
        let journal = Journal::open(&folder).expect("it opens");
        journal
            .append(Time::default(), 0, vec![Entry::Resumed])
            .expect("it writes");
        journal.lock().length = SIZE;
        std::fs::rename(folder.join("journal.jsonl"), folder.join("journal.1.jsonl"))
            .expect("it moves");
        journal
            .append(Time::default(), 0, vec![Entry::Ended])
            .expect("it goes on");
        assert_eq!(entries(&folder), (vec![Entry::Resumed, Entry::Ended], 0));
        std::fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn a_journal_that_is_deleted_is_begun_anew() {
        let folder = folder("deleted");
        let journal = Journal::open(&folder).expect("it opens");
        std::fs::remove_file(folder.join("journal.jsonl")).expect("it goes");
        journal
            .append(Time::default(), 0, vec![Entry::Ended])
            .expect("it writes");
        assert_eq!(entries(&folder), (vec![Entry::Ended], 0));
        std::fs::remove_dir_all(&folder).expect("it goes");
        let gone = journal.append(Time::default(), 0, vec![Entry::Ended]);
        assert!(gone.is_err(), "without its folder nothing can be written");
    }

    #[test]
    fn it_is_bounded() {
        let folder = folder("bounded");
        let journal = Journal::open(&folder).expect("it opens");
        journal.lock().length = SIZE;
        journal
            .append(Time::default(), 0, vec![Entry::Ended])
            .expect("it rotates");
        assert!(folder.join("journal.1.jsonl").exists());
        let second = Journal::open(&folder);
        assert!(second.is_err(), "the new generation is locked too");
        std::fs::remove_dir_all(folder).expect("it goes");
    }
}
