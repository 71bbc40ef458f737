//! A disk was slow, or failed.
//!
//! Every request goes into histograms of its disk, in the kernel: how long the disk took for it, and how long it was held back
//! before. Only slow and failed ones become events. A request is stamped when it is given to its driver, since the kernel's own
//! stamp of that is there for some queues only; a table that a request's address leads into holds the stamp and whose it is, so
//! that no look-up is needed. Disks without requests of their own (device mapper, RAID, RAM disks) are not seen, those below them are.

use crate::event::{Header, Task};
use crate::offsets::{self, CGROUP};
use crate::probes::run_queue_latency::HISTOGRAM;
use crate::spec::{Attach, Mode, ProbeSpec, ProgramSpec};

/// What the loader must know.
pub const SPEC: ProbeSpec = ProbeSpec {
    name: "block_io",
    summary: "how long disks take: histograms of all requests by disk and operation, an event for each that is slow or fails",
    mode: Mode::Optional,
    // What ends is attached first: a beginning that is seen must not end unseen.
    programs: &[
        ProgramSpec {
            name: "block_complete",
            attach: Attach::tracepoint("block_rq_complete"),
        },
        ProgramSpec {
            name: "block_requeue",
            attach: Attach::tracepoint("block_rq_requeue"),
        },
        ProgramSpec {
            name: "block_insert",
            attach: Attach::tracepoint("block_rq_insert"),
        },
        ProgramSpec {
            name: "block_issue",
            attach: Attach::tracepoint("block_rq_issue"),
        },
    ],
    // The disk itself is found through the queue or, before 5.15, through the request: every kernel has one of the two.
    offsets: &[&[
        offsets::TASK_PID,
        offsets::TASK_TGID,
        offsets::TASK_COMM,
        offsets::TASK_LEADER,
        offsets::TASK_START,
        offsets::REQUEST_QUEUE,
        offsets::REQUEST_FLAGS,
        offsets::REQUEST_BYTES,
        offsets::REQUEST_SECTOR,
        offsets::REQUEST_START,
        offsets::DISK_MAJOR,
        offsets::DISK_MINOR,
        offsets::DISK_NAME,
    ]],
    optional: &[
        CGROUP,
        &[
            offsets::REQUEST_BIO,
            offsets::BIO_GROUP,
            offsets::GROUP_BLKCG,
            offsets::BLKCG_CGROUP,
        ],
    ],
};

/// Bytes of a disk's name (`DISK_NAME_LEN`).
pub const DISK_LEN: usize = 32;
/// [`BlockIo::queued_ns`] and [`BlockIo::device_ns`] when they are not known.
pub const UNKNOWN: u64 = u64::MAX;
/// Slow or failed requests of one disk that one CPU may tell in a second; more are counted as suppressed.
pub const SLOW_PER_SECOND: u64 = 50;
/// Failed requests that one CPU may tell at once in a second; more are told among the slow ones.
pub const URGENT_PER_SECOND: u64 = 20;

/// A request that took at least as long as the threshold, or failed. Emitted when it is done.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockIo {
    /// First bytes of every record.
    pub header: Header,
    /// The task that made the request; for what is written back later, the kernel's thread that does so. All 0 but `tid` when that
    /// task is gone, all 0 when nobody knows.
    pub task: Task,
    /// Where on the disk, in units of 512 bytes.
    pub sector: u64,
    /// Nanoseconds from being given to the driver to its end; [`UNKNOWN`] when its beginning was not seen.
    pub device_ns: u64,
    /// Nanoseconds from being made to being given to the driver; [`UNKNOWN`] when the disk's queue keeps no times (`iostats` is off).
    pub queued_ns: u64,
    /// Id of the cgroup v2 that it is charged to, also where a kernel thread made it; 0 when unknown.
    pub charged_cgroup_id: u64,
    /// Bytes of it that ended just now.
    pub bytes: u32,
    /// As the kernel has it: 0, a `blk_status_t`, or (before 5.16) a negative errno. See [`BlockIo::error`].
    pub status: i32,
    /// Major number of the disk.
    pub major: u32,
    /// Minor number of the disk.
    pub minor: u32,
    /// [`Operation`] as a number.
    pub operation: u32,
    /// Always 0.
    pub padding: u32,
    /// The disk's name.
    pub disk: [u8; DISK_LEN],
}

