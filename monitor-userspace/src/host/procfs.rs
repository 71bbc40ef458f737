//! Reads of `/proc` that are needed often and must be cheap. Everything here is bounded by one small file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::HostError;
use crate::model::ProcessKey;

/// A line of `/proc/PID/stat`, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its name.
    pub comm: String,
    /// `R`, `S`, `D`, `Z`, ...
    pub state: char,
    /// Parent's process id.
    pub parent: u32,
    /// Process id of the one that leads its group.
    pub group: u32,
    /// It has begun to end: what is sent to it changes nothing any more.
    pub exiting: bool,
    /// CPU time, user and system, in ticks of 10 ms.
    pub cpu_ticks: u64,
    /// When it started.
    pub key: ProcessKey,
    /// Resident memory, pages.
    pub resident_pages: u64,
}

/// Reads `/proc/PID/stat`; none when there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    let mut buffer = [0_u8; 1024];
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let length = file.read(&mut buffer).ok()?;
    parse_stat(pid, std::str::from_utf8(buffer.get(..length)?).ok()?)
}

/// `PF_EXITING` of the kernel's `include/linux/sched.h`.
const PF_EXITING: u64 = 4;

/// The name stands in parentheses and may hold anything, closing ones included.
fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let comm = text.get(open + 1..close)?.to_owned();
    let mut fields = text.get(close + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Field 3 is the state; 5 the group, 9 the flags, 14 and 15 the CPU times, 22 the start, 24 the resident pages (proc(5)).
    let flags: u64 = fields.nth(3)?.parse().ok()?;
    let user: u64 = fields.nth(4)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(6)?.parse().ok()?;
    let resident_pages = fields.nth(1)?.parse().ok()?;
    let key = ProcessKey { pid, start_ticks };
    let exiting = flags & PF_EXITING != 0 || state == 'Z';
    let cpu_ticks = user.saturating_add(system);
    Some(Stat {
        comm,
        state,
        parent,
        group,
        exiting,
        cpu_ticks,
        key,
        resident_pages,
    })
}

/// Whether this very process is there and not yet a zombie.
pub fn runs(process: ProcessKey) -> bool {
    stat(process.pid).is_some_and(|stat| stat.key == process && stat.state != 'Z')
}

/// Resident memory of this very process, bytes; an error when it is another one by now.
pub fn resident(process: ProcessKey) -> Result<u64, HostError> {
    let stat = stat(process.pid).ok_or(HostError::Gone(process))?;
    if stat.key != process {
        return Err(HostError::Reused(process));
    }
    Ok(stat.resident_pages.saturating_mul(page_size()))
}

/// The user that a process runs as. Not the owner of its folder in `/proc`, which is root for a process that hides its memory.
pub fn real_uid(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether this is the number of a process, and not of one of its threads.
pub fn is_process(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let leader = text.lines().find_map(|line| line.strip_prefix("Tgid:"));
    leader.and_then(|leader| leader.trim().parse().ok()) == Some(pid)
}

/// Which boot of the machine this is.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Bytes in a page.
pub fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// `MemTotal` and `MemAvailable`, bytes.
pub fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    };
    Some((field("MemTotal:")?, field("MemAvailable:")?))
}

/// `avg10` of `some` and of `full` in `/proc/pressure/memory`, hundredths of a per cent.
pub fn memory_pressure() -> Option<(u32, u32)> {
    parse_pressure(&std::fs::read_to_string("/proc/pressure/memory").ok()?)
}

