//! Room on file systems: of the folders of the configuration, and of every writable disk that is mounted. The fuller, the more often.
//!
//! A file system of the network is not asked: it may never answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Sampler, Sources, Spec};
use crate::config::units::Span;
use crate::host::mounts::{self, Mount};
use crate::model::{self, DiskRoom, Folder, FolderRoom, Room, Time};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "disk_space",
    summary: "room on file systems: of configured folders and of mounted disks, the more often the fuller",
};

/// `[samplers.disk_space]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shortest time between two readings.
    pub fastest: Span,
    /// Longest time between two readings.
    pub slowest: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fastest: Span::seconds(1),
            slowest: Span::seconds(10),
        }
    }
}

impl Config {
    /// Whether it can be run without eating the host.
    pub fn resolve(&self) -> Result<(), String> {
        super::not_too_often("fastest", self.fastest, Span::millis(100))?;
        super::not_too_often("slowest", self.slowest, self.fastest)
    }
}

/// Bytes a second that a disk can be filled with, roughly.
const FILL: u64 = 1 << 30;
/// From this share of inodes on, they are looked at as often as can be: hundredths of a per cent.
const INODES: u32 = 8_000;
/// Most disks that are told of.
const DISKS: usize = 64;

/// The folders of the configuration: names and paths. Shared with who reloads it.
#[derive(Clone, Debug, Default)]
pub struct Folders(Arc<Mutex<Vec<(String, PathBuf)>>>);

impl Folders {
    /// These are they, from the next reading on.
    pub fn set(&self, folders: &[Folder]) {
        let folders = folders.iter();
        let folders = folders.map(|folder| (folder.name.clone(), folder.path.clone()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = folders.collect();
    }

    fn all(&self) -> Vec<(String, PathBuf)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The sampler.
#[derive(Debug)]
pub struct Sample {
    config: Config,
    folders: Folders,
}

impl Sample {
    /// Ready to read.
    pub fn new(config: &Config, sources: &mut Sources) -> Self {
        Self {
            config: config.clone(),
            folders: sources.folders.clone(),
        }
    }
}

impl Sampler for Sample {
    fn sample(&mut self, now: Time, _: bool, out: &mut Vec<(Time, model::Sample)>) -> Time {
        let slowest = now.after(self.config.slowest.0);
        let Ok(all) = mounts::all() else {
            return slowest;
        };
        let disks: Vec<DiskRoom> = mounts::disks(&all)
            .into_iter()
            .filter_map(disk)
            .take(DISKS)
            .collect();
        let folders = self.folders.all();
        let local = folders.iter().filter(|(_, path)| is_local(&all, path));
        let folders: Vec<FolderRoom> = local
            .filter_map(|(name, path)| {
                let (id, room) = mounts::folder(path).ok()?;
                let name = name.clone();
                Some(FolderRoom { name, id, room })
            })
            .collect();
        let rooms = disks.iter().map(|disk| &disk.room);
        let rooms = rooms.chain(folders.iter().map(|folder| &folder.room));
        let wait = rooms.map(|room| until_next(room, &self.config)).min();
        out.push((now, model::Sample::DiskSpace { disks, folders }));
        wait.map_or(slowest, |wait| now.after(wait))
    }

    fn limitation(&self) -> Option<String> {
        let all = mounts::all().ok()?;
        let folders = self.folders.all();
        let far = folders.iter().filter(|(_, path)| !is_local(&all, path));
        let names: Vec<&str> = far.map(|(name, _)| name.as_str()).collect();
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            format!("folders on a file system that may not answer are not watched: {names}")
        })
    }
}

fn is_local(all: &[Mount], path: &std::path::Path) -> bool {
    mounts::of(all, path).is_none_or(Mount::is_local)
}

fn disk(mount: &Mount) -> Option<DiskRoom> {
    let (device, room) = mounts::room_at(&mount.place).ok()?;
    Some(DiskRoom {
        name: mount.name().to_owned(),
        mount: mount.place.display().to_string(),
        device,
        room,
    })
}

/// When half of what is left could be used up.
fn until_next(room: &Room, config: &Config) -> Duration {
    let (fastest, slowest) = (config.fastest.0, config.slowest.0.max(config.fastest.0));
    if room.inodes_share() >= INODES {
        return fastest;
    }
    Duration::from_secs(room.available / FILL / 2).clamp(fastest, slowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_more_often() {
        let config = Config::default();
        let wait = |gib: u64, inodes_used: u64| {
            let room = Room {
                used: 1,
                available: gib << 30,
                inodes_used,
                inodes_left: 10,
            };
            until_next(&room, &config)
        };
        assert_eq!(wait(0, 0), config.fastest.0);
        assert_eq!(wait(1000, 0), config.slowest.0);
        assert_eq!(wait(1000, 90), config.fastest.0);
        assert!(wait(10, 0) > config.fastest.0 && wait(10, 0) < config.slowest.0);
    }
}
