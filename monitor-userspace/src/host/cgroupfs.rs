//! The cgroup v2 tree: where it is mounted, and the path of a cgroup by its id.
//!
//! The id that kernel events carry is the inode number of the cgroup's folder, and as 64 bits never used again. A file handle of that
//! number opens the folder at once (Linux 5.5, `CAP_DAC_READ_SEARCH`); where that is refused, a bounded walk finds what is there. A v1
//! hierarchy has ids of its own, which mean nothing here.

#![expect(unsafe_code, reason = "open_by_handle_at has no wrapper")]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `FILEID_KERNFS` of the kernel's `include/linux/exportfs.h`: eight bytes, the id.
const FILEID_KERNFS: libc::c_int = 0xfe;

/// A mounted cgroup v2 hierarchy.
#[derive(Debug)]
pub struct CgroupFs {
    mount: PathBuf,
    /// What of the hierarchy is mounted: empty for all of it, else a path with a leading slash.
    above: String,
    folder: File,
    root_id: u64,
    by_handle: bool,
    has_v1: bool,
}

/// What is known of a cgroup's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is there; its path below the root of the hierarchy, with a leading slash.
    Found(String),
    /// There is no such cgroup, or none that is mounted here. An id that is gone never comes back.
    Gone,
    /// The kernel was not asked, or gave no answer: [`CgroupFs::walk`] may know.
    Unanswered,
}

/// `struct file_handle` with room for one id.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: [u8; 8],
}

impl CgroupFs {
    /// The hierarchy that is mounted on this host; none where there is no cgroup v2.
    pub fn open() -> io::Result<Option<Self>> {
        let Some(mounts) = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?) else {
            return Ok(None);
        };
        Self::at(mounts).map(Some)
    }

    fn at(mounts: Mounts) -> io::Result<Self> {
        let folder = File::open(&mounts.mount)?;
        let root_id = folder.metadata()?.ino();
        let mut own = Self {
            mount: mounts.mount,
            above: mounts.above,
            folder,
            root_id,
            by_handle: true,
            has_v1: mounts.has_v1,
        };
        // Old kernels say of every handle that it is stale: one that must not be tells them.
        own.by_handle = own.open_handle(root_id).is_ok();
        Ok(own)
    }

    /// The folder that it is mounted on.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The id of the root of what is mounted.
    pub fn root_id(&self) -> u64 {
        self.root_id
    }

    /// Whether the kernel opens a cgroup by its id; otherwise only [`Self::walk`] finds one.
    pub fn by_handle(&self) -> bool {
        self.by_handle
    }

    /// Whether hierarchies of v1 are mounted, too: containers may be known to them alone.
    pub fn has_v1(&self) -> bool {
        self.has_v1
    }

    /// Where the cgroup of this id is now: two system calls and a close.
    pub fn path_of(&self, id: u64) -> Lookup {
        if !self.by_handle {
            return Lookup::Unanswered;
        }
        match self.open_handle(id) {
            Ok(folder) => self.path_of_open(id, folder.as_raw_fd()),
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Lookup::Gone,
            Err(_) => Lookup::Unanswered,
        }
    }

    fn path_of_open(&self, id: u64, folder: RawFd) -> Lookup {
        let Ok(path) = fs::read_link(format!("/proc/self/fd/{folder}")) else {
            return Lookup::Unanswered;
        };
        let Some(path) = self.below(&path) else {
            return Lookup::Gone;
        };
        // The kernel says so of a folder that has gone in between; but that may just as well be its name.
        match path.strip_suffix(" (deleted)") {
            Some(former) if self.id_of(&path) != Some(id) => Lookup::Found(former.to_owned()),
            _ => Lookup::Found(path),
        }
    }

    fn below(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.mount).ok()?.to_string_lossy();
        let above = &self.above;
        Some(match (above.as_str(), below.as_ref()) {
            ("", below) => format!("/{below}"),
            (_, "") => above.clone(),
            _ => format!("{above}/{below}"),
        })
    }

    /// The id of the cgroup at a path below the root of the hierarchy; none when there is no such cgroup.
    pub fn id_of(&self, path: &str) -> Option<u64> {
        let below = path.strip_prefix(self.above.as_str())?;
        // So the kernel writes of what is outside of our cgroup namespace.
        if below.split('/').any(|part| part == "..") {
            return None;
        }
        let metadata = fs::metadata(self.mount.join(below.trim_start_matches('/'))).ok()?;
        metadata.is_dir().then(|| metadata.ino())
    }

    /// The processes in the cgroup of this id, without those of the cgroups below it; none when it is gone.
    pub fn processes(&self, id: u64) -> Vec<u32> {
        let Lookup::Found(path) = self.path_of(id) else {
            return Vec::new();
        };
        let Some(below) = path.strip_prefix(self.above.as_str()) else {
            return Vec::new();
        };
        let folder = self.mount.join(below.trim_start_matches('/'));
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Ids and paths of the cgroups that are there, those near the root first, `most` at most. Some milliseconds for a thousand.
    pub fn walk(&self, most: usize) -> Vec<(u64, String)> {
        let mut found = vec![(self.root_id, self.below(&self.mount).unwrap_or_default())];
        let mut folders = VecDeque::from([self.mount.clone()]);
        while let Some(folder) = folders.pop_front() {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            for entry in entries {
                if found.len() >= most {
                    return found;
                }
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let path = entry.path();
                found.extend(self.below(&path).map(|below| (entry.ino(), below)));
                // A folder of this file system has two links and one for each folder in it: most have none, and need no reading.
                if entry.metadata().is_ok_and(|metadata| metadata.nlink() != 2) {
                    folders.push_back(path);
                }
            }
        }
        found
    }

    fn open_handle(&self, id: u64) -> io::Result<OwnedFd> {
        let mut handle = Handle {
            bytes: 8,
            kind: FILEID_KERNFS,
            id: id.to_ne_bytes(),
        };
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `handle` is laid out as the kernel's `struct file_handle` with the eight bytes that it announces, and lives
        // through the call, which reads it and nothing else of ours.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                self.folder.as_raw_fd(),
                &raw mut handle,
                flags,
            )
        };
        let fd = RawFd::try_from(answer).unwrap_or(-1);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened this descriptor for us; nobody else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mounts {
    mount: PathBuf,
    above: String,
    has_v1: bool,
}

