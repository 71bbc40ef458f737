//! The folders of the configuration: what watches their room, and what cleans them.

use std::path::Path;
use std::sync::Arc;

use crate::host::clean::Cleaner;
use crate::model::Folder;
use crate::samplers::disk_space;

/// See the module.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) watched: disk_space::Folders,
    pub(super) cleaner: Arc<Cleaner>,
}

impl Folders {
    pub(super) fn new(state: &Path, folders: &[Folder]) -> Self {
        let new = Self {
            watched: disk_space::Folders::default(),
            cleaner: Arc::new(Cleaner::new(state)),
        };
        new.apply(folders);
        new
    }

    /// Takes those of a configuration.
    pub(super) fn apply(&self, folders: &[Folder]) {
        self.watched.set(folders);
        // While there is room: a folder is cleaned when there is none.
        if !folders.is_empty()
            && let Err(error) = self.cleaner.reserve()
        {
            tracing::warn!(
                "folders may not be cleaned when the disk of the state folder is full: {error}"
            );
        }
    }
}
