//! The list of what is about to be deleted: a file of the state folder, on the disk before the first file goes.
//!
//! The state folder may be on the very disk that is full. So some room is reserved beside the lists while there is some; what does not
//! fit into that is not deleted this time.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::walk::Matching;
use crate::model::{Folder, IncidentId};

/// Longest list, and the room that is reserved for it, bytes.
pub(super) const ROOM: usize = 1 << 20;
/// Most lists that are kept; the oldest go.
const LISTS: usize = 64;
/// Most lists of one incident.
const OF_ONE: u32 = 1000;
const RESERVE: &str = "reserve";

/// Where lists are.
#[derive(Debug)]
pub(super) struct Lists {
    folder: PathBuf,
}

impl Lists {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            folder: state.join("cleaned"),
        }
    }

    /// Reserves room for one list, if that has not been done.
    pub(super) fn reserve(&self) -> io::Result<()> {
        self.make_folder()?;
        let path = self.folder.join(RESERVE);
        if fs::symlink_metadata(&path).is_ok_and(|it| it.is_file() && it.len() == ROOM as u64) {
            return Ok(());
        }
        let reserved =
            private(OpenOptions::new().write(true).create(true), &path).and_then(|file| {
                fallocate(&file, FallocateFlags::empty(), 0, ROOM as u64)?;
                file.sync_all()
            });
        // A part of it would look like all of it.
        reserved.inspect_err(|_| drop(fs::remove_file(&path)))
    }

    fn make_folder(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a list, and forces it to the disk.
    pub(super) fn write(&self, incident: IncidentId, text: &str) -> io::Result<PathBuf> {
        self.make_folder()?;
        let names = (1..=OF_ONE).map(|n| self.folder.join(format!("{incident}-{n}.txt")));
        let free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
        let path = names.into_iter().find(free);
        let path = path.ok_or_else(|| io::Error::other("this incident has 1000 lists already"))?;
        let fresh = private(OpenOptions::new().write(true).create_new(true), &path);
        let written = fresh.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = written {
            drop(fs::remove_file(&path));
            self.use_reserve(text, &path).map_err(|_| error)?;
        }
        File::open(&self.folder)?.sync_all()?;
        self.forget_oldest();
        Ok(path)
    }

    /// Turns the reserved room into a list.
    fn use_reserve(&self, text: &str, path: &Path) -> io::Result<()> {
        let reserve = self.folder.join(RESERVE);
        let mut file = private(OpenOptions::new().write(true), &reserve)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        file.sync_all()?;
        fs::rename(reserve, path)
    }

    fn forget_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let lists = entries.flatten().filter(|it| it.file_name() != RESERVE);
        let mut lists: Vec<_> = lists
            .filter_map(|it| Some((it.metadata().ok()?.modified().ok()?, it.path())))
            .collect();
        lists.sort();
        let too_many = lists.len().saturating_sub(LISTS);
        for (_, path) in lists.into_iter().take(too_many) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(list = %path.display(), %error, "cannot remove an old list of deleted files");
            }
        }
    }
}

fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // The flag of `O_NOFOLLOW`: nobody else writes in the state folder, but then nobody need be trusted not to.
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.mode(0o600).custom_flags(flags).open(path)
}

/// The list, and how many files found room in it.
pub(super) fn text(incident: IncidentId, folder: &Folder, files: &[&Matching]) -> (String, usize) {
    let mut text = format!(
        "# Incident {incident}: files in {} that are about to be deleted, in this order.\n# bytes on the disk, last written to (seconds since 1970), device:inode, path in the folder (\\ as in C)\n",
        folder.path.display()
    );
    for (number, file) in files.iter().enumerate() {
        let before = text.len();
        let path = file.path.as_os_str().as_bytes().escape_ascii();
        let written = writeln!(
            text,
            "{} {} {}:{} {path}",
            file.takes, file.is.written.0, file.is.device, file.is.inode
        );
        if written.is_err() || text.len() > ROOM {
            text.truncate(before);
            return (text, number);
        }
    }
    (text, files.len())
}
