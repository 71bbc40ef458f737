//! `/proc/meminfo`, kept open and read into a fixed buffer: no path is walked and nothing is allocated in between. And what a process
//! shares with others, by `/proc/PID/smaps_rollup` (since Linux 4.14).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::procfs;
use crate::model::{MemoryShare, ProcessKey};

/// Memory of the host, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`.
    pub available: u64,
    /// `SwapTotal`; 0 where there is none.
    pub swap_total: u64,
    /// `SwapFree`.
    pub swap_free: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Meminfo(File);

impl Meminfo {
    /// Opens it.
    pub fn open() -> std::io::Result<Self> {
        File::open("/proc/meminfo").map(Self)
    }

    /// Reads it as it is now; none when it has not the fields that it has since Linux 3.14.
    pub fn read(&self) -> Option<Reading> {
        let mut buffer = [0_u8; 4096];
        let length = self.0.read_at(&mut buffer, 0).ok()?;
        parse(std::str::from_utf8(buffer.get(..length)?).ok()?)
    }
}

fn parse(text: &str) -> Option<Reading> {
    Some(Reading {
        total: field(text, "MemTotal:")?,
        available: field(text, "MemAvailable:")?,
        swap_total: field(text, "SwapTotal:").unwrap_or(0),
        swap_free: field(text, "SwapFree:").unwrap_or(0),
    })
}

/// The value of the line that begins so, bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix("kB")?.trim();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// What of this very process's memory is shared. Walks its page tables: some 10 ms a GiB, so never on the way to an act. None when it
/// is another process by now, or may not be looked at.
pub fn share(process: ProcessKey) -> Option<MemoryShare> {
    let mut file = File::open(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
    // The open file stays with the process that it was opened for.
    procfs::stat(process.pid).filter(|stat| stat.key == process)?;
    let mut buffer = [0_u8; 4096];
    let mut length = 0;
    loop {
        let read = file.read(buffer.get_mut(length..)?).ok()?;
        length += read;
        if read == 0 || length == buffer.len() {
            break;
        }
    }
    parse_share(process, std::str::from_utf8(buffer.get(..length)?).ok()?)
}

fn parse_share(process: ProcessKey, text: &str) -> Option<MemoryShare> {
    let swap = field(text, "SwapPss:").unwrap_or(0);
    let alone = field(text, "Private_Dirty:")?.saturating_add(swap);
    // By kind since Linux 5.4.
    let parts = field(text, "Pss_Anon:").zip(field(text, "Pss_Shmem:"));
    let together = parts.map_or(alone, |(anon, shmem)| {
        anon.saturating_add(shmem).saturating_add(swap)
    });
    Some(MemoryShare {
        process,
        alone,
        together: together.max(alone),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_this_host_reads() {
        let file = Meminfo::open().expect("it is there");
        let reading = file.read().expect("it reads");
        assert!(reading.available > 0 && reading.available <= reading.total);
        assert_eq!(file.read().map(|again| again.total), Some(reading.total));
    }

    #[test]
    fn a_host_without_swap_has_none_and_an_old_kernel_no_reading() {
        let text = "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable: 20 kB\n";
        let reading = parse(text).expect("it reads");
        assert_eq!((reading.available, reading.swap_total), (20 << 10, 0));
        assert_eq!(parse("MemTotal: 1000 kB\nMemFree: 10 kB\n"), None);
    }

    #[test]
    fn what_a_worker_shares_does_not_come_back_with_it_alone() {
        let process = ProcessKey {
            pid: 1,
            start_ticks: 1,
        };
        let text = "Rss: 900 kB\nPss_Anon: 60 kB\nPss_File: 10 kB\nPss_Shmem: 100 kB\nPrivate_Dirty: 8 kB\nSwap: 9 kB\nSwapPss: 3 kB\n";
        let share = parse_share(process, text).expect("it reads");
        assert_eq!((share.alone, share.together), (11 << 10, 163 << 10));
        let old = "Rss: 900 kB\nPrivate_Dirty: 8 kB\n";
        let share = parse_share(process, old).expect("it reads");
        assert_eq!((share.alone, share.together), (8 << 10, 8 << 10));
    }

    #[test]
    fn this_very_process_has_a_share_and_another_with_its_number_has_none() {
        let stat = procfs::stat(std::process::id()).expect("it runs");
        let share = share(stat.key).expect("a process may look at itself");
        assert!(share.alone > 0 && share.together >= share.alone);
        let other = ProcessKey {
            start_ticks: stat.key.start_ticks + 1,
            ..stat.key
        };
        assert_eq!(super::share(other), None);
    }
}
