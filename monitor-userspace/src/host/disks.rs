//! What `/sys` says of disks.

use std::fs;

/// A disk, by its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name below `/dev`.
    pub name: String,
    /// Requests that its driver has.
    pub in_flight: u64,
}

/// The disk with these numbers; none when it is gone.
pub fn disk(major: u32, minor: u32) -> Option<Disk> {
    let folder = format!("/sys/dev/block/{major}:{minor}");
    let event = fs::read_to_string(format!("{folder}/uevent")).ok()?;
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    // Reads and writes; 0 where the kernel does not count them.
    let in_flight = fs::read_to_string(format!("{folder}/inflight")).unwrap_or_default();
    let counts = in_flight.split_ascii_whitespace();
    Some(Disk {
        name: name?.to_owned(),
        in_flight: counts.filter_map(|count| count.parse::<u64>().ok()).sum(),
    })
}
