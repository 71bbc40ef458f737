//! Deletes files of a folder: looks for them, lists them, deletes exactly those.
//!
//! The folder is opened once, by a path without links, and held. Each file is looked at once more right before it goes: the same inode, of
//! the same size, written to at the same time, reached without a link or another mount. Between that look and the deletion a file of
//! the same name in the same folder could take its place; the kernel has no way to delete by inode. Nothing in a folder that holds
//! the state folder or this program is deleted. Files that somebody writes to are left: deleting them would free nothing.

mod list;
mod open;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, OFlags, fstat, unlinkat};
use rustix::io::Errno;

use super::{HostError, clock, mounts};
use crate::model::{Cleaning, Enough, IncidentId, Room, Time};
use list::Lists;
use open::Openers;
use walk::{Is, Matching, beneath, names};

/// Most files of one act, whatever was allowed.
const FILES: usize = 10_000;

/// What deletes files.
#[derive(Debug)]
pub struct Cleaner {
    lists: Lists,
    /// What must not be below a folder that is cleaned.
    own: Vec<PathBuf>,
    /// What was deleted last, by folder, until it is looked after.
    last: Mutex<BTreeMap<PathBuf, Vec<(PathBuf, Is)>>>,
}

/// What a cleaning did.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// When the first file was deleted; none when none was.
    pub acted: Option<Time>,
    /// Files that were deleted.
    pub files: u32,
    /// Bytes that they took.
    pub bytes: u64,
    /// Bytes that are free now and were not before, on the whole file system.
    pub came_back: u64,
    /// Files of the list that were left, because they are gone, or are others by now.
    pub changed: u32,
    /// Files of the list that could not be deleted, and why not the first.
    pub failed: (u32, Option<String>),
    /// Who has deleted files open, and who has files open for writing that were left for it.
    pub open: (BTreeSet<String>, BTreeSet<String>),
    /// Why it was not to go on, before its end.
    pub called_off: Option<String>,
    /// Where the list is.
    pub list: Option<PathBuf>,
    /// Whether the goal was reached, as far as that can be seen.
    pub enough: bool,
    /// What could not be looked at, in words; empty when all could.
    pub unseen: String,
}

impl Cleaner {
    /// For a daemon with this state folder.
    pub fn new(state: &Path) -> Self {
        let program = std::env::current_exe().ok();
        Self {
            lists: Lists::new(state),
            own: program.into_iter().chain([state.to_owned()]).collect(),
            last: Mutex::default(),
        }
    }

    /// Reserves room for a list while there is some.
    pub fn reserve(&self) -> Result<(), HostError> {
        let what = || "reserve room for lists of deleted files".to_owned();
        self.lists.reserve().map_err(system(what))
    }

    /// Cleans. An error means that nothing was deleted. Before each file it asks why it is not to go on.
    pub fn clean(
        &self,
        incident: IncidentId,
        cleaning: &Cleaning,
        called_off: &dyn Fn() -> Option<String>,
    ) -> Result<Cleaned, HostError> {
        let root = self.open(cleaning)?;
        let found = walk::look(&root, &cleaning.folder);
        let before = room_on(&root)?;
        if is_enough(cleaning.enough, &before) {
            return Err(not(cleaning, "its file system has room again"));
        }
        let all: Vec<&Matching> = found.matching.iter().collect();
        let openers = Openers::of(&all);
        let unix_seconds = clock::unix_nanos() / 1_000_000_000;
        let picked = pick(cleaning, &all, &openers, &before, unix_seconds);
        let mut cleaned = Cleaned {
            open: (BTreeSet::new(), picked.written),
            unseen: unseen(&found, &openers),
            ..Cleaned::default()
        };
        let (text, fit) = list::text(incident, &cleaning.folder, &picked.files);
        let files = picked.files.get(..fit).unwrap_or_default();
        if files.is_empty() {
            let why = format!(
                "nothing in it may be deleted: {}",
                picked.left.words(&cleaned)
            );
            return Err(not(cleaning, why));
        }
        // What was reserved may be gone since the last list; best when there is room.
        if let Err(error) = self.lists.reserve() {
            tracing::debug!(%error, "no room is reserved for the list of deleted files");
        }
        let what = || "write the list of what would be deleted, so nothing is".to_owned();
        cleaned.list = Some(self.lists.write(incident, &text).map_err(system(what))?);
        let deleted = delete(&root, cleaning, files, &openers, called_off, &mut cleaned);
        if let Err(error) = self.lists.reserve() {
            tracing::warn!(%error, "no room could be reserved for the next list of deleted files");
        }
        let after = room_on(&root)?;
        cleaned.came_back = before.used.saturating_sub(after.used);
        cleaned.enough = match cleaning.enough {
            Enough::All => fit == picked.files.len() && !picked.bounded,
            Enough::Room { .. } => is_enough(cleaning.enough, &after),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(cleaning.folder.path.clone(), deleted);
        drop(last);
        Ok(cleaned)
    }

    /// Looks whether what was deleted last in a folder is gone.
    pub fn proof(&self, cleaning: &Cleaning) -> Result<String, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted = last.remove(&cleaning.folder.path).unwrap_or_default();
        drop(last);
        let gone = format!("none of the {} files is there", deleted.len());
        let root = match mounts::open_folder(&cleaning.folder.path, OFlags::PATH) {
            Ok(root) => root,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(gone),
            Err(error) => return Err(format!("{}: {error}", cleaning.folder.path.display())),
        };
        for (path, was) in &deleted {
            let there = beneath(&root, path, OFlags::PATH).and_then(fstat);
            if there.is_ok_and(|there| Is::of(&there) == *was) {
                return Err(format!("{} is still there", path.display()));
            }
        }
        Ok(gone)
    }

