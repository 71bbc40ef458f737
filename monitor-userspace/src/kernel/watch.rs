//! The processes whose events are urgent although they are not the daemon's children.

use aya::maps::{HashMap, MapData, MapError};
use thiserror::Error;

/// Most processes that can be watched at a time.
pub const MAX_WATCHED: usize = 1_024;

/// Names processes whose exec and exit are to wake the reader at once.
pub struct WatchList {
    map: HashMap<MapData, u32, u32>,
}

/// Why a process is not watched. Its events still come, with the bulk.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The list is full.
    #[error(
        "process {0} is not watched: {MAX_WATCHED} are already; its events come late, not never"
    )]
    Full(u32),
    /// The kernel refused.
    #[error("process {pid} cannot be put on the watch list: {source}")]
    Map {
        /// Which process.
        pid: u32,
        /// Why.
        source: MapError,
    },
}

impl std::fmt::Debug for WatchList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchList").finish_non_exhaustive()
    }
}

impl WatchList {
    pub(super) fn new(map: MapData) -> Result<Self, MapError> {
        Ok(Self {
            map: HashMap::try_from(aya::maps::Map::HashMap(map))?,
        })
    }

    /// Makes this process's events urgent from now on; nothing changes for one that is watched already.
    pub fn watch(&mut self, pid: u32) -> Result<(), WatchError> {
        /// `E2BIG`: the map has no room.
        const FULL: i32 = 7;
        self.map.insert(pid, 1, 0).map_err(|source| match &source {
            MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(FULL) => {
                WatchError::Full(pid)
            }
            _ => WatchError::Map { pid, source },
        })
    }

    /// Undoes [`Self::watch`]; nothing changes for one that is not watched.
    pub fn unwatch(&mut self, pid: u32) -> Result<(), WatchError> {
        match self.map.remove(&pid) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(source) => Err(WatchError::Map { pid, source }),
        }
    }
}
