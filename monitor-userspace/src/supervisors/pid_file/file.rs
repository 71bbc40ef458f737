//! A PID file, and the process that it names.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, fstatfs};

use crate::host::{clock, procfs};
use crate::model::ProcessKey;

/// A file may be dated so much before its process began: both clocks are coarse.
const SLACK: Duration = Duration::from_secs(1);
/// Most of a file that is read, bytes.
const LONGEST: u64 = 64;
/// File systems in memory, empty when the machine starts: tmpfs and ramfs (the kernel's `include/uapi/linux/magic.h`).
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// What a file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// There is one.
    pub(super) there: bool,
    /// The process that it names, while it runs.
    pub(super) process: Option<ProcessKey>,
    /// When it was written, as the wall clock was then.
    pub(super) written: Option<SystemTime>,
}

/// A file that was read.
struct Read {
    text: String,
    written: Option<SystemTime>,
    /// The user that it belongs to.
    owner: u32,
    /// It cannot be older than the machine's start.
    in_memory: bool,
}

/// The first bytes of a file. Waits for nobody, whatever is at the path, and follows no link there: that could lead to a file of somebody
/// who may do more.
fn read(file: &Path) -> std::io::Result<Read> {
    let mut options = File::options();
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = options.read(true).custom_flags(flags).open(file)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let kind = fstatfs(&file).map(|system| u64::try_from(system.f_type).unwrap_or(0));
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(Read {
        text: String::from_utf8_lossy(&text).into_owned(),
        written: about.modified().ok(),
        owner: about.uid(),
        in_memory: kind.is_ok_and(|kind| MEMORY.contains(&kind)),
    })
}

/// What a file says; `before` is what it said when its process was last seen to run.
pub(super) fn find(file: &Path, before: Option<&Found>) -> Result<Found, String> {
    let read = match read(file) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    let pid = read.text.trim().parse::<u32>().ok().filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| {
        let start: String = read.text.trim().chars().take(40).collect();
        format!("{} has no PID in it, but {start:?}", file.display())
    })?;
    let running = procfs::stat(pid).filter(|stat| !stat.exiting);
    let found = Found {
        there: true,
        process: running.map(|stat| stat.key),
        written: read.written,
    };
    let own = found.process.is_none_or(|process| {
        let now = SystemTime::now();
        let up = clock::since_boot();
        let age = read.written.and_then(|it| now.duration_since(it).ok());
        let ran = up.saturating_sub(Duration::from_nanos(process.start_time_ns()));
        // Nothing has changed but, maybe, the clock.
        before == Some(&found) || is_own(age, ran, up, read.in_memory)
    });
    let found = Found {
        process: found.process.filter(|_| own),
        ..found
    };
    // Whoever may write the file could otherwise have any process ended: only root's word counts for those of others.
    if let Some(process) = found.process.filter(|_| read.owner != 0)
        && procfs::real_uid(process.pid) != Some(read.owner)
    {
        return Err(format!(
            "{} belongs to user {} and names process {}, which is another user's: it is not believed",
            file.display(),
            read.owner,
            process.pid
        ));
    }
    Ok(found)
}

/// Whether a process that has run for `ran` can be the one that a file of this age names, on a machine that is up for `up`. One that
/// began after the file was written is another with its number.
///
/// The age is by the wall clock, the others are not. A file in memory that seems to be older than the machine's start shows that the clock
/// was set forward since it was written, so that its age says nothing: then the process counts as the one that is meant.
pub(super) fn is_own(age: Option<Duration>, ran: Duration, up: Duration, in_memory: bool) -> bool {
    age.is_none_or(|age| ran + SLACK >= age || (in_memory && age > up + SLACK))
}