/// The same of an open pressure file, a cgroup's; an error when the cgroup is gone.
pub fn pressure(file: &File) -> std::io::Result<(u32, u32)> {
    let mut buffer = [0_u8; 512];
    let length = file.read_at(&mut buffer, 0)?;
    let text = buffer.get(..length).unwrap_or_default();
    std::str::from_utf8(text)
        .ok()
        .and_then(parse_pressure)
        .ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn parse_pressure(text: &str) -> Option<(u32, u32)> {
    Some((avg10(text, "some ")?, avg10(text, "full ")?))
}

/// `avg10` of the line that begins with `kind`, hundredths of a per cent. Before 5.13, `/proc/pressure/cpu` has no line `full`.
pub fn avg10(text: &str, kind: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    hundredths(line.split_once("avg10=")?.1.split(' ').next()?)
}

/// The load average of one minute in a text of `/proc/loadavg`, hundredths.
pub fn load1(text: &str) -> Option<u32> {
    hundredths(text.split(' ').next()?)
}

/// How many CPUs a list such as `0-3,5` names (`/sys/devices/system/cpu/online`).
pub fn count_cpus(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for range in list.trim().split(',') {
        let ends = range.split_once('-').unwrap_or((range, range));
        let (from, to): (u32, u32) = (ends.0.parse().ok()?, ends.1.parse().ok()?);
        let cpus = to.checked_sub(from)?.checked_add(1)?;
        count = count.checked_add(cpus)?;
    }
    Some(count)
}

/// A number with two decimals, as the kernel writes it.
fn hundredths(number: &str) -> Option<u32> {
    let (whole, part) = number.split_once('.')?;
    whole
        .parse::<u32>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part.parse().ok()?)
}

/// The daemon and everything above it, up to PID 1: never acted upon.
pub fn own_line() -> Vec<u32> {
    let mut line = vec![std::process::id()];
    while let Some(stat) = line.last().and_then(|pid| stat(*pid)) {
        // A parent cannot repeat; the bound is for a /proc that says otherwise.
        if stat.parent == 0 || line.len() > 64 {
            break;
        }
        line.push(stat.parent);
    }
    line
}

/// Every process of the host, from `/proc`.
pub fn processes() -> std::io::Result<Vec<Stat>> {
    let pids = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter_map(stat).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 987654 1000000 345 18446744073709551615";
        let stat = parse_stat(42, line).expect("it reads");
        assert_eq!(
            (stat.comm.as_str(), stat.state, stat.parent),
            ("a) b (c", 'S', 7)
        );
        assert_eq!(stat.group, 42);
        assert_eq!(
            (stat.cpu_ticks, stat.resident_pages, stat.exiting),
            (33, 345, false)
        );
        assert_eq!(
            stat.key,
            ProcessKey {
                pid: 42,
                start_ticks: 987_654
            }
        );
        assert_eq!(parse_stat(42, "42 (short) S 7"), None);
        assert_eq!(parse_stat(42, ")("), None);
    }

    #[test]
    fn pressure_reads_in_hundredths() {
        let text = "some avg10=12.34 avg60=0.00 avg300=0.00 total=5\nfull avg10=1.05 avg60=0.00 avg300=0.00 total=2\n";
        assert_eq!(parse_pressure(text), Some((1234, 105)));
        assert_eq!(parse_pressure("nothing"), None);
        let old = "some avg10=100.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(avg10(old, "some "), Some(10_000));
        assert_eq!(avg10(old, "full "), None);
    }

    #[test]
    fn load_and_cpus_read() {
        assert_eq!(load1("12.05 0.45 0.40 2/345 6789\n"), Some(1205));
        assert_eq!(load1("4294967295.99 0 0"), None);
        assert_eq!(load1(""), None);
        let cases = [("0\n", Some(1)), ("0-3,5,8-9\n", Some(7)), ("", None)];
        for (list, cpus) in cases {
            assert_eq!(count_cpus(list), cpus, "{list}");
        }
        assert_eq!(count_cpus("3-0"), None);
        assert_eq!(count_cpus("0-4294967295"), None);
    }

    #[test]
    fn we_are_there_and_know_our_line() {
        let own = stat(std::process::id()).expect("we run");
        assert!(runs(own.key) && resident(own.key).is_ok_and(|bytes| bytes > 0));
        let other = ProcessKey {
            start_ticks: own.key.start_ticks + 1,
            ..own.key
        };
        assert!(!runs(other) && matches!(resident(other), Err(HostError::Reused(_))));
        assert!(own_line().contains(&std::process::id()));
    }
}
