//! Another file in the journal's place: when it is full, and when somebody took it away.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{PoisonError, TryLockError};

use super::{Journal, LEFT, Open, generations};

impl Journal {
    /// Makes the number 1 free, before it is needed.
    pub(super) fn make_room(&self) -> std::io::Result<()> {
        let _alone = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        generations::make_room(&self.folder, self.config.keep.into())
    }

    /// Makes the journal the first of the older generations. What was cut short before is finished.
    pub(super) fn rotate(&self, open: &mut Open) -> std::io::Result<()> {
        let _alone = match self.moving.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            // Room is being made right now: this file takes some more lines meanwhile.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        // Where it is gone already, an attempt before this one came no further.
        if self.path.try_exists()? {
            generations::make_room(&self.folder, self.config.keep.into())?;
            std::fs::rename(&self.path, self.folder.join(generations::name(1)))?;
        }
        self.begin(open)
    }

    /// Begins a new file where the journal is not in its place any more, but nothing or something else is.
    pub(super) fn replace(&self, open: &mut Open, there: Option<Metadata>) -> std::io::Result<()> {
        let path = self.path.display();
        match there {
            None => {
                tracing::error!(%path, "the journal was deleted or moved away; a new one is begun");
            }
            Some(other) if !other.is_file() => {
                return Err(std::io::Error::other(
                    "the journal was moved away, and something that is not a file is in its place: move that away",
                ));
            }
            Some(other) if other.len() == 0 => {
                tracing::error!(%path, "the journal was replaced by an empty file; a new one is begun");
                std::fs::remove_file(&self.path)?;
            }
            Some(_) => {
                let kept = generations::name(1);
                tracing::error!(%path, kept, "the journal was replaced by another file, which is kept as an older generation; a new one is begun");
                let _alone = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
                generations::make_room(&self.folder, self.config.keep.into())?;
                std::fs::rename(&self.path, self.folder.join(kept))?;
            }
        }
        self.begin(open)
    }

    /// An empty file in the journal's place.
    pub(super) fn begin(&self, open: &mut Open) -> std::io::Result<()> {
        let file = create(&self.path)?;
        file.try_lock()
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::WouldBlock))?;
        open.identity = identity_of(&file.metadata()?);
        let before = std::mem::replace(&mut open.file, file);
        if open.dirty && open.left.len() < LEFT {
            open.left.push(before);
        } else if open.dirty {
            tracing::warn!(
                "the disk is so slow that a generation of the journal is left to the kernel to write"
            );
        }
        open.length = 0;
        open.reserved = 0;
        open.dirty = true;
        open.failed = false;
        open.new = true;
        open.generation = open.generation.saturating_add(1);
        self.set_begun();
        Ok(())
    }
}

/// Device and inode.
pub(super) fn identity_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Opens the file, which is made if need be.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)
}