    /// Opens the folder; refuses one that is not the one that was meant, and one that holds what is our own.
    fn open(&self, cleaning: &Cleaning) -> Result<OwnedFd, HostError> {
        let path = &cleaning.folder.path;
        let flags = OFlags::RDONLY;
        let root =
            mounts::open_folder(path, flags).map_err(|error| match error.raw_os_error() {
                Some(code) if code == Errno::LOOP.raw_os_error() => not(
                    cleaning,
                    "a part of its path is a link: name the folder itself",
                ),
                _ => not(cleaning, error),
            })?;
        let id = mounts::id_of(&root).map_err(|error| not(cleaning, error))?;
        if cleaning.id.is_some_and(|meant| meant != id) {
            return Err(not(
                cleaning,
                "it is another folder than when this was decided",
            ));
        }
        for own in self.own.iter().flat_map(|own| own.ancestors()) {
            let same =
                |found: std::fs::Metadata| (found.dev(), found.ino()) == (id.device, id.inode);
            if std::fs::metadata(own).is_ok_and(same) {
                return Err(not(cleaning, "it holds what Smart-Monitor itself needs"));
            }
        }
        Ok(root)
    }
}

fn system(what: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> HostError {
    move |source| HostError::System {
        what: what(),
        source,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "callers pass what they have just made"
)]
fn not(cleaning: &Cleaning, why: impl ToString) -> HostError {
    HostError::Folder {
        path: cleaning.folder.path.clone(),
        why: why.to_string(),
    }
}

fn room_on(root: &OwnedFd) -> Result<Room, HostError> {
    let what = || "ask for the room on the folder's file system".to_owned();
    mounts::room_of(root).map_err(system(what))
}

fn is_enough(enough: Enough, room: &Room) -> bool {
    match enough {
        Enough::All => false,
        Enough::Room { full, inodes } => room.share() < full && room.inodes_share() < inodes,
    }
}

fn unseen(found: &walk::Found, openers: &Openers) -> String {
    let mut words = Vec::new();
    if found.bounded {
        words.push("there is more in it than is looked at in one act".to_owned());
    }
    if let (closed, Some(why)) = &found.closed {
        words.push(format!("{closed} folders could not be looked into ({why})"));
    }
    if openers.unseen > 0 {
        words.push(format!(
            "who has files open is unknown of {} processes",
            openers.unseen
        ));
    }
    words.join("; ")
}

/// What is to be deleted.
struct Picked<'a> {
    files: Vec<&'a Matching>,
    /// A bound of the act cut it short.
    bounded: bool,
    written: BTreeSet<String>,
    left: Left,
}

/// Why matching files were left.
#[derive(Default)]
struct Left {
    matching: usize,
    young: u32,
    newest: usize,
    linked: u32,
    written: u32,
}

impl Left {
    fn words(&self, cleaned: &Cleaned) -> String {
        let reasons = [
            (u64::from(self.young), "were written to too recently"),
            (self.newest as u64, "are the newest, which stay"),
            (u64::from(self.linked), "have another name"),
            (u64::from(self.written), "are open for writing"),
        ];
        let said = reasons.iter().filter(|(count, _)| *count > 0);
        let mut all = vec![format!("{} files match", self.matching)];
        all.extend(said.map(|(count, what)| format!("{count} {what}")));
        all.extend((!cleaned.unseen.is_empty()).then(|| cleaned.unseen.clone()));
        all.join(", ")
    }
}

