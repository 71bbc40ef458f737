//! Cgroups of the program's own. Dropping one kills its members and removes it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use smart_monitor::host::cgroupfs::CgroupFs;
use smart_monitor_tests::{PATIENCE, wait_until};

/// A cgroup.
pub(crate) struct Group {
    folder: PathBuf,
}

impl Group {
    /// In the v2 hierarchy.
    pub(crate) fn new() -> Result<Self> {
        let tree = CgroupFs::open()?.context("no cgroup v2 hierarchy is mounted")?;
        Self::below(tree.mount())
    }

    /// One that may hold so many bytes, in the hierarchy that has the memory controller.
    pub(crate) fn of_memory(limit: u64) -> Result<Self> {
        let tree = CgroupFs::open()?.context("no cgroup v2 hierarchy is mounted")?;
        let enabled = fs::read_to_string(tree.mount().join("cgroup.subtree_control"));
        let unified =
            enabled.is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"));
        let (root, file) = if unified {
            (tree.mount(), "memory.max")
        } else {
            (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
        };
        let group = Self::below(root).context("the memory controller is needed")?;
        group.set(file, &limit.to_string())?;
        Ok(group)
    }

    /// In the hierarchy that is mounted there.
    pub(crate) fn below(root: &Path) -> Result<Self> {
        let folder = root.join(format!("smart-monitor-matrix-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives it another name.
    pub(crate) fn rename(&mut self) -> Result<()> {
        let other = self.folder.with_extension("renamed");
        fs::rename(&self.folder, &other)?;
        self.folder = other;
        Ok(())
    }

    /// Its inode, by which the kernel half names it.
    pub(crate) fn id(&self) -> Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata(
            &self.folder,
        )?))
    }

    /// Moves a process into it.
    pub(crate) fn take(&self, pid: u32) -> Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Where the first hierarchy of v1 is mounted, if there is one.
pub(crate) fn hierarchy_of_v1() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut v1 = mounts.lines().filter(|line| line.contains(" - cgroup "));
    let place = v1.next().and_then(|line| line.split(' ').nth(4));
    Ok(place.map(PathBuf::from))
}

impl Drop for Group {
    fn drop(&mut self) {
        // Members are children of the act's own, dropped before; the dead may take a moment to leave.
        let removed = wait_until(PATIENCE, "an empty cgroup", || {
            fs::remove_dir(&self.folder).ok()
        });
        if removed.is_err() {
            eprintln!("{} is left behind", self.folder.display());
        }
    }
}
