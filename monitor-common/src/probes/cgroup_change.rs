//! A cgroup was made, renamed or removed: how ids get names, also those of cgroups that are gone before anybody looks.

use crate::event::{Header, Task};
use crate::offsets::{self, CURRENT};
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "cgroup_change",
    summary: "a cgroup was made, renamed or removed: which id has which path",
    mode: Mode::Optional,
    programs: &[
        ProgramSpec {
            name: "cgroup_made",
            attach: Attach::tracepoint("cgroup_mkdir"),
        },
        ProgramSpec {
            name: "cgroup_renamed",
            attach: Attach::tracepoint("cgroup_rename"),
        },
        ProgramSpec {
            name: "cgroup_removed",
            attach: Attach::tracepoint("cgroup_rmdir"),
        },
    ],
    offsets: &[
        CURRENT,
        &[
            offsets::CGROUP_NODE,
            offsets::NODE_ID,
            offsets::CGROUP_ROOT,
            offsets::CGROUP_ROOT_HIERARCHY,
        ],
    ],
    optional: &[],
};

/// Bytes of a path that an event holds; a Kubernetes path has some 230.
pub const PATH_LEN: usize = 256;

/// [`CgroupChange::change`]: made.
pub const MADE: u32 = 1;
/// [`CgroupChange::change`]: has another path.
pub const RENAMED: u32 = 2;
/// [`CgroupChange::change`]: removed.
pub const REMOVED: u32 = 3;

/// Emitted in the context of who did it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CgroupChange {
    /// First bytes of every record.
    pub header: Header,
    /// Who did it.
    pub task: Task,
    /// Id of the cgroup.
    pub cgroup_id: u64,
    /// `MADE`, `RENAMED` or `REMOVED`.
    pub change: u32,
    /// Number of the hierarchy; 0 is cgroup v2.
    pub hierarchy: u32,
    /// Bytes of `path` that count; [`PATH_LEN`] when it was longer.
    pub path_len: u32,
    /// Always 0.
    pub padding: u32,
    /// Path from the root of the hierarchy.
    #[cfg_attr(feature = "serde", serde(with = "crate::bytes"))]
    pub path: [u8; PATH_LEN],
}

impl CgroupChange {
    /// The path; none when it did not fit.
    pub fn path(&self) -> Option<&[u8]> {
        let length = usize::try_from(self.path_len).ok()?;
        (length < PATH_LEN).then(|| self.path.get(..length))?
    }
}

const _: () = assert!(size_of::<CgroupChange>() == 336);
