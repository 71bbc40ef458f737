//! Files that others write, looked at without waiting for anybody: a pipe or a device in the place of a file is seen and not opened.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};

/// A file that was found, and is not opened yet.
#[derive(Debug)]
pub struct Found {
    /// Opened with `O_PATH`.
    place: OwnedFd,
    /// What it is.
    pub stat: Stat,
}

impl Found {
    /// Looks at a path; a link at its end is followed only if that is said.
    pub fn at(path: &Path, follow: bool) -> io::Result<Self> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        let place = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = fstat(&place)?;
        Ok(Self { place, stat })
    }

    /// What kind of file it is, in words.
    pub fn kind(&self) -> &'static str {
        match FileType::from_raw_mode(self.stat.st_mode) {
            FileType::RegularFile => "a file",
            FileType::Directory => "a folder",
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a pipe",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Unknown => "of an unknown kind",
        }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode).is_file()
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode).is_symlink()
    }

    /// Its length, bytes.
    pub fn length(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Opens this very file to be read; only a regular one.
    pub fn open(&self) -> io::Result<File> {
        if !self.is_file() {
            return Err(io::Error::other(format!("it is {}", self.kind())));
        }
        let path = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
    }
}

/// At most so many bytes of a file, from there on.
pub fn read_at(mut file: &File, from: u64, most: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The newest of the files of a folder whose names match a pattern (`*`, `?`, `[a-z]`), of the first `most` names, and whether there were
/// more. Links are not followed.
pub fn newest(
    folder: &Path,
    pattern: &str,
    most: usize,
) -> io::Result<(Option<std::path::PathBuf>, bool)> {
    use std::os::unix::ffi::OsStrExt;
    let mut newest: Option<(std::time::SystemTime, std::path::PathBuf)> = None;
    let mut entries = std::fs::read_dir(folder)?;
    for entry in entries.by_ref().take(most) {
        let Ok(entry) = entry else { continue };
        if !super::glob::matches(pattern.as_bytes(), entry.file_name().as_bytes()) {
            continue;
        }
        // One that vanished meanwhile is none.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        let Ok(changed) = about.modified() else {
            continue;
        };
        if about.is_file() && newest.as_ref().is_none_or(|(so_far, _)| changed > *so_far) {
            newest = Some((changed, entry.path()));
        }
    }
    Ok((newest.map(|(_, path)| path), entries.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_file_is_opened() {
        for (path, kind) in [
            ("/dev/null", "a device"),
            ("/tmp", "a folder"),
            ("/proc/self", "a symbolic link"),
        ] {
            let found = Found::at(Path::new(path), false).expect("it is there");
            assert_eq!(found.kind(), kind);
            assert!(found.open().is_err(), "{path}");
        }
        let own = Found::at(Path::new("/proc/self/exe"), true).expect("we run");
        let file = own.open().expect("it is a file");
        assert_eq!(read_at(&file, 0, 4).expect("it reads"), b"\x7fELF");
    }
}
