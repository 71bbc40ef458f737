//! One cgroup, of either version, held open: what is read and written is that of the cgroup that was opened, never of another of its name.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, fstatfs, openat};

use super::HostError;

/// `CGROUP2_SUPER_MAGIC` and `CGROUP_SUPER_MAGIC` of the kernel's `include/uapi/linux/magic.h`.
const MAGIC: [u64; 2] = [0x6367_7270, 0x0027_e0eb];
/// Most cgroups of one tree, and most processes in it, that are looked at.
const MOST: usize = 65_536;

/// A tree of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// The one of version 2.
    V2,
    /// The one of version 1 that has this controller.
    V1(&'static str),
}

/// See the module.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: OwnedFd,
    id: u64,
}

/// What went wrong with a cgroup.
pub fn failed(folder: &Path, what: &str, error: impl Into<std::io::Error>) -> HostError {
    let error: std::io::Error = error.into();
    let advice = match error.kind() {
        std::io::ErrorKind::PermissionDenied => " (only root, or who it was handed to, may)",
        _ => "",
    };
    HostError::Cgroup {
        folder: folder.to_owned(),
        why: format!("{what}: {error}{advice}"),
    }
}

impl Cgroup {
    /// The one at a path.
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed(path, "open it", error))?;
        let system = fstatfs(&folder).map_err(|error| failed(path, "look at it", error))?;
        let found = fstat(&folder).map_err(|error| failed(path, "look at it", error))?;
        let kind = u64::try_from(system.f_type).unwrap_or(0);
        if !MAGIC.contains(&kind) {
            let no = std::io::Error::other("it is no cgroup");
            return Err(failed(path, "open it", no));
        }
        Ok(Self {
            path: path.to_owned(),
            folder,
            id: found.st_ino,
        })
    }

    /// The very one of this number; one that is gone, or another in its place, is not it.
    pub fn at(path: &Path, id: u64) -> Result<Self, HostError> {
        let other = || HostError::OtherCgroup(path.to_owned());
        match Self::open(path) {
            Ok(found) if found.id == id => Ok(found),
            Ok(_) => Err(other()),
            Err(_) if !path.exists() => Err(other()),
            Err(error) => Err(error),
        }
    }

    /// The one that a process is in; none where there is no such hierarchy.
    pub fn of(hierarchy: Hierarchy, pid: u32) -> Result<Option<Self>, HostError> {
        place(hierarchy, pid).map_or(Ok(None), |path| Self::open(&path).map(Some))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number.
    pub const fn id(&self) -> u64 {
        self.id
    }

    fn file(&self, name: &str, flags: OFlags) -> std::io::Result<File> {
        let file = openat(&self.folder, name, flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(File::from(file))
    }

    /// What a file of it says, without the end of the line.
    pub fn read(&self, name: &str) -> std::io::Result<String> {
        let mut text = String::new();
        self.file(name, OFlags::RDONLY)?.read_to_string(&mut text)?;
        Ok(text.trim_end().to_owned())
    }

    /// Writes to a file of it.
    pub fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        self.file(name, OFlags::WRONLY)?.write_all(text.as_bytes())
    }

    /// Like [`Self::read`], with an error that says what of.
    pub fn get(&self, name: &str) -> Result<String, HostError> {
        let read = self.read(name);
        read.map_err(|error| failed(&self.path, &format!("read {name}"), error))
    }

    /// Like [`Self::write`], with an error that says what of.
    pub fn set(&self, name: &str, text: &str) -> Result<(), HostError> {
        let written = self.write(name, text);
        written.map_err(|error| failed(&self.path, &format!("write {text} to {name}"), error))
    }

    /// Whether it has such a file.
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.folder, name, AtFlags::empty()).is_ok()
    }

    /// A new one below it. One that is there already and empty was left by an act that came to nothing, and makes room.
    pub fn make_below(&self, name: &str) -> Result<Self, HostError> {
        let path = self.path.join(name);
        match std::fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if std::fs::remove_dir(&path).is_err() {
                    let why = format!("{} is there: it is held back already", path.display());
                    return Err(HostError::Untouched(why));
                }
                std::fs::create_dir(&path).map_err(|error| failed(&path, "make it", error))?;
            }
            Err(error) => return Err(failed(&path, "make it", error)),
        }
        Self::open(&path)
    }

    /// Removes it; an error where a process is in it.
    pub fn remove(&self) -> Result<(), HostError> {
        let same = Self::at(&self.path, self.id)?;
        std::fs::remove_dir(&same.path).map_err(|error| failed(&self.path, "remove it", error))
    }

    /// The processes in it and in those below it; none in one that is gone. The kernel does not list the dead.
    pub fn processes(&self) -> Result<Vec<u32>, HostError> {
        let text = match self.read("cgroup.procs") {
            Ok(text) => text,
            Err(error) if is_gone(&error) => String::new(),
            Err(error) => return Err(failed(&self.path, "list what is in it", error)),
        };
        let mut pids = pids(&text);
        let mut folders = vec![self.path.clone()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            seen += 1;
            if folder != self.path {
                // It may go meanwhile.
                let text = std::fs::read_to_string(folder.join("cgroup.procs"));
                pids.extend(self::pids(&text.unwrap_or_default()));
            }
            let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| entry.path()));
            if seen.max(pids.len()) > MOST {
                let many = std::io::Error::other(format!("there are more than {MOST} in it"));
                return Err(failed(&self.path, "list what is in it", many));
            }
        }
        Ok(pids)
    }
}

