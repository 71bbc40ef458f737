//! Follows a file that grows, is moved away and is cut.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::AT_A_TIME;
use crate::host::files::{self, Found};

/// A line that is longer is taken in parts.
const LINE: usize = 64 << 10;

/// Where a file was read to. Held open, so that its end can be read when it was moved away.
#[derive(Debug, Default)]
pub(super) struct Followed {
    open: Option<(File, u64)>,
    /// The file was looked for before: one that comes later is new from its beginning.
    looked: bool,
}

/// What was new.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Whole lines.
    pub(super) text: Vec<u8>,
    /// Bytes that were left out.
    pub(super) skipped: u64,
}

impl Followed {
    /// What was appended since the last time.
    pub(super) fn read(&mut self, path: &Path, follow: bool) -> Result<Read, String> {
        let name = path.display();
        let mut read = Read::default();
        let seen = std::mem::replace(&mut self.looked, true);
        let found = match Found::at(path, follow) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(format!("{name} is not there"));
            }
            Err(error) => return Err(format!("{name} cannot be looked at: {error}")),
        };
        if found.is_link() {
            return Err(format!(
                "{name} is a symbolic link: write the path that it leads to, or `follow = true`"
            ));
        }
        let failed = |error: std::io::Error| format!("{name} cannot be read: {error}");
        let same = |file: &File| {
            let about = file.metadata().ok();
            about.is_some_and(|about| {
                about.ino() == found.stat.st_ino && about.dev() == found.stat.st_dev
            })
        };
        if !self.open.as_ref().is_some_and(|(file, _)| same(file)) {
            if let Some((file, at)) = &mut self.open {
                take(file, at, true, &mut read).map_err(failed)?;
            }
            let file = found.open().map_err(failed)?;
            let from = if seen { 0 } else { found.length() };
            self.open = Some((file, from));
        }
        if let Some((file, at)) = &mut self.open {
            take(file, at, false, &mut read).map_err(failed)?;
        }
        Ok(read)
    }
}

/// Reads from there to the end, as far as there is room; `all`: also a line that is not at its end.
fn take(file: &File, at: &mut u64, all: bool, read: &mut Read) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    if length < *at {
        *at = 0;
    }
    let room = AT_A_TIME.saturating_sub(u64::try_from(read.text.len()).unwrap_or(u64::MAX));
    let over = (length - *at).saturating_sub(room);
    read.skipped = read.skipped.saturating_add(over);
    *at += over;
    let mut bytes = files::read_at(file, *at, room)?;
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    if !all && bytes.len() - end < LINE {
        bytes.truncate(end);
    }
    *at += u64::try_from(bytes.len()).unwrap_or(0);
    read.text.append(&mut bytes);
    if read.text.last().is_some_and(|byte| *byte != b'\n') {
        read.text.push(b'\n');
    }
    Ok(())
}

/// Counts that are added up, each for some time.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Instant, u64)>);

/// Most counts that are kept apart; more are put together.
const APART: u32 = 64;

impl Window {
    /// Adds one, and gives the sum of those that are not older than this.
    pub(super) fn add(&mut self, now: Instant, count: u64, within: Duration) -> u64 {
        self.0.retain(|(at, _)| now.duration_since(*at) < within);
        match self.0.back_mut() {
            _ if count == 0 => {}
            Some((at, sum)) if now.duration_since(*at) < within / APART => {
                *sum = sum.saturating_add(count);
            }
            _ => self.0.push_back((now, count)),
        }
        self.0
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("smart-monitor-log-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("it is made");
            Self(folder)
        }

        fn log(&self) -> PathBuf {
            self.0.join("log")
        }

        fn append(&self, text: &str) {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.log());
            file.expect("it opens")
                .write_all(text.as_bytes())
                .expect("it is written");
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn read(followed: &mut Followed, place: &Place) -> String {
        let read = followed.read(&place.log(), false).expect("it reads");
        String::from_utf8(read.text).expect("it is text")
    }

    #[test]
    fn only_what_is_new_is_read() {
        let place = Place::new("new");
        place.append("old\n");
        let mut followed = Followed::default();
        assert_eq!(read(&mut followed, &place), "");
        place.append("one\ntw");
        assert_eq!(
            read(&mut followed, &place),
            "one\n",
            "a line that is not at its end waits"
        );
        place.append("o\n");
        assert_eq!(read(&mut followed, &place), "two\n");
        assert_eq!(read(&mut followed, &place), "");
    }

    #[test]
    fn a_rotation_loses_nothing() {
        let place = Place::new("rotation");
        place.append("old\n");
        let mut followed = Followed::default();
        assert_eq!(read(&mut followed, &place), "");
        place.append("before\nlast words");
        fs::rename(place.log(), place.0.join("log.1")).expect("it is moved");
        assert!(
            followed
                .read(&place.log(), false)
                .is_err_and(|why| why.contains("is not there"))
        );
        place.append("after\n");
        assert_eq!(read(&mut followed, &place), "before\nlast words\nafter\n");
        fs::write(place.log(), "cut\n").expect("it is cut and written");
        assert_eq!(read(&mut followed, &place), "cut\n");
    }

    #[test]
    fn a_file_that_comes_later_is_read_whole() {
        let place = Place::new("later");
        let mut followed = Followed::default();
        assert!(followed.read(&place.log(), false).is_err());
        place.append("first\n");
        assert_eq!(read(&mut followed, &place), "first\n");
    }

    #[test]
    fn a_flood_is_skipped_and_counted() {
        let place = Place::new("flood");
        place.append("old\n");
        let mut followed = Followed::default();
        assert_eq!(read(&mut followed, &place), "");
        place.append(&"x".repeat(3 << 20));
        let flood = followed.read(&place.log(), false).expect("it reads");
        assert_eq!((flood.text.len(), flood.skipped), ((1 << 20) + 1, 2 << 20));
        place.append("\nend\n");
        assert_eq!(read(&mut followed, &place), "\nend\n");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let zero = Followed::default().read(Path::new("/dev/zero"), false);
        assert!(zero.is_err_and(|why| why.contains("it is a device")));
        let own = Followed::default().read(Path::new("/proc/self/exe"), false);
        assert!(own.is_err_and(|why| why.contains("symbolic link")));
    }

    #[test]
    fn counts_are_forgotten_after_their_time() {
        let (mut window, start) = (Window::default(), Instant::now());
        let minute = Duration::from_mins(1);
        for second in 0..1000 {
            window.add(start + Duration::from_secs(second), 1, minute);
            assert!(window.0.len() <= 65);
        }
        assert_eq!(window.add(start + Duration::from_secs(1000), 0, minute), 59);
        assert_eq!(window.add(start + Duration::from_secs(2000), 0, minute), 0);
    }
}
