//! The tag of a container image, in a file of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::super::HostError;
use super::{beside, cannot, put_in_place};

/// Longest file that is read, bytes: a tag has at most 128.
const LENGTH: u64 = 256;

/// The tag.
pub(super) fn read(path: &Path) -> Result<String, HostError> {
    let found = std::fs::symlink_metadata(path).map_err(|error| cannot("read", path, &error))?;
    if !found.is_file() || found.len() > LENGTH {
        return Err(HostError::Release(format!(
            "{} is no file with a tag in it and nothing else",
            path.display()
        )));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LENGTH).read_to_string(&mut text));
    read.map_err(|error| cannot("read", path, &error))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Writes another one, from one moment to the next; owner and mode of the file stay.
pub(super) fn write(path: &Path, tag: &str) -> Result<(), HostError> {
    let own = std::fs::symlink_metadata(path).map_err(|error| cannot("read", path, &error))?;
    let ready = beside(path);
    let _left_by_an_earlier_run = std::fs::remove_file(&ready);
    let made = (|| {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&ready)?;
        writeln!(file, "{tag}")?;
        if own.uid() != rustix::process::geteuid().as_raw() {
            fchown(&file, Some(own.uid()), Some(own.gid()))?;
        }
        file.set_permissions(own.permissions())?;
        file.sync_all()
    })();
    made.map_err(|error| cannot("make", &ready, &error))?;
    put_in_place(&ready, path)
}
