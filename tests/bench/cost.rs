//! What the daemon costs while nothing happens, and how soon it observes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::daemon::{Daemon, Folder};
use crate::report::{Report, Samples, progress};
use crate::service::now;

/// Everything is the default, but for the port: someone's own daemon may run beside this one.
const DEFAULTS: &str = "[daemon]\nhttp = \"127.0.0.1:19200\"\n";
/// What starting costs is not idling.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn start(binary: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    progress(&format!("start: {rounds} starts of the daemon"));
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let folder = Folder::new()?;
        let begin = now();
        let mut daemon = Daemon::start(binary, &folder, DEFAULTS)?;
        daemon.wait_until_up(Duration::from_millis(1))?;
        samples.add(now().saturating_sub(begin));
        daemon.stop()?;
    }
    report.section("Start");
    let goal = Some(Duration::from_secs(1));
    report.durations(
        "exec of the daemon -> it observes (GET /health is 200)",
        &samples,
        goal,
    );
    Ok(())
}

pub(crate) fn idle(binary: &Path, seconds: u64, report: &mut Report) -> Result<()> {
    let seconds = seconds.max(1);
    progress(&format!("idle: {seconds} s with the default configuration"));
    let folder = Folder::new()?;
    let mut daemon = Daemon::start(binary, &folder, DEFAULTS)?;
    daemon.wait_until_up(Duration::from_millis(20))?;
    std::thread::sleep(SETTLE);
    let before = Usage::of(&daemon)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let after = Usage::of(&daemon)?;
    let resident = status_kib(daemon.pid(), "VmRSS:").context("no VmRSS")?;
    let anonymous = status_kib(daemon.pid(), "RssAnon:").unwrap_or(0.0);
    daemon.stop()?;

    let (own, programs) = percent_between(&before, &after);
    report.section(&format!("Idle for {seconds} s, default configuration"));
    report.number("CPU of the daemon", own, "% of a core", None);
    match programs {
        Some(programs) => {
            report.number("CPU of its kernel programs", programs, "% of a core", None);
            report.number("CPU in all", own + programs, "% of a core", Some(0.5));
        }
        None => report.missing(
            "CPU of its kernel programs",
            "the kernel does not count it (kernel.bpf_stats_enabled is off, and the daemon did not turn it on)",
        ),
    }
    report.number("resident memory", resident / 1024.0, "MiB", Some(40.0));
    report.number(
        "of it not shared with files",
        anonymous / 1024.0,
        "MiB",
        None,
    );
    Ok(())
}

/// CPU of the daemon and of its kernel programs, per cent of a core.
pub(crate) fn percent_between(before: &Usage, after: &Usage) -> (f64, Option<f64>) {
    let percent = |spent: f64| spent / after.elapsed_since(before) * 100.0;
    let programs = after.programs.zip(before.programs);
    (
        percent(after.cpu.saturating_sub(before.cpu).as_secs_f64()),
        programs.map(|(after, before)| percent(after - before)),
    )
}

pub(crate) struct Usage {
    at: Duration,
    /// CPU time of all threads.
    cpu: Duration,
    /// Run time of the kernel programs, seconds.
    programs: Option<f64>,
}

impl Usage {
    /// Seconds since then.
    pub(crate) fn elapsed_since(&self, before: &Self) -> f64 {
        self.at.saturating_sub(before.at).as_secs_f64()
    }

    pub(crate) fn of(daemon: &Daemon) -> Result<Self> {
        let programs = daemon.status()?.own.bpf_seconds;
        Ok(Self {
            at: now(),
            cpu: cpu(daemon.pid()).context("cannot read the daemon's CPU time")?,
            programs,
        })
    }
}

/// CPU time of all threads of a process, in nanoseconds: `/proc/PID/stat` counts in steps of 10 ms.
fn cpu(pid: u32) -> Option<Duration> {
    let mut spent = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        spent += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(spent))
}

pub(crate) fn status_kib(pid: u32, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
