//! The process table, read through the task iterator.
//!
//! Owns its own handle on the iterator program, so that it can be read by another thread than the one that owns the
//! [`super::Kernel`]. Emits a record for each thread, in no order. One read is one opening of the iterator; its buffer is reused.
//! Needs 5.8. Leaves out adding the threads of a process up.

use std::io::Read;

use aya::programs::Iter;
use monitor_common::probes::ReadRecord;
use monitor_common::probes::task_snapshot::TaskSnapshot;

use super::ring::Bytes;

/// The kernel hands out 32 KiB at a time at most.
const PIECE: usize = 32 << 10;

/// Most threads that are read: 32 MiB of records.
pub const MAX_THREADS: usize = 1 << 18;

/// Reads the process table.
pub struct Snapshot {
    program: Iter,
    buffer: Box<[u8]>,
    truncated: bool,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) fn new(program: Iter) -> Self {
        Self {
            program,
            buffer: vec![0; PIECE].into_boxed_slice(),
            truncated: false,
        }
    }

    /// A reader of its own for another thread.
    pub fn another(&self) -> std::io::Result<Self> {
        let info = self.program.info().map_err(std::io::Error::other)?;
        let program = Iter::from_program_info(info, "task_snapshot".into());
        Ok(Self::new(program.map_err(std::io::Error::other)?))
    }

    /// Replaces the contents of `into` by a record for each thread on the host. `header.time_ns` of all is the instant at
    /// which the walk began.
    pub fn read(&mut self, into: &mut Vec<TaskSnapshot>) -> std::io::Result<()> {
        into.clear();
        self.truncated = false;
        let time_ns = monotonic_ns();
        let mut file = self.open()?;
        let mut held = 0;
        loop {
            let room = self.buffer.get_mut(held..).unwrap_or_default();
            let length = held + file.read(room)?;
            let filled = self.buffer.get(..length).unwrap_or_default();
            if length == held {
                break;
            }
            let records = filled.chunks_exact(size_of::<TaskSnapshot>());
            let rest = records.remainder().len();
            for record in records {
                let Some(mut task) = Bytes(record).read::<TaskSnapshot>() else {
                    continue;
                };
                task.header.time_ns = time_ns;
                into.push(task);
            }
            if into.len() >= MAX_THREADS {
                self.truncated = true;
                break;
            }
            self.buffer.copy_within(length - rest..length, 0);
            held = rest;
        }
        Ok(())
    }

    /// Whether the last read left threads out, because there are more than [`MAX_THREADS`].
    pub const fn truncated(&self) -> bool {
        self.truncated
    }

    fn open(&mut self) -> std::io::Result<std::fs::File> {
        let link = self.program.attach().map_err(std::io::Error::other)?;
        let link = self
            .program
            .take_link(link)
            .map_err(std::io::Error::other)?;
        link.into_file().map_err(std::io::Error::other)
    }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    u64::try_from(nanoseconds).unwrap_or_default()
}
