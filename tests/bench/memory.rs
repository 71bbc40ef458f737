//! A service leaks over its ceiling: how long until it is dead and its memory is back.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use smart_monitor::host::{Opened as _, procfs};
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{ProcessKey, Time};
use smart_monitor::simulate::fault_client;

use crate::daemon::{Daemon, Folder};
use crate::report::{Report, Samples, progress};
use crate::service::{hold, now};

const MIB: u64 = 1024 * 1024;
const CEILING_MIB: u64 = 200;
/// How fast it leaks, MiB per second.
const RATE: u64 = 400;
/// Time between two looks at the service's memory.
const LOOK: Duration = Duration::from_millis(1);
/// Memory that is not back by then may well be someone else's.
const BACK_WITHIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// The host's free memory moves by itself; this much less than before counts as all of it.
const SLACK: u64 = 24 * MIB;

pub(crate) fn measure(binary: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    progress(&format!("memory: {rounds} leaks over a ceiling"));
    let folder = Folder::new()?;
    let listen: SocketAddr = ([127, 0, 0, 1], 19202).into();
    let mut daemon = Daemon::start(binary, &folder, &config(listen))?;
    daemon.wait_until_up(Duration::from_millis(20))?;

    let [mut seen, mut acted, mut dead, mut freed, mut overshoot_time] =
        std::array::from_fn(|_| Samples::default());
    let (mut overshoot, mut disturbed) = (0, 0);
    let mut last = 0;
    for round in 0..rounds {
        let process = daemon.healthy("target")?;
        let leak = leak(listen, process).with_context(|| format!("leak {round}"))?;
        let pressure = loop {
            last += 1;
            let incident = daemon.over(last)?;
            if incident.detector == "memory_pressure" {
                break incident;
            }
        };
        let first = |step| pressure.first(step).with_context(|| format!("no {step:?}"));
        let sample = first(StepKind::Seen)?;
        // On a busy machine the daemon may see it sooner than the bench.
        let sampled = Duration::from_nanos(u64::try_from(sample.nanos())?);
        let over = leak.over.map_or(sampled, |over| over.min(sampled));
        seen.add(sampled.saturating_sub(over));
        acted.add(first(StepKind::Acted)?.since(sample));
        let end = Time::from_nanos(i64::try_from(leak.dead.as_nanos())?);
        dead.add(end.since(sample));
        overshoot_time.add(leak.dead.saturating_sub(over));
        match leak.freed {
            Some(time) => freed.add(time.saturating_sub(over)),
            None => disturbed += 1,
        }
        overshoot = overshoot.max(leak.peak.saturating_sub(CEILING_MIB * MIB));
        // The service_down that the kill brought about.
        last += 1;
        daemon.over(last)?;
    }
    daemon.stop()?;

    report.section("A service leaks 400 MiB/s over its ceiling of 200 MiB");
    report.durations("over the ceiling (1 ms looks) -> sample", &seen, None);
    report.durations("sample -> kill sent", &acted, None);
    report.durations("sample -> victim dead", &dead, None);
    report.durations("over the ceiling -> victim dead", &overshoot_time, None);
    let goal = Some(Duration::from_millis(100));
    report.durations(
        "over the ceiling -> its memory available again",
        &freed,
        goal,
    );
    if disturbed > 0 {
        let why = "it was not back after 2 s; other processes may have taken it";
        report.missing(
            &format!("its memory, in {disturbed} of {rounds} rounds"),
            why,
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a size to read")]
    let mib = overshoot as f64 / MIB as f64;
    report.number("most that it was over", mib, "MiB", None);
    Ok(())
}

/// One leak, by the bench's own looks.
struct Leak {
    over: Option<Duration>,
    dead: Duration,
    /// None when others took the memory in the meantime.
    freed: Option<Duration>,
    peak: u64,
}

fn leak(listen: SocketAddr, process: ProcessKey) -> Result<Leak> {
    let held = hold(process.pid)?;
    let before = available()?;
    let settings = [("mib_per_s", RATE), ("max_mib", 1024)];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_string()));
    fault_client::inject(listen, "leak", &settings.into())?;
    let begin = Instant::now();
    let (mut over, mut peak) = (None, 0);
    // `wait` returns at the very end of the process, between two looks too.
    while !held.wait(LOOK)? {
        let resident = procfs::resident(process).unwrap_or(0);
        peak = peak.max(resident);
        if over.is_none() && resident > CEILING_MIB * MIB {
            over = Some(now());
        }
        if begin.elapsed() > PATIENCE {
            bail!("it lives on with {} MiB", resident / MIB);
        }
    }
    let dead = now();
    let begin = Instant::now();
    let mut back = true;
    while back && available()? + SLACK < before {
        std::thread::sleep(LOOK);
        back = begin.elapsed() < BACK_WITHIN;
    }
    Ok(Leak {
        over,
        dead,
        freed: back.then(now),
        peak,
    })
}

/// Memory that can be had at once: `MemAvailable`, and the free pages that each CPU keeps for itself, which since Linux 6.7 can be
/// hundreds of MiB for a second or two after a large process ended, and are in no count of `/proc/meminfo`.
fn available() -> Result<u64> {
    let (_, available) = procfs::memory().context("cannot read /proc/meminfo")?;
    let zones = std::fs::read_to_string("/proc/zoneinfo").context("cannot read /proc/zoneinfo")?;
    let kept = zones.lines().filter_map(|line| {
        line.trim_start()
            .strip_prefix("count:")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    Ok(available + kept.sum::<u64>() * procfs::page_size())
}

fn config(listen: SocketAddr) -> String {
    format!(
        r#"
[daemon]
http = ""

[policy]
backoff_initial = "0s"
backoff_max = "0s"
limit = 1000
limit_window = "100ms"
host_limit_per_hour = 1000000

[[service]]
name = "target"
kind = "command"
command = ["smart-monitor", "simulate", "--name", "target", "--listen", "{listen}"]
listen = ["{listen}"]
memory_max = "{CEILING_MIB}MiB"
[service.check]
http = "http://{listen}/health"
interval = "500ms"
timeout = "400ms"

[[remedy]]
detector = "memory_pressure"
on = ["target"]
action = "kill_process"
term_grace = "0s" # at once: the victim's manners are not what is measured

[[remedy]]
detector = "service_down"
on = ["target"]
action = "restart_service"
"#
    )
}
