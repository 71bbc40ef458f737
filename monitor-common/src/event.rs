//! The parts that every event begins with. Fixed width, no padding left to the compiler, sizes asserted.

/// Longest `comm` the kernel keeps, with its terminating NUL (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// First bytes of every record in a ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Header {
    /// Which event follows: a [`crate::Kind`] as a number.
    pub kind: u16,
    /// The CPU that emitted the record.
    pub cpu: u16,
    /// Bytes of the whole record, this header included.
    pub size: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds (`bpf_ktime_get_ns`).
    pub time_ns: u64,
}

impl Header {
    /// The header of a record of this type.
    pub const fn of<T: crate::probes::Record>(cpu: u16, time_ns: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "records are some 400 bytes long at most"
        )]
        let size = size_of::<T>() as u32;
        Self {
            kind: T::KIND.number(),
            cpu,
            size,
            time_ns,
        }
    }
}

/// Who an event is about. A PID alone is never an identity: it comes with the start time of its process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Task {
    /// Process id (the kernel's `tgid`), in the initial PID namespace.
    pub pid: u32,
    /// Thread id (the kernel's `pid`).
    pub tid: u32,
    /// Start of the process (its thread-group leader), nanoseconds of `CLOCK_BOOTTIME`. `/proc/PID/stat` shows the same
    /// instant in ticks of 10 ms.
    pub start_time_ns: u64,
    /// Id of the cgroup v2 the task is in; the inode number of its folder. 0 when unknown.
    pub cgroup_id: u64,
    /// Name, NUL-terminated.
    pub comm: [u8; COMM_LEN],
}

impl Task {
    /// The name up to its NUL; empty when it is not UTF-8.
    pub fn comm(&self) -> &str {
        let end = self
            .comm
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(COMM_LEN);
        let name = self.comm.get(..end).unwrap_or_default();
        core::str::from_utf8(name).unwrap_or_default()
    }
}

const _: () = assert!(size_of::<Header>() == 16 && align_of::<Header>() == 8);
const _: () = assert!(size_of::<Task>() == 40 && align_of::<Task>() == 8);
