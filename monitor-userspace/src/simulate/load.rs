//! Threads that burn CPU or take memory until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const MIB: usize = 1024 * 1024;
/// A leak stops where it would leave the host less than this, whatever its bound: it must not push others out.
const KEEP_FREE_MIB: u64 = 256;

/// The load of a service. Dropping it does not end it; [`Load::stop`] does.
#[derive(Debug, Default)]
pub(super) struct Load {
    stops: Vec<Arc<AtomicBool>>,
}

impl Load {
    /// Takes memory at this rate up to this much, touching every page, and keeps it until it is told to stop.
    pub(super) fn leak(&mut self, mib_per_s: u64, max_mib: u64) -> std::io::Result<()> {
        let stop = self.add();
        thread::Builder::new()
            .name("leak".into())
            .spawn(move || leak(&stop, mib_per_s, max_mib))?;
        Ok(())
    }

    /// Burns CPU on so many threads.
    pub(super) fn spin(&mut self, threads: usize) -> std::io::Result<()> {
        let stop = self.add();
        for _ in 0..threads {
            let stop = Arc::clone(&stop);
            thread::Builder::new().name("spin".into()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })?;
        }
        Ok(())
    }

    /// Ends all of it and gives the memory back.
    pub(super) fn stop(&mut self) {
        for stop in self.stops.drain(..) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    fn add(&mut self) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(false));
        self.stops.push(Arc::clone(&stop));
        stop
    }
}

fn leak(stop: &AtomicBool, mib_per_s: u64, max_mib: u64) {
    let pause = Duration::from_secs(1) / u32::try_from(mib_per_s.max(1)).unwrap_or(u32::MAX);
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let full = u64::try_from(taken.len()).unwrap_or(u64::MAX) >= max_mib;
        // Looked up for every 16 MiB: reading it costs as much as touching one.
        if full || (taken.len().is_multiple_of(16) && host_is_short()) {
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        // Not zeros: those would be pages that the kernel never has to hand out.
        taken.push(vec![1; MIB]);
        thread::sleep(pause);
    }
}

/// Whether the host has too little memory left for a leak to go on; so too where that cannot be read.
fn host_is_short() -> bool {
    let available = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| kib_of(&text, "MemAvailable:"));
    available.is_none_or(|kib| kib / 1024 < KEEP_FREE_MIB)
}

/// The value of a line such as `MemAvailable:   123 kB`.
pub(super) fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::kib_of;

    #[test]
    fn a_line_of_kib_is_read() {
        let text = "MemTotal:  24684000 kB\nMemAvailable:     123 kB\n";
        assert_eq!(kib_of(text, "MemAvailable:"), Some(123));
        assert_eq!(kib_of(text, "SwapFree:"), None);
    }
}
