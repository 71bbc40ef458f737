//! Who has files open: deleting an open file frees nothing, and who writes to it goes on writing to what nobody sees any more.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::walk::Matching;
use crate::host::procfs;

/// Longest that is looked.
const LONGEST: Duration = Duration::from_secs(20);
/// Access modes in `fdinfo`: anything but reading (`O_ACCMODE`).
const WRITES: u32 = 0o3;

/// Who has which files open.
#[derive(Debug, Default)]
pub(super) struct Openers {
    /// By device and inode: processes by name, and whether one of them can write.
    files: HashMap<(u64, u64), (BTreeSet<String>, bool)>,
    /// Processes that could not be looked at, or not any more in time.
    pub(super) unseen: u32,
}

impl Openers {
    /// Looks through the open files of all processes for these. Only files of one of their names are asked for who they are: a file on
    /// a server that does not answer would never say.
    pub(super) fn of(files: &[&Matching]) -> Self {
        let mut openers = Self::default();
        let names: BTreeSet<&[u8]> = files.iter().filter_map(|file| name(&file.path)).collect();
        let wanted: BTreeSet<(u64, u64)> = files
            .iter()
            .map(|file| (file.is.device, file.is.inode))
            .collect();
        let until = Instant::now() + LONGEST;
        let own = std::process::id();
        let processes = procfs::processes().unwrap_or_default();
        for stat in processes.iter().filter(|stat| stat.key.pid != own) {
            let folder = format!("/proc/{}/fd", stat.key.pid);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) if Instant::now() < until => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                _ => {
                    openers.unseen += 1;
                    continue;
                }
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(target) = fs::read_link(&path) else {
                    continue;
                };
                if !name(&target).is_some_and(|name| names.contains(name)) {
                    continue;
                }
                let Ok(found) = fs::metadata(&path) else {
                    continue;
                };
                let key = (found.dev(), found.ino());
                if wanted.contains(&key) {
                    let writes = writes(stat.key.pid, &entry.file_name());
                    let known = openers.files.entry(key).or_default();
                    known.0.insert(format!("{} [{}]", stat.comm, stat.key.pid));
                    known.1 |= writes;
                }
            }
        }
        openers
    }

    /// Who has it open; none when nobody does.
    pub(super) fn who(&self, file: &Matching) -> Option<&BTreeSet<String>> {
        let (who, _) = self.files.get(&(file.is.device, file.is.inode))?;
        Some(who)
    }

    /// Whether somebody can write to it.
    pub(super) fn is_written(&self, file: &Matching) -> bool {
        let known = self.files.get(&(file.is.device, file.is.inode));
        known.is_some_and(|(_, writes)| *writes)
    }
}

fn name(path: &Path) -> Option<&[u8]> {
    path.file_name().map(OsStr::as_bytes)
}

/// Whether a process can write to one of its open files. What cannot be read counts as yes.
fn writes(pid: u32, number: &OsStr) -> bool {
    let path = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
    let text = fs::read_to_string(path).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & WRITES != 0)
}
