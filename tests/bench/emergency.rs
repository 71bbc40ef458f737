//! A program that takes memory at full speed: how soon after the crossing of a level it is killed, by us and by other memory killers,
//! all with the same level in the same run.
//!
//! Nobody says by himself when he acted. Every half millisecond `/proc/meminfo` is read for the crossing, and the hog's state for a SIGKILL
//! that is pending or at work; the hog writes down how much it has every 256 KiB, which gives what it took in between. The hog has a
//! name of its own, a limit of its own, and is the only one that any of the killers may touch.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use smart_monitor::host::meminfo::Meminfo;
use smart_monitor::host::{Opened as _, own, procfs};
use smart_monitor::model::Incident;
use smart_monitor::model::incident::StepKind;

use crate::daemon::{Daemon, Folder, program};
use crate::peers::unpack;
use crate::report::{Goal, Report, Samples, Values, progress};
use crate::service::{hold, now};

const MIB: u64 = 1 << 20;
const HOG: &str = "zz-bench-hog";
/// How much less than what is available now the level is.
const ROOM: u64 = 2560 * MIB;
/// More than this the hog never takes.
const MOST: u64 = 6 << 30;
/// It says how much it has this often, bytes.
const WORD: usize = 256 << 10;
/// The hosts's memory is looked at this often.
const LOOK: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory of a hog before is back by then.
const REST: Duration = Duration::from_millis(700);