/// The cgroup v2 mount of `/proc/self/mountinfo` (proc(5)); of several, the one that shows most of the hierarchy.
fn parse_mounts(text: &str) -> Option<Mounts> {
    let mut best: Option<(String, PathBuf)> = None;
    let mut has_v1 = false;
    for line in text.lines() {
        let Some((fields, kind)) = line.split_once(" - ") else {
            continue;
        };
        let kind = kind.split(' ').next();
        has_v1 |= kind == Some("cgroup");
        let mut fields = fields.split(' ').skip(3);
        let (Some("cgroup2"), Some(root), Some(mount)) = (kind, fields.next(), fields.next())
        else {
            continue;
        };
        // The root of what is mounted can lie outside of our cgroup namespace ("/.."): then only what is below it is known.
        let root = unescape(root);
        let above = if root.starts_with("/..") {
            String::new()
        } else {
            root.trim_end_matches('/').to_owned()
        };
        if best.as_ref().is_none_or(|(had, _)| above.len() < had.len()) {
            best = Some((above, PathBuf::from(unescape(mount))));
        }
    }
    let (above, mount) = best?;
    Some(Mounts {
        mount,
        above,
        has_v1,
    })
}

/// Blanks and backslashes stand as `\040` and the like.
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (escape, plain) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        text = text.replace(escape, plain);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let unified =
            "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let part = "9 8 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let outside = "9 8 0:26 /../.. /mnt/c\\040g rw - cgroup2 cgroup rw\n";
        let mounts = |text: &str| parse_mounts(text).expect("there is one");
        let expected = |mount: &str, above: &str, has_v1| Mounts {
            mount: mount.into(),
            above: above.to_owned(),
            has_v1,
        };
        assert_eq!(mounts(unified), expected("/sys/fs/cgroup", "", false));
        assert_eq!(mounts(hybrid), expected("/sys/fs/cgroup/unified", "", true));
        assert_eq!(mounts(part), expected("/sys/fs/cgroup", "/docker/x", false));
        assert_eq!(mounts(outside), expected("/mnt/c g", "", false));
        let both = format!("{part}{unified}");
        assert_eq!(mounts(&both), expected("/sys/fs/cgroup", "", false));
        for text in ["", "garbage\n", "1 2 3 - cgroup2", "a - b - cgroup2\n - \n"] {
            assert_eq!(parse_mounts(text), None, "{text}");
        }
    }

    #[test]
    fn paths_and_ids_are_of_the_hierarchy_not_of_the_mount() {
        let folder = std::env::temp_dir();
        let own = CgroupFs::at(Mounts {
            mount: folder.clone(),
            above: "/docker/x".to_owned(),
            has_v1: false,
        })
        .expect("the folder is there");
        assert_eq!(own.below(&folder).as_deref(), Some("/docker/x"));
        assert_eq!(
            own.below(&folder.join("a/b")).as_deref(),
            Some("/docker/x/a/b")
        );
        assert_eq!(own.below(Path::new("/nowhere")), None);
        assert_eq!(own.id_of("/docker/x"), Some(own.root_id()));
        assert_eq!(own.id_of("/docker/x/no-such-folder"), None);
        assert_eq!(own.id_of("/"), None);
        assert_eq!(own.walk(1), [(own.root_id(), "/docker/x".to_owned())]);
    }
}