impl BlockIo {
    /// Its error as an errno; 0 when it did not fail.
    pub const fn error(&self) -> u32 {
        errno(self.status)
    }

    /// The disk's name up to its NUL; empty when it is not UTF-8.
    pub fn disk(&self) -> &str {
        let end = self.disk.iter().position(|byte| *byte == 0);
        let name = self.disk.get(..end.unwrap_or(DISK_LEN)).unwrap_or_default();
        core::str::from_utf8(name).unwrap_or_default()
    }

    /// The longer of its two times that are known.
    pub fn longest_ns(&self) -> u64 {
        let known = |time: u64| if time == UNKNOWN { 0 } else { time };
        known(self.device_ns).max(known(self.queued_ns))
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Operation {
    /// Reads.
    Read = 0,
    /// Writes.
    Write = 1,
    /// Has the disk write its cache, as `fsync` asks.
    Flush = 2,
    /// Anything else: discards, zeroes, erases, resets zones, asks the device itself.
    Other = 3,
}

/// Bits of a request's flags that are its operation (`REQ_OP_MASK`).
const OPERATION: u32 = 0xff;
/// The first of the operations that no file system makes (`REQ_OP_SCSI_IN`, later `REQ_OP_DRV_IN`): a failure of one of them tells
/// nothing of data.
const PASSTHROUGH: u32 = 32;

impl Operation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Operation; 4] = [Self::Read, Self::Write, Self::Flush, Self::Other];

    /// Of these flags of a request. Zone appends are writes (`REQ_OP_ZONE_APPEND`; before 5.18 the number was `REQ_OP_WRITE_SAME`).
    #[inline]
    pub const fn of(flags: u32) -> Operation {
        match flags & OPERATION {
            0 => Self::Read,
            1 | 7 => Self::Write,
            2 => Self::Flush,
            _ => Self::Other,
        }
    }

    /// With this number.
    pub const fn from_number(number: u32) -> Option<Operation> {
        match number {
            0 => Some(Self::Read),
            1 => Some(Self::Write),
            2 => Some(Self::Flush),
            3 => Some(Self::Other),
            _ => None,
        }
    }

    /// Its name, a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Other => "other",
        }
    }
}

/// Whether a request with these flags that ended so means trouble: not when the device cannot do what was asked, when whoever asked
/// did not want to wait, or when it was no file system that asked.
#[inline]
pub const fn is_failure(status: i32, flags: u32) -> bool {
    let harmless = matches!(status, 0 | NOT_SUPPORTED | AGAIN | -95 | -11);
    !harmless && flags & OPERATION < PASSTHROUGH
}

/// `BLK_STS_NOTSUPP`
const NOT_SUPPORTED: i32 = 1;
/// `BLK_STS_AGAIN`
const AGAIN: i32 = 12;

/// What the kernel makes of its status (`blk_errors` in block/blk-core.c). From 14 on the numbers differ between kernels: those
/// count as an I/O error, as unknown ones do there.
pub const fn errno(status: i32) -> u32 {
    match status {
        ..0 => status.unsigned_abs(),
        0 => 0,
        1 => 95,
        2 => 110,
        3 => 28,
        4 => 67,
        5 => 121,
        6 => 52,
        7 => 61,
        8 => 84,
        9 => 12,
        11 => 78,
        12 => 11,
        13 => 16,
        _ => 5,
    }
}

/// Most disks with figures of their own.
pub const DISKS: u32 = 64;

/// What one CPU has counted of one disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFigures {
    /// Nanoseconds in `device`, by operation. What nearly every request adds to comes first.
    pub device_ns: [u64; 4],
    /// Bytes, by operation.
    pub bytes: [u64; 4],
    /// Nanoseconds in `queued`.
    pub queued_ns: u64,
    /// How long requests were held back: a histogram with the buckets of `run_queue_latency`.
    pub queued: [u64; HISTOGRAM],
    /// How long the disk took, by operation: a histogram of [`HISTOGRAM`] words each.
    pub device: [u64; 4 * HISTOGRAM],
    /// Failures, by operation.
    pub errors: [u64; 4],
    /// Requests whose beginning was not seen: under way when the programs were attached, or displaced from the table.
    pub untimed: u64,
    /// Requests for which the queue keeps no times: missing in `queued`.
    pub unqueued: u64,
    /// The second in which slow requests are being told, and how many were.
    pub told_since_ns: u64,
    /// See `told_since_ns`.
    pub told: u64,
    /// Of no meaning to userspace.
    pub scratch: u64,
}

