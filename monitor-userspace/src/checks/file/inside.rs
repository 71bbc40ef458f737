//! What is in a file, for the check `file`.

use std::io::Read;
use std::time::{Duration, Instant};

use super::{File, HASHED};
use crate::host::files::{self, Found};

/// Bytes that are read from the beginning, and as many from the end.
const END: u64 = 64 << 10;

/// What is kept from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The longest it was, and since when.
    longest: Option<(u64, Instant)>,
    /// Which file was hashed, as it was then: device, inode, length, times of change; and its hash.
    hashed: Option<(Version, blake3::Hash)>,
}

type Version = (u64, u64, u64, (i64, u64), (i64, u64));

impl Kept {
    /// How long ago it became longer last; it is shorter when it was begun anew, and counts from there.
    pub(super) fn unchanged(&mut self, size: u64) -> Duration {
        match self.longest {
            Some((longest, since)) if longest == size => since.elapsed(),
            _ => {
                self.longest = Some((size, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

/// Reads it, and says what is wrong.
pub(super) fn look(wanted: &File, found: &Found, kept: &mut Kept) -> Result<(), String> {
    let open = found.open();
    let file = open.map_err(|error| format!("it cannot be read: {error}"))?;
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    if wanted.contains.is_some() || wanted.contains_not.is_some() {
        let mut text = files::read_at(&file, 0, END).map_err(failed)?;
        if found.length() > END {
            // In one piece where the two meet, else parted: what matches across the gap stands nowhere.
            let from = found.length().saturating_sub(END).max(END);
            if from > END {
                text.push(b'\n');
            }
            text.extend(files::read_at(&file, from, END).map_err(failed)?);
        }
        if let Some(pattern) = wanted.contains.as_ref().filter(|it| !it.0.is_match(&text)) {
            return Err(format!(
                "its first and last 64KiB do not match `{}`",
                pattern.0
            ));
        }
        if let Some(pattern) = wanted
            .contains_not
            .as_ref()
            .filter(|it| it.0.is_match(&text))
        {
            return Err(format!("it matches `{}`, and is not to", pattern.0));
        }
    }
    let Some(expected) = &wanted.blake3 else {
        return Ok(());
    };
    let hash = hash(&file, found, kept)?.to_hex();
    if hash.as_str().eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(format!("its BLAKE3 hash is {hash}, expected {expected}"))
}

fn hash(mut file: &std::fs::File, found: &Found, kept: &mut Kept) -> Result<blake3::Hash, String> {
    let stat = &found.stat;
    let times = (
        (stat.st_mtime, stat.st_mtime_nsec),
        (stat.st_ctime, stat.st_ctime_nsec),
    );
    let version = (stat.st_dev, stat.st_ino, found.length(), times.0, times.1);
    if let Some((_, hash)) = kept.hashed.filter(|(hashed, _)| *hashed == version) {
        return Ok(hash);
    }
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    std::io::Seek::rewind(&mut file).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut left = HASHED;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(rest) = left.checked_sub(u64::try_from(read).unwrap_or(u64::MAX)) else {
            return Err(format!(
                "it is longer than the {}MiB that are hashed",
                HASHED >> 20
            ));
        };
        left = rest;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(bytes) => hasher.update(bytes),
        };
    }
    let hash = hasher.finalize();
    kept.hashed = Some((version, hash));
    Ok(hash)
}
