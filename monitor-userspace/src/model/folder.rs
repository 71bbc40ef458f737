//! Folders of the configuration, what may be deleted in them, and the room on file systems.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A `[[folder]]` of the configuration: what in it may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Its name.
    pub name: String,
    /// Where it is: an absolute path without `..`.
    pub path: PathBuf,
    /// Names of files that may be deleted: `*`, `?` and `[a-z]`; never a path.
    pub patterns: Vec<String>,
    /// Only files that were not written to for so long.
    pub older_than: Duration,
    /// So many of the newest that match stay, whatever their age.
    pub keep_newest: u32,
    /// Bytes that the matching files may keep; none where their size says nothing.
    pub shrink_to: Option<u64>,
    /// Whether folders inside are looked into.
    pub recursive: bool,
    /// Whether files that have another name elsewhere may be deleted by this one.
    pub hard_links: bool,
    /// Share of its file system's bytes from which it is full, hundredths of a per cent.
    pub full: u32,
    /// Share of its file system's inodes from which it is full, hundredths of a per cent.
    pub inodes: u32,
}

/// A full file system counts as full no longer when its share has fallen by so much below the limit, hundredths of a per cent.
pub const CLEARS: u32 = 100;
/// What makes room aims so much below the limit: a little more than is needed to count as full no longer.
pub const AIMS: u32 = 200;

/// Which folder a path led to: its file system and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderId {
    /// Device number of the file system.
    pub device: u64,
    /// Inode of the folder.
    pub inode: u64,
}

/// When a cleaning has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enough {
    /// Everything that the folder's rules allow is gone.
    All,
    /// The file system has room again: shares of bytes and inodes are below these, hundredths of a per cent.
    Room {
        /// Of bytes.
        full: u32,
        /// Of inodes.
        inodes: u32,
    },
}

/// What a cleaning may do, at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaning {
    /// The folder and its rules.
    pub folder: Folder,
    /// What its path led to when it was last looked at; none when it was not yet.
    pub id: Option<FolderId>,
    /// When it is enough.
    pub enough: Enough,
    /// Most files that are deleted.
    pub at_most: u32,
    /// Most bytes that are deleted, none for no bound of their own.
    pub at_most_bytes: Option<u64>,
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes in use.
    pub used: u64,
    /// Bytes that programs without privileges can still write.
    pub available: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Inodes that are left. With none in use either, the file system does not count them.
    pub inodes_left: u64,
}

impl Room {
    /// Share of the bytes in use, hundredths of a per cent; what only root may write counts as not there, as `df` has it.
    pub fn share(&self) -> u32 {
        share(self.used, self.available)
    }

    /// Share of the inodes in use, hundredths of a per cent; 0 where they are not counted.
    pub fn inodes_share(&self) -> u32 {
        share(self.inodes_used, self.inodes_left)
    }
}

/// Rounded up: a share that is shown as below a limit is below it.
fn share(used: u64, left: u64) -> u32 {
    let (used, left) = (u128::from(used), u128::from(left));
    let all = (used + left).max(1);
    u32::try_from((used * 10_000).div_ceil(all)).unwrap_or(10_000)
}

/// Keys of a Redis database that may be deleted, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flush {
    /// `HOST:PORT` as an address, or `unix:/path`.
    pub address: String,
    /// Number of the database.
    pub database: u32,
    /// Keys that match this, as `SCAN` reads it; none for all of the database.
    pub pattern: Option<String>,
    /// Most keys that are deleted by pattern.
    pub at_most: u32,
    /// How long it may take altogether.
    pub within: Duration,
    /// Keys that may be there again when it is looked after.
    pub left: u32,
    /// Who to log in as; none for the user of old servers.
    pub user: Option<String>,
    /// Where the password stands; none for no log-in.
    pub password_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_df() {
        let room = Room {
            used: 90,
            available: 10,
            inodes_used: 0,
            inodes_left: 0,
        };
        assert_eq!((room.share(), room.inodes_share()), (9_000, 0));
        let full = Room {
            used: u64::MAX,
            available: 0,
            ..room
        };
        assert_eq!(full.share(), 10_000);
        assert_eq!(Room::default().share(), 0);
        let hardly = Room {
            used: 899_999,
            available: 100_001,
            ..room
        };
        assert_eq!(hardly.share(), 9_000, "rounded up");
    }
}