/// Whether this is what the kernel says of a file of a cgroup that is gone.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn pids(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The folder of the cgroup that a process is in; none where there is no such hierarchy, or no such process.
pub fn place(hierarchy: Hierarchy, pid: u32) -> Option<PathBuf> {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    locate(hierarchy, &mounts, &cgroups)
}

/// Mounts (`/proc/PID/mountinfo`) and cgroups (`/proc/PID/cgroup`) to the folder, see proc(5) and cgroups(7).
fn locate(hierarchy: Hierarchy, mounts: &str, cgroups: &str) -> Option<PathBuf> {
    let has = |list: &str, controller: &str| list.split(',').any(|name| name == controller);
    let own = cgroups.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let found = match hierarchy {
            Hierarchy::V2 => number == "0",
            Hierarchy::V1(controller) => has(controllers, controller),
        };
        found.then_some(path)
    })?;
    // Outside of what our cgroup namespace shows.
    if own.split('/').any(|part| part == "..") {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut words = system.split(' ');
        let (kind, options) = (words.next()?, words.nth(1)?);
        let found = match hierarchy {
            Hierarchy::V2 => kind == "cgroup2",
            Hierarchy::V1(controller) => kind == "cgroup" && has(options, controller),
        };
        found.then_some(())?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        // A path that needs an escape is no place for a cgroup hierarchy.
        (!at.contains('\\')).then_some(())?;
        let inside = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(at).join(inside))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        36 31 0:33 /pod /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const OWN: &str = "3:freezer:/pod/a\n2:cpu,cpuacct:/b\n0::/c/d\n";

    #[test]
    fn each_hierarchy_has_its_own_place() {
        let at = |hierarchy| locate(hierarchy, MOUNTS, OWN);
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(at(Hierarchy::V2), path("/sys/fs/cgroup/unified/c/d"));
        assert_eq!(at(Hierarchy::V1("cpu")), path("/sys/fs/cgroup/cpu/b"));
        assert_eq!(at(Hierarchy::V1("cpuacct")), path("/sys/fs/cgroup/cpu/b"));
        assert_eq!(
            at(Hierarchy::V1("freezer")),
            path("/sys/fs/cgroup/freezer/a")
        );
        assert_eq!(at(Hierarchy::V1("memory")), None);
        assert_eq!(locate(Hierarchy::V2, MOUNTS, "0::/../x\n"), None);
        assert_eq!(locate(Hierarchy::V2, "garbage", "garbage"), None);
    }

    #[test]
    fn what_is_no_cgroup_is_not_opened() {
        let error = Cgroup::open(Path::new("/tmp")).expect_err("it is none");
        assert!(error.to_string().contains("it is no cgroup"), "{error}");
        let gone = Cgroup::at(Path::new("/sys/fs/cgroup/no-such-one"), 1);
        assert!(matches!(gone, Err(HostError::OtherCgroup(_))), "{gone:?}");
    }
}