/// What is needed, the oldest first, and no more than that.
fn pick<'a>(
    cleaning: &Cleaning,
    all: &[&'a Matching],
    openers: &Openers,
    room: &Room,
    now: i64,
) -> Picked<'a> {
    let rules = &cleaning.folder;
    let keep = usize::try_from(rules.keep_newest).unwrap_or(usize::MAX);
    let may_go = all.len().saturating_sub(keep);
    let mut picked = Picked {
        files: Vec::new(),
        bounded: false,
        written: BTreeSet::new(),
        left: Left {
            matching: all.len(),
            newest: all.len() - may_go,
            ..Left::default()
        },
    };
    let most = usize::try_from(cleaning.at_most)
        .unwrap_or(FILES)
        .min(FILES);
    let youngest = now.saturating_sub_unsigned(rules.older_than.as_secs());
    let mut size = all
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.takes));
    let (mut bytes, mut will_be) = (0_u64, *room);
    for file in all.iter().take(may_go) {
        let shrunk = rules.shrink_to.is_some_and(|to| size <= to);
        if shrunk || is_enough(cleaning.enough, &will_be) {
            break;
        }
        // A time in the future is young, too.
        if file.is.written.0 > youngest && !(rules.older_than.is_zero() && file.is.written.0 <= now)
        {
            picked.left.young += 1;
        } else if file.names > 1 && !rules.hard_links {
            picked.left.linked += 1;
        } else if openers.is_written(file) {
            picked.left.written += 1;
            picked
                .written
                .extend(openers.who(file).into_iter().flatten().cloned());
        } else {
            let total = bytes.saturating_add(file.takes);
            if picked.files.len() >= most || cleaning.at_most_bytes.is_some_and(|most| total > most)
            {
                picked.bounded = true;
                break;
            }
            bytes = total;
            size = size.saturating_sub(file.takes);
            // What has another name, or is open, frees nothing.
            if file.names == 1 && openers.who(file).is_none() {
                will_be.used = will_be.used.saturating_sub(file.takes);
                will_be.available = will_be.available.saturating_add(file.takes);
                will_be.inodes_used = will_be.inodes_used.saturating_sub(1);
                will_be.inodes_left = will_be.inodes_left.saturating_add(1);
            }
            picked.files.push(file);
        }
    }
    picked
}

/// Deletes what was listed; tells what is gone.
fn delete(
    root: &OwnedFd,
    cleaning: &Cleaning,
    files: &[&Matching],
    openers: &Openers,
    called_off: &dyn Fn() -> Option<String>,
    cleaned: &mut Cleaned,
) -> Vec<(PathBuf, Is)> {
    let mut deleted = Vec::new();
    for file in files {
        cleaned.called_off = called_off();
        if cleaned.called_off.is_some() {
            break;
        }
        let began = clock::now();
        match delete_one(root, file, cleaning.folder.hard_links) {
            Ok(true) => {
                cleaned.acted.get_or_insert(began);
                cleaned.files += 1;
                cleaned.bytes = cleaned.bytes.saturating_add(file.takes);
                cleaned
                    .open
                    .0
                    .extend(openers.who(file).into_iter().flatten().cloned());
                deleted.push((file.path.clone(), file.is));
            }
            Ok(false) => cleaned.changed += 1,
            Err(error) => {
                cleaned.failed.0 += 1;
                let why = || format!("{}: {}", file.path.display(), std::io::Error::from(error));
                cleaned.failed.1.get_or_insert_with(why);
                if matches!(error, Errno::ROFS | Errno::IO) {
                    break;
                }
            }
        }
        // Others may have made room, too.
        if mounts::room_of(root).is_ok_and(|room| is_enough(cleaning.enough, &room)) {
            break;
        }
    }
    deleted
}

/// Deletes a file if it is still the one that was listed; false when it is not.
fn delete_one(root: impl AsFd, file: &Matching, hard_links: bool) -> Result<bool, Errno> {
    let (Some(folder), Some(name)) = (file.path.parent(), file.path.file_name()) else {
        return Ok(false);
    };
    let other = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Ok(false),
        error => Err(error),
    };
    let folder = match beneath(root, folder, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(folder) => folder,
        Err(error) => return other(error),
    };
    let found = match beneath(&folder, Path::new(name), OFlags::PATH) {
        Ok(found) => fstat(found)?,
        Err(error) => return other(error),
    };
    if Is::of(&found) != file.is || (names(&found) > 1 && !hard_links) {
        return Ok(false);
    }
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(error) => other(error),
    }
}

#[cfg(test)]
mod tests;