/// Takes memory as fast as it comes, and writes down how much. Ends with the bench.
pub(crate) fn be(report: &Path) -> ExitCode {
    match hog(report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{HOG}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hog(report: &Path) -> std::io::Result<()> {
    let limit = rustix::process::Rlimit {
        current: Some(MOST + (256 << 20)),
        maximum: Some(MOST + (256 << 20)),
    };
    rustix::process::setrlimit(rustix::process::Resource::As, limit)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let file = File::options().write(true).open(report)?;
    let mut go = String::new();
    std::io::stdin().read_line(&mut go)?;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0_u64;
    while bytes < MOST {
        let piece = vec![1_u8; WORD];
        bytes += 256 << 10;
        taken.push(piece);
        file.write_all_at(&bytes.to_ne_bytes(), 0)?;
    }
    // Nobody came. What is taken stays until the bench is done with it.
    std::io::stdin().read_line(&mut go)?;
    drop(taken);
    Ok(())
}

/// What one hog came to.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// From the crossing to the signal.
    late: Duration,
    /// What it took in that time.
    over: u64,
    crossed: Duration,
}

struct Hog {
    child: Child,
    word: File,
}

impl Hog {
    fn start(folder: &Folder) -> Result<Self> {
        // Its name is that of its file.
        let path = folder.file(HOG);
        if !path.exists() {
            std::fs::copy(std::env::current_exe()?, &path)?;
        }
        let report = folder.file("word");
        std::fs::write(&report, [0_u8; 8])?;
        let mut start = program(&path);
        start.arg("hog").arg("--report").arg(&report);
        start.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = start.spawn().context("cannot start the hog")?;
        let word = File::open(&report)?;
        Ok(Self { child, word })
    }

    /// How much it has.
    fn has(&self) -> Result<u64> {
        let mut word = [0_u8; 8];
        self.word.read_exact_at(&mut word, 0)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Whether somebody has sent it SIGKILL.
    fn is_hit(&self) -> bool {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
        let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let exiting = procfs::stat(self.child.id()).is_none_or(|stat| stat.exiting);
        exiting || pending.is_some_and(|mask| mask & (1 << 8) != 0)
    }

    /// Lets it go, and looks on until it is dead.
    ///
    /// `log`: where a killer says whom it would kill, if it only says so.
    fn run(&mut self, level: u64, log: Option<&Path>) -> Result<Round> {
        use std::io::Write as _;
        let memory = Meminfo::open()?;
        let mut stdin = self.child.stdin.take().context("no way to let it go")?;
        stdin.write_all(b"go\n")?;
        let begin = Instant::now();
        let mut crossed = None;
        let (mut hit, mut ended) = (None, false);
        let told = log.map(File::open).transpose()?;
        if let Some(told) = &told {
            (&mut &*told).seek(SeekFrom::End(0))?;
        }
        let mut said = String::new();
        while !ended {
            let at = now();
            if crossed.is_none() {
                let read = memory.read().context("cannot read /proc/meminfo")?;
                if read.available < level {
                    crossed = Some((self.has()?, at));
                }
            }
            if let Some(told) = &told
                && hit.is_none()
            {
                (&mut &*told).read_to_string(&mut said)?;
                if said.contains("SIGKILL") && said.contains(HOG) {
                    hit = Some(at);
                    self.child.kill()?;
                }
            } else if hit.is_none() && self.is_hit() {
                hit = Some(at);
            }
            ended = self.child.try_wait()?.is_some();
            ensure!(begin.elapsed() < PATIENCE, "nobody killed the hog");
            std::thread::sleep(LOOK);
        }
        let size = self.has()?;
        let hit = hit.unwrap_or_else(now);
        let (had, crossed) = crossed.unwrap_or((size, hit));
        Ok(Round {
            late: hit.saturating_sub(crossed),
            over: size.saturating_sub(had),
            crossed,
        })
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[derive(Debug, Default)]
struct Measured {
    late: Samples,
    over: Values,
}

pub(crate) fn measure(
    binary: &Path,
    rounds: usize,
    install: bool,
    report: &mut Report,
) -> Result<()> {
    own::come_first();
    let folder = Folder::new()?;
    let memory = Meminfo::open()?;
    let read = || memory.read().context("cannot read /proc/meminfo");
    // nohang takes no level above half of the memory: what is between is held here.
    let between = read()?.available.saturating_sub(ROOM);
    let between = between.saturating_sub(read()?.total / 100 * 45);
    let ballast = vec![1_u8; usize::try_from(between)?];
    let read = read()?;
    let level = read.available.saturating_sub(ROOM);
    let level = level.min(read.total / 100 * 48);
    ensure!(
        level > 3 << 30,
        "this host has too little memory to spare for a hog"
    );
    report.section("A hog at full speed, 2.5 GiB below what was available");
    let ours = ours(binary, &folder, level, rounds, report)?;
    let ours = show("smart-monitor", &ours, None, report);
    for peer in [Peer::Earlyoom, Peer::Nohang] {
        progress(&format!("emergency: {rounds} hogs under {}", peer.name()));
        match peer.measure(&folder, level, rounds, install) {
            Ok(theirs) => {
                show(peer.name(), &theirs, ours, report);
            }
            Err(error) => report.missing(peer.name(), &format!("{error:#}")),
        }
    }
    drop(std::hint::black_box(ballast));
    Ok(())
}

/// Shows it; the median of what the hog took beyond.
fn show(name: &str, measured: &Measured, ours: Option<f64>, report: &mut Report) -> Option<f64> {
    let goal = ours.is_none().then(|| Duration::from_millis(25));
    report.durations(&format!("{name}: crossing -> killed"), &measured.late, goal);
    report.section_of_values(&format!("{name}: what it took beyond"));
    report.values("over-run", &measured.over, "MiB", None::<Goal>);
    let median = measured.over.median();
    if let Some((ours, theirs)) = ours.zip(median) {
        report.number(
            "over-run, theirs / ours",
            theirs / ours.max(0.25),
            "times",
            None,
        );
    }
    median
}

fn mib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a size to read")]
    let mib = bytes as f64 / MIB as f64;
    mib
}

fn ours(
    binary: &Path,
    folder: &Folder,
    level: u64,
    rounds: usize,
    report: &mut Report,
) -> Result<Measured> {
    progress(&format!("emergency: {rounds} hogs"));
    let mut daemon = Daemon::start(binary, folder, &config(level))?;
    daemon.wait_until_up(Duration::from_millis(20))?;
    idle(daemon.pid(), report)?;
    let mut all = Measured::default();
    let (mut sampled, mut sent) = (Samples::default(), Samples::default());
    for round in 0..rounds {
        let mut hog = Hog::start(folder)?;
        let measured = hog
            .run(level, None)
            .with_context(|| format!("hog {round}"))?;
        all.late.add(measured.late);
        all.over.add(mib(measured.over));
        let incident = of_hog(&daemon, round)?;
        ensure!(
            incident.detector == "memory_pressure" && incident.actions == 1,
            "one kill a hog: {incident:#?}"
        );
        let seen = incident.first(StepKind::Seen).context("not seen")?;
        let acted = incident.first(StepKind::Acted).context("not acted")?;
        let seen_at = Duration::from_nanos(u64::try_from(seen.nanos())?);
        sampled.add(seen_at.saturating_sub(measured.crossed));
        sent.add(acted.since(seen));
        std::thread::sleep(REST);
    }
    // Others on this host may cross the level too; nobody has consented to their end.
    let incidents = daemon.incidents()?;
    let kills: u64 = incidents.iter().map(|one| u64::from(one.actions)).sum();
    ensure!(
        kills == u64::try_from(rounds)?,
        "more than one kill a hog: {incidents:#?}"
    );
    daemon.stop()?;
    report.durations("smart-monitor: crossing -> its reading", &sampled, None);
    report.durations("smart-monitor: its reading -> signal sent", &sent, None);
    Ok(all)
}

/// The incident about the hog of this round, once it is over.
fn of_hog(daemon: &Daemon, round: usize) -> Result<Incident> {
    let begin = Instant::now();
    loop {
        let all = daemon.incidents()?.into_iter();
        let mut of_hogs = all.filter(|one| one.evidence.comm.as_deref() == Some(HOG));
        match of_hogs.nth(round) {
            Some(incident) if incident.is_over() => return Ok(incident),
            other => ensure!(begin.elapsed() < PATIENCE, "it is not over: {other:#?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the thread that watches memory costs while there is plenty.
fn idle(pid: u32, report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    let before = cpu_of(pid, "memory")?;
    std::thread::sleep(Duration::from_secs(10));
    let cost = cpu_of(pid, "memory")?.saturating_sub(before);
    let share = cost.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    report.number("its memory thread, idle", share, "% of a core", None);
    Ok(())
}

/// CPU time of the thread of this name, once it has given itself that.
fn cpu_of(pid: u32, name: &str) -> Result<Duration> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = task?.path();
            if std::fs::read_to_string(folder.join("comm"))?.trim() == name {
                let text = std::fs::read_to_string(folder.join("schedstat"))?;
                let run = text.split_ascii_whitespace().next();
                return Ok(Duration::from_nanos(run.context("no run time")?.parse()?));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("the daemon has no thread {name}")
}

fn config(level: u64) -> String {
    format!(
        r#"
[daemon]
http = ""

[detectors.memory_pressure]
available_min = "{level}B"
least = "{level}B"
least_swap = "100%"
exhaust_within = "0s"
margin = "0%"
prefer = ["hog"]

[policy]
backoff_initial = "0s"
backoff_max = "0s"
limit = 1000
limit_window = "100ms"
host_limit_per_hour = 1000000

[[process]]
name = "hog"
comm = ["{HOG}"]

[[remedy]]
detector = "memory_pressure"
on = ["hog"]
action = "kill_process"
term_grace = "0s"
"#
    )
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Earlyoom,
    Nohang,
}

impl Peer {
    const fn name(self) -> &'static str {
        match self {
            Self::Earlyoom => "earlyoom",
            Self::Nohang => "nohang",
        }
    }

    /// The one that is installed, or Debian's package unpacked into the folder: its service is never started.
    fn find(self, install: bool, folder: &Folder) -> Result<PathBuf> {
        let below = match self {
            Self::Earlyoom => "usr/bin/earlyoom",
            Self::Nohang => "usr/sbin/nohang",
        };
        let here = Path::new("/").join(below);
        if here.is_file() {
            return Ok(here);
        }
        ensure!(
            install,
            "not installed; --peers unpacks it into a temporary folder"
        );
        Ok(unpack(self.name(), folder)?.join(below))
    }

    fn start(self, path: &Path, folder: &Folder, level: u64) -> Result<Child> {
        let log = File::create(folder.file("peer.log"))?;
        let mut start = match self {
            Self::Earlyoom => Self::earlyoom(path, level),
            Self::Nohang => Self::nohang(path, folder, level)?,
        };
        start
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        start.spawn().context("cannot start it")
    }

    /// It only says whom it would kill: which version takes what list of names differs, and nobody else is to be hurt. The bench kills the
    /// hog in its place when it says so.
    fn earlyoom(path: &Path, level: u64) -> std::process::Command {
        let kib = level / 1024;
        let mut start = program(path);
        start.args(["--dryrun", "-r", "0", "-s", "100,100", "-M"]);
        start.arg(format!("{kib},{kib}"));
        start.args(["--prefer", &format!("^{HOG}$")]);
        start
    }

    /// Everybody but the hog has so little badness that nobody is worth ending.
    fn nohang(path: &Path, folder: &Folder, level: u64) -> Result<std::process::Command> {
        let place = path
            .ancestors()
            .nth(3)
            .context("nohang lies too high")?
            .join("etc/nohang/nohang.conf");
        let sample = std::fs::read_to_string(&place)
            .with_context(|| format!("cannot read {}", place.display()))?;
        let level = format!("{} M", level / MIB);
        let said = |line: &str, key: &str| {
            let rest = line.strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let mut text = String::new();
        for line in sample.lines() {
            let line = if said(line, "soft_threshold_min_mem") {
                format!("soft_threshold_min_mem = {level}")
            } else if said(line, "hard_threshold_min_mem") {
                format!("hard_threshold_min_mem = {level}")
            } else if said(line, "soft_threshold_min_swap") {
                "soft_threshold_min_swap = 100 %".to_owned()
            } else if said(line, "hard_threshold_min_swap") {
                "hard_threshold_min_swap = 100 %".to_owned()
            } else if line.starts_with('@') {
                continue;
            } else {
                line.to_owned()
            };
            text.push_str(&line);
            text.push('\n');
        }
        let others = format!("@BADNESS_ADJ_RE_NAME -5000 /// ^(?!{HOG}$)\n");
        text.push_str(&others);
        let hog = format!("@BADNESS_ADJ_RE_NAME 900 /// ^{HOG}$\n");
        text.push_str(&hog);
        let file = folder.file("nohang.conf");
        std::fs::write(&file, text)?;
        let mut start = program("python3");
        start.arg(path).arg("--monitor").arg("--config").arg(file);
        Ok(start)
    }

    fn measure(
        self,
        folder: &Folder,
        level: u64,
        rounds: usize,
        install: bool,
    ) -> Result<Measured> {
        let path = self.find(install, folder)?;
        let child = self.start(&path, folder, level)?;
        let only_says = matches!(self, Self::Earlyoom);
        let log = only_says.then(|| folder.file("peer.log"));
        let mut running = Running(child);
        let mut all = Measured::default();
        std::thread::sleep(Duration::from_secs(2));
        for round in 0..rounds {
            let mut hog = Hog::start(folder)?;
            let measured = hog.run(level, log.as_deref()).with_context(|| {
                let log = std::fs::read_to_string(folder.file("peer.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                format!("hog {round}; it says: {last:?}")
            })?;
            all.late.add(measured.late);
            all.over.add(mib(measured.over));
            drop(hog);
            ensure!(running.0.try_wait()?.is_none(), "it has ended");
            // Some of them rest after a kill.
            std::thread::sleep(REST * 6);
        }
        Ok(all)
    }
}

/// A running peer; ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let gone = procfs::stat(self.0.id()).and_then(|stat| hold(stat.key.pid).ok());
        if let Some(held) = gone {
            let _ended = held.kill();
        }
        let _status = self.0.wait();
    }
}
