//! Files that take what the daemon's services write: `logs/NAME.log` in the state folder, and the one before, `NAME.log.1`.
//!
//! The service itself has the file open, for appending, so that it goes on when the daemon is gone. A file over `LONGEST` becomes the
//! old one at the service's start, and is copied and emptied while it runs: what is written between the two is lost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::HostError;

/// A file over this many bytes is made short.
const LONGEST: u64 = 8 << 20;

/// The folder of these files.
pub fn folder(state: &Path) -> PathBuf {
    state.join("logs")
}

/// The file of a service.
pub fn file(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}.log"))
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> HostError {
    let what = format!("{what} {}", path.display());
    move |source| HostError::System { what, source }
}

/// Opens the file of a service that is about to start. It becomes its user's, numeric user and group, since some programs open
/// `/dev/stderr` anew; the folder lets nobody else in.
pub fn open(folder: &Path, service: &str, user: Option<(u32, u32)>) -> Result<File, HostError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(error("make", folder))?;
    let path = file(folder, service);
    let mut file = append(&path).map_err(error("open", &path))?;
    let length = file.metadata().map_err(error("read", &path))?.len();
    if length > LONGEST {
        fs::rename(&path, old(&path)).map_err(error("rename", &path))?;
        file = append(&path).map_err(error("open", &path))?;
    }
    if let Some((uid, gid)) = user {
        fchown(&file, Some(uid), Some(gid)).map_err(error("give to its service", &path))?;
    }
    Ok(file)
}

fn append(path: &Path) -> io::Result<File> {
    // Without NONBLOCK, a pipe in its place would hold us up.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file; remove it"));
    }
    Ok(file)
}

/// Makes those short that are too long. What could not be kept is said; it goes all the same, since a full disk stops the journal.
pub fn keep_short(folder: &Path) -> Vec<HostError> {
    // No folder: nothing was ever captured.
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let logs = paths.filter(|path| path.extension().is_some_and(|it| it == "log"));
    let cut = logs.filter_map(|path| {
        cut(&path)
            .map_err(error("keep the older part of", &path))
            .err()
    });
    cut.collect()
}

fn cut(path: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if !about.is_file() || about.size() <= LONGEST {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let kept = keep(&file, path);
    file.set_len(0)?;
    kept
}

/// Copies the end of a file to the old one's place.
fn keep(mut file: &File, path: &Path) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let old = old(path);
    let new = old.with_extension("new");
    let mut copy = File::create(&new)?;
    let copied = io::copy(&mut file.take(LONGEST), &mut copy);
    if let Err(error) = copied.and_then(|_| fs::rename(&new, &old)) {
        fs::remove_file(&new)?;
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn place(name: &str) -> PathBuf {
        let name = format!("smart-monitor-capture-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn write(file: &mut File, megabytes: usize, last: &str) {
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..megabytes {
            file.write_all(&chunk).expect("there is room");
        }
        file.write_all(last.as_bytes()).expect("there is room");
    }

    #[test]
    fn a_long_file_becomes_the_old_one_at_a_start() {
        let folder = place("start");
        let mut first = open(&folder, "shop", None).expect("it opens");
        assert_eq!(first.metadata().expect("it is open").mode() & 0o777, 0o600);
        write(&mut first, 1, "one\n");
        let mut again = open(&folder, "shop", None).expect("it opens");
        write(&mut again, 8, "two\n");
        let path = file(&folder, "shop");
        assert_eq!(
            fs::metadata(&path).expect("it is there").len(),
            (9 << 20) + 8
        );
        drop(open(&folder, "shop", None).expect("it opens"));
        assert_eq!(fs::metadata(&path).expect("it is there").len(), 0);
        assert_eq!(
            fs::metadata(old(&path)).expect("it is there").len(),
            (9 << 20) + 8
        );
        fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn a_long_file_is_cut_while_its_service_runs() {
        let folder = place("running");
        let mut service = open(&folder, "shop", None).expect("it opens");
        write(&mut service, 9, "last\n");
        let mut other = open(&folder, "other", None).expect("it opens");
        write(&mut other, 1, "\n");
        assert!(keep_short(&folder).is_empty());
        let path = file(&folder, "shop");
        let kept = fs::read(old(&path)).expect("it is there");
        assert!(kept.len() == 8 << 20 && kept.ends_with(b"last\n"));
        // Appended, so it goes on at the beginning.
        service.write_all(b"next\n").expect("there is room");
        assert_eq!(fs::read(&path).expect("it is there"), b"next\n");
        let other = fs::metadata(file(&folder, "other")).expect("it is there");
        assert_eq!(other.len(), (1 << 20) + 1);
        fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = place("link");
        fs::create_dir_all(&folder).expect("it is made");
        std::os::unix::fs::symlink("/dev/null", file(&folder, "shop")).expect("it is made");
        assert!(open(&folder, "shop", None).is_err());
        fs::remove_dir_all(folder).expect("it goes");
    }
}
