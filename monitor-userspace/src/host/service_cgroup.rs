//! A cgroup (v2) of its own for every service: one identity for its whole process tree, and its end.
//!
//! `<the daemon's own cgroup>/smart-monitor/<instance>/<service>`: below our own, because that is what systemd delegates to us
//! (`Delegate=yes`). No controller is switched on anywhere, so the rule that a cgroup with controllers holds no processes itself does
//! not apply, and the daemon stays where it is. Ending uses `cgroup.kill` (5.14), before that the freezer (5.2).
//!
//! A folder is held open: what is written to goes to the cgroup that was opened, never to another of that name. Nothing is ended
//! in a cgroup that holds the daemon. Left out: limits and controllers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat};
use serde::{Deserialize, Serialize};

use super::signals::Held;
use super::{HostError, Opened, procfs};

/// `CGROUP2_SUPER_MAGIC` of the kernel's `include/uapi/linux/magic.h`.
const CGROUP2: u64 = 0x6367_7270;
/// Milliseconds that what is left of a service may take to die of SIGKILL.
const DYING: u32 = 1000;
/// Most folders of one tree, and most leftovers, that are looked at.
const MOST: usize = 4096;

/// Where the cgroups of one daemon's services are.
#[derive(Debug)]
pub struct Cgroups {
    folder: PathBuf,
}

/// Which cgroup a service has, for the next start of the daemon. Means something within one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub(crate) path: PathBuf,
    pub(crate) id: u64,
}

/// The cgroup of one service.
#[derive(Debug)]
pub struct ServiceCgroup {
    path: PathBuf,
    folder: OwnedFd,
    id: u64,
    fresh: bool,
}

fn refused(folder: &Path, why: &str) -> HostError {
    HostError::Cgroup {
        folder: folder.to_owned(),
        why: why.to_owned(),
    }
}

fn failed(folder: &Path, what: &str, error: impl Into<std::io::Error>) -> HostError {
    refused(folder, &format!("{what}: {}", error.into()))
}

impl Cgroups {
    /// Finds the hierarchy and makes the folder. `instance` is the daemon's state folder: two daemons do not share a cgroup.
    pub fn find(instance: &Path) -> Result<Self, HostError> {
        let own = own()?;
        let folder = own
            .join("smart-monitor")
            .join(format!("{:016x}", hash(instance.as_os_str().as_bytes())));
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, "make it", error))?;
        Ok(Self { folder })
    }

    /// The same for commands, which the services' `sweep` must not take for services. Nothing is made yet.
    pub(super) fn of_commands(instance: &Path) -> Result<Self, HostError> {
        let folder = own()?.join("smart-monitor");
        let name = format!("{:016x}.run", hash(instance.as_os_str().as_bytes()));
        Ok(Self {
            folder: folder.join(name),
        })
    }

    /// A service has two names in turn: removing a folder that has a pressure alarm takes the kernel some 15 ms, which no start is
    /// to wait for. No service's name has a `+`.
    fn paths(&self, service: &str) -> [PathBuf; 2] {
        names(service).map(|name| self.folder.join(name))
    }

    /// A new cgroup for a service, in another place than `old`. What is there from earlier is ended, and its folder removed; one
    /// that cannot be removed is used again.
    pub fn make(
        &self,
        service: &str,
        old: Option<&ServiceCgroup>,
    ) -> Result<ServiceCgroup, HostError> {
        let [first, second] = self.paths(service);
        let taken = old.is_some_and(|old| old.path == first);
        let path = if taken { second } else { first };
        if let Ok(old) = ServiceCgroup::open(&path) {
            old.end()?;
            if old.remove().is_err() {
                return Ok(old);
            }
        }
        // The folder above goes with the last service; another one may just have stopped.
        for _ in 0..3 {
            let made = std::fs::create_dir_all(&self.folder).and(std::fs::create_dir(&path));
            match made {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&path, "make it", error)),
            }
        }
        let mut made = ServiceCgroup::open(&path)?;
        made.fresh = true;
        Ok(made)
    }

    /// The cgroup that is where a service's would be made, if there is one.
    pub fn earlier(&self, service: &str) -> Option<ServiceCgroup> {
        let mut found = self
            .paths(service)
            .map(|path| ServiceCgroup::open(&path).ok());
        found.sort_by_key(|cgroup| !cgroup.as_ref().is_some_and(ServiceCgroup::populated));
        found.into_iter().flatten().next()
    }

    /// Removes what is left of services that are not wanted any more, as far as it is empty.
    pub fn sweep<'a>(&self, wanted: impl Iterator<Item = &'a str>) {
        let wanted: Vec<String> = wanted.flat_map(names).collect();
        for path in below(&self.folder) {
            let name = path.file_name().unwrap_or_default();
            let is_wanted = wanted.iter().any(|wanted| name == wanted.as_str());
            if !is_wanted && let Ok(left) = ServiceCgroup::open(&path) {
                let _populated = left.remove();
            }
        }
    }
}