/// Words of 8 bytes in [`DiskFigures`].
pub const FIGURES_WORDS: usize = size_of::<DiskFigures>() / 8;

/// A request that is on its way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// Address of the request; 0 for none.
    pub request: u64,
    /// When it was given to its driver; while `device` is 0, when it was made, which tells its life from others at this address.
    pub since_ns: u64,
    /// Address of the task that made it.
    pub task: u64,
    /// Thread id of that task.
    pub tid: u32,
    /// Number of the disk whose driver has it (see [`device`]); 0 while none has.
    pub device: u32,
}

/// Places in the table of requests: pairs, a power of two, so that a mask keeps an index in bounds. With 256 requests under way,
/// two others are in the pair of a third one in 1 case of 140.
pub const PAIRS: usize = 2_048;

/// Which pair a request is in. Requests lie in arrays, at distances of some hundred bytes.
#[inline]
pub const fn pair(address: u64) -> usize {
    (((address >> 6).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 53) as usize & (PAIRS - 1)
}

/// A disk's number, as the kernel's `dev_t` has it.
#[inline]
pub const fn device(major: u32, minor: u32) -> u32 {
    major << 20 | minor & 0xf_ffff
}

/// Major and minor number of a disk.
pub const fn major_minor(device: u32) -> (u32, u32) {
    (device >> 20, device & 0xf_ffff)
}

const _: () = assert!(size_of::<BlockIo>() == 144);
const _: () = assert!(size_of::<Issued>() == 32);
const _: () = assert!(size_of::<DiskFigures>() == 178 * 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_the_kernels() {
        // REQ_OP_READ, REQ_OP_WRITE, REQ_OP_FLUSH, REQ_OP_DISCARD, REQ_OP_WRITE_ZEROES, REQ_OP_DRV_IN, with other flags beside.
        let of = |number: u32| Operation::of(number | 0x8_8800);
        assert_eq!(
            [0, 1, 2, 3, 9, 34].map(of),
            [
                Operation::Read,
                Operation::Write,
                Operation::Flush,
                Operation::Other,
                Operation::Other,
                Operation::Other
            ]
        );
        for operation in Operation::ALL {
            assert_eq!(Operation::from_number(operation as u32), Some(operation));
        }
        assert_eq!(Operation::from_number(4), None);
    }

    #[test]
    fn errors_of_old_and_new_kernels_are_the_same() {
        assert_eq!((errno(10), errno(-5)), (5, 5));
        assert_eq!((errno(7), errno(-61)), (61, 61));
        assert_eq!((errno(0), errno(19), errno(i32::MIN)), (0, 5, 1 << 31));
    }

    #[test]
    fn what_cannot_be_done_is_no_failure() {
        assert!(is_failure(10, 0) && is_failure(-5, 1));
        assert!(!is_failure(0, 0), "it did not fail");
        assert!(!is_failure(1, 3) && !is_failure(-95, 3), "no discards");
        assert!(!is_failure(12, 0) && !is_failure(-11, 0), "REQ_NOWAIT");
        assert!(!is_failure(10, 34), "a question to the drive");
    }

    #[test]
    fn numbers_of_disks_come_apart_again() {
        for (major, minor) in [(7, 3), (8, 16), (259, 0xf_ffff)] {
            assert_eq!(major_minor(device(major, minor)), (major, minor));
        }
    }

    #[test]
    fn requests_that_lie_side_by_side_share_few_pairs() {
        for stride in [384, 448, 512, 768] {
            let mut taken = [0_u8; PAIRS];
            for number in 0..256 {
                let pair = pair(0xffff_8881_0300_0000 + number * stride);
                taken[pair] += 1;
            }
            let crowded = taken.iter().filter(|count| **count > 2).count();
            assert!(crowded <= 4, "{crowded} pairs of distance {stride}");
        }
    }
}