impl ServiceCgroup {
    fn open(path: &Path) -> Result<Self, HostError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed(path, "open it", error))?;
        let found = fstat(&folder).map_err(|error| failed(path, "look at it", error))?;
        let system = fstatfs(&folder).map_err(|error| failed(path, "look at it", error))?;
        if u64::try_from(system.f_type).ok() != Some(CGROUP2) {
            return Err(refused(path, "not a cgroup of version 2"));
        }
        if found.st_uid != rustix::process::geteuid().as_raw() {
            return Err(refused(path, "made by another user"));
        }
        Ok(Self {
            path: path.to_owned(),
            folder,
            id: found.st_ino,
            fresh: false,
        })
    }

    /// The very one that was noted, if it is still there.
    pub fn at(place: &Place) -> Option<Self> {
        let found = Self::open(&place.path).ok()?;
        (found.id == place.id).then_some(found)
    }

    /// What the kernel calls it: the number of its folder.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// For the next start of the daemon.
    pub fn place(&self) -> Place {
        Place {
            path: self.path.clone(),
            id: self.id,
        }
    }

    /// Its folder, if nothing was ever ended in it: since 6.14, the kernel kills what is cloned into a cgroup that `cgroup.kill` was
    /// once written to.
    pub(super) fn fresh(&self) -> Option<BorrowedFd<'_>> {
        self.fresh.then(|| self.folder.as_fd())
    }

    fn file(&self, name: &str, flags: OFlags) -> std::io::Result<File> {
        let file = openat(&self.folder, name, flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(File::from(file))
    }

    fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        self.file(name, OFlags::WRONLY)?.write_all(text.as_bytes())
    }

    /// Who writes `0` to it, enters.
    pub(super) fn door(&self) -> std::io::Result<File> {
        self.file("cgroup.procs", OFlags::WRONLY)
    }

    /// Memory pressure of all its processes: to be read, and to set an alarm on.
    pub fn memory_pressure(&self) -> std::io::Result<File> {
        self.file("memory.pressure", OFlags::RDWR | OFlags::NONBLOCK)
    }

    /// Whether a process is in it, or in a cgroup below it.
    pub fn holds(&self, pid: u32) -> bool {
        within(&pid.to_string()).is_ok_and(|path| path.starts_with(&self.path)) && self.is_there()
    }

    /// What to say when a process that was to start in it did not.
    pub fn not_entered(&self) -> HostError {
        refused(&self.path, "a process cannot enter it")
    }

    /// Whether its path still leads to it.
    fn is_there(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.id)
    }

    /// Whether any process is in it or below it; zombies do not count.
    fn populated(&self) -> bool {
        let mut text = String::new();
        let read = self
            .file("cgroup.events", OFlags::RDONLY)
            .and_then(|mut file| file.read_to_string(&mut text));
        read.is_ok() && text.lines().any(|line| line == "populated 1")
    }

    /// How many processes are in it and below it, `most` at most.
    pub(super) fn count(&self, most: usize) -> usize {
        let mut count = 0;
        for folder in std::iter::once(self.path.clone()).chain(tree(&self.path)) {
            let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            count += text.lines().take(most).count();
            if count >= most {
                return most;
            }
        }
        count
    }

    /// Ends everything in it with SIGKILL, and waits until it is gone. Whether there was anything.
    pub fn end(&self) -> Result<bool, HostError> {
        if !self.populated() {
            return Ok(false);
        }
        if !self.is_there() {
            return Err(refused(&self.path, "another cgroup is there by now"));
        }
        let own = own()?.starts_with(&self.path);
        if own || procfs::own_line().iter().any(|pid| self.holds(*pid)) {
            return Err(refused(
                &self.path,
                "the daemon itself, or one it came from, is in it: nothing is ended there",
            ));
        }
        match self.write("cgroup.kill", "1") {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.end_one_by_one(),
            Err(error) => return Err(failed(&self.path, "end what is in it", error)),
        }
        for _ in 0..DYING {
            if !self.populated() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(refused(
            &self.path,
            "what is in it does not die of SIGKILL; it may hang in the kernel (see /proc/PID/stack of the processes in cgroup.procs)",
        ))
    }

    /// Moves everything in it to the daemon's own cgroup, to live on there.
    pub(super) fn let_go(&self) -> Result<(), HostError> {
        let door = own()?.join("cgroup.procs");
        // Each round finds what those of the one before have started meanwhile.
        for _ in 0..DYING {
            if !self.populated() {
                return Ok(());
            }
            for folder in std::iter::once(self.path.clone()).chain(tree(&self.path)) {
                let text = std::fs::read_to_string(folder.join("cgroup.procs"));
                for pid in text.unwrap_or_default().lines() {
                    // One that has ended meanwhile needs no place.
                    let _gone = std::fs::write(&door, pid);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(refused(
            &self.path,
            "what a start command left in it cannot be moved to the daemon's cgroup",
        ))
    }

    /// Before 5.14. Frozen, they start no new ones while they are being ended; a frozen process dies of SIGKILL all the same.
    fn end_one_by_one(&self) {
        let _unknown_before_5_2 = self.write("cgroup.freeze", "1");
        for _ in 0..DYING {
            let mut found = false;
            for folder in std::iter::once(self.path.clone()).chain(tree(&self.path)) {
                let text = std::fs::read_to_string(folder.join("cgroup.procs"));
                for pid in text.unwrap_or_default().lines() {
                    // Opened first, looked up after: what was in it then is what is held.
                    let Some(stat) = pid.parse().ok().and_then(procfs::stat) else {
                        continue;
                    };
                    found = true;
                    if let Ok(held) = Held::open(stat.key)
                        && self.holds(stat.key.pid)
                    {
                        let _gone = held.kill();
                        held.release_memory();
                    }
                }
            }
            if !found {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _removed = self.write("cgroup.freeze", "0");
    }

    /// Removes its folder, with empty cgroups that the service made in it; an error when a process is in it. The folders above go with
    /// the last one.
    pub fn remove(&self) -> Result<(), HostError> {
        if !self.is_there() {
            return Ok(());
        }
        for folder in tree(&self.path) {
            let _populated = std::fs::remove_dir(folder);
        }
        std::fs::remove_dir(&self.path).map_err(|error| failed(&self.path, "remove it", error))?;
        for above in self.path.ancestors().skip(1).take(2) {
            let _others = std::fs::remove_dir(above);
        }
        Ok(())
    }
}

/// The cgroups right below one.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.take(MOST).map(|entry| entry.path()).collect()
}

/// All cgroups below one, the deepest first.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = below(folder);
    let mut next = 0;
    while let Some(folder) = found.get(next).filter(|_| found.len() < MOST) {
        let more = below(folder);
        found.extend(more);
        next += 1;
    }
    found.reverse();
    found
}

/// The folder of the daemon's own cgroup.
fn own() -> Result<PathBuf, HostError> {
    within("self")
}

/// The folder of a process's cgroup.
fn within(process: &str) -> Result<PathBuf, HostError> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| failed(Path::new(path), "read it", error))
    };
    let cgroup = read(&format!("/proc/{process}/cgroup"))?;
    let mounts = read("/proc/self/mountinfo")?;
    locate(&mounts, &cgroup).ok_or_else(|| {
        refused(
            Path::new("/sys/fs/cgroup"),
            "the daemon's own cgroup is in no hierarchy of version 2 that is mounted here",
        )
    })
}

/// Mounts (`/proc/PID/mountinfo`) and cgroups (`/proc/PID/cgroup`) to the folder, see proc(5).
fn locate(mounts: &str, cgroup: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside of what our cgroup namespace shows.
    if own.split('/').any(|part| part == "..") {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        (system.split(' ').next() == Some("cgroup2")).then_some(())?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        // A path that needs an escape is no place for a cgroup hierarchy.
        (!at.contains('\\')).then_some(())?;
        let inside = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(at).join(inside))
    })
}

/// The kernel's own files have names with dots, so that a service's name with one could be taken: as systemd does, such a name
/// gets an underscore before it. `.` and `..` become names of folders by that, too.
fn file_name(service: &str) -> String {
    if service.starts_with('_') || service.contains('.') {
        format!("_{service}")
    } else {
        service.to_owned()
    }
}

fn names(service: &str) -> [String; 2] {
    let name = file_name(service);
    [name.clone(), name + "+"]
}

/// FNV-1a: stable, and good enough to tell folders apart.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
