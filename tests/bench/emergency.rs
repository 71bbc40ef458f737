//! A program that takes memory at full speed: how soon after the crossing of a level it is killed, by us and by other memory killers,
//! all with the same level in the same run.
//!
//! Nobody says by himself when he acted: the hog writes down how much it has and when, every 256 KiB; its last word is the moment of the
//! kill. The crossing is seen by a thread that reads `/proc/meminfo` every half millisecond. The hog has a name of its own, a limit of its
//! own, and is the only one that any of the killers may touch.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use smart_monitor::host::meminfo::Meminfo;
use smart_monitor::host::{Opened as _, own, procfs};
use smart_monitor::model::incident::StepKind;

use crate::daemon::{Daemon, Folder, program};
use crate::report::{Goal, Report, Samples, Values, progress};
use crate::service::{hold, now};

const MIB: u64 = 1 << 20;
/// Twelve characters, as no program has them: see [`Peer::earlyoom`].
const HOG: &str = "zz-bench-hog";
/// How much less than what is available now the level is.
const ROOM: u64 = 1792 * MIB;
/// More than this the hog never takes.
const MOST: u64 = 6 << 30;
/// It says how much it has this often, bytes.
const WORD: usize = 256 << 10;
/// The hosts's memory is looked at this often.
const LOOK: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory of a hog before is back by then.
const REST: Duration = Duration::from_millis(700);

/// Takes memory as fast as it comes, and writes down how much and when. Ends with the bench.
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
        let mut word = [0_u8; 16];
        let (size, time) = word.split_at_mut(8);
        size.copy_from_slice(&bytes.to_ne_bytes());
        let at = u64::try_from(now().as_nanos()).unwrap_or(0);
        time.copy_from_slice(&at.to_ne_bytes());
        file.write_all_at(&word, 0)?;
    }
    // Nobody came. What is taken stays until the bench is done with it.
    std::io::stdin().read_line(&mut go)?;
    drop(taken);
    Ok(())
}

/// What one hog came to.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// From the crossing to its last word.
    late: Duration,
    /// What it took in that time.
    over: u64,
    /// When it was last heard of.
    end: Duration,
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
        std::fs::write(&report, [0_u8; 16])?;
        let mut start = program(&path);
        start.arg("hog").arg("--report").arg(&report);
        start.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = start.spawn().context("cannot start the hog")?;
        let word = File::open(&report)?;
        Ok(Self { child, word })
    }

    fn word(&self) -> Result<(u64, Duration)> {
        let mut word = [0_u8; 16];
        self.word.read_exact_at(&mut word, 0)?;
        let (size, time) = word.split_at(8);
        let size = u64::from_ne_bytes(size.try_into()?);
        let time = u64::from_ne_bytes(time.try_into()?);
        Ok((size, Duration::from_nanos(time)))
    }

    /// Lets it go, and looks on until it is dead.
    fn run(&mut self, level: u64) -> Result<Round> {
        use std::io::Write as _;
        let memory = Meminfo::open()?;
        let mut stdin = self.child.stdin.take().context("no way to let it go")?;
        stdin.write_all(b"go\n")?;
        let begin = Instant::now();
        let mut crossed = None;
        loop {
            if crossed.is_none() {
                let at = now();
                let read = memory.read().context("cannot read /proc/meminfo")?;
                if read.available < level {
                    crossed = Some((self.word()?.0, at));
                }
            }
            if self.child.try_wait()?.is_some() {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "nobody killed the hog");
            std::thread::sleep(LOOK);
        }
        let (size, end) = self.word()?;
        // Whoever foresees it need not wait for it.
        let (had, at) = crossed.unwrap_or((size, end));
        Ok(Round {
            late: end.saturating_sub(at),
            over: size.saturating_sub(had),
            end,
            crossed: at,
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
    let read = memory.read().context("cannot read /proc/meminfo")?;
    let level = read.available.saturating_sub(ROOM);
    ensure!(
        level > 3 << 30,
        "this host has too little memory to spare for a hog"
    );
    report.section("A hog at full speed, 1.75 GiB below what was available");
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
        let measured = hog.run(level).with_context(|| format!("hog {round}"))?;
        all.late.add(measured.late);
        all.over.add(mib(measured.over));
        let last = u64::try_from(round)? + 1;
        let incident = daemon.over(last)?;
        ensure!(
            incident.detector == "memory_pressure" && incident.actions == 1,
            "one kill a hog: {incident:#?}"
        );
        let seen = incident.first(StepKind::Seen).context("not seen")?;
        let acted = incident.first(StepKind::Acted).context("not acted")?;
        let seen_at = Duration::from_nanos(u64::try_from(seen.nanos())?);
        sampled.add(seen_at.saturating_sub(measured.crossed));
        sent.add(acted.since(seen));
        debug_assert!(measured.end >= seen_at);
        std::thread::sleep(REST);
    }
    ensure!(
        daemon.last_incident()? == u64::try_from(rounds)?,
        "more than one kill a hog: {:#?}",
        daemon.incidents()?
    );
    daemon.stop()?;
    report.durations("smart-monitor: crossing -> its reading", &sampled, None);
    report.durations("smart-monitor: its reading -> signal sent", &sent, None);
    Ok(all)
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

/// CPU time of the thread of this name.
fn cpu_of(pid: u32, name: &str) -> Result<Duration> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = task?.path();
        if std::fs::read_to_string(folder.join("comm"))?.trim() != name {
            continue;
        }
        let text = std::fs::read_to_string(folder.join("schedstat"))?;
        let run = text
            .split_ascii_whitespace()
            .next()
            .context("no run time")?;
        return Ok(Duration::from_nanos(run.parse()?));
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
        let place = folder.file(self.name());
        std::fs::create_dir_all(&place)?;
        let mut get = program("apt-get");
        get.args(["download", "--quiet", self.name()])
            .current_dir(&place);
        let output = get.stdin(Stdio::null()).output()?;
        ensure!(
            output.status.success(),
            "apt-get download {} failed",
            self.name()
        );
        for entry in std::fs::read_dir(&place)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let status = program("dpkg").arg("-x").arg(&path).arg(&place).status()?;
                ensure!(status.success(), "dpkg cannot unpack {}", path.display());
            }
        }
        Ok(place.join(below))
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

    /// Everybody but the hog is ignored: names that are shorter or longer, or begin with other letters.
    fn earlyoom(path: &Path, level: u64) -> std::process::Command {
        let others = "^([^z].*|z|z[^z].*|.{0,11}|.{13,})$";
        let kib = level / 1024;
        let mut start = program(path);
        start.args(["-r", "0", "-p", "-s", "100,100", "-M"]);
        start.arg(format!("{kib},{kib}"));
        start.args(["--prefer", &format!("^{HOG}$"), "--ignore", others]);
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
        text.push_str(&format!("@BADNESS_ADJ_RE_NAME -5000 /// ^(?!{HOG}$)\n"));
        text.push_str(&format!("@BADNESS_ADJ_RE_NAME 900 /// ^{HOG}$\n"));
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
        let mut running = Running(child);
        let mut all = Measured::default();
        std::thread::sleep(Duration::from_secs(2));
        for round in 0..rounds {
            let mut hog = Hog::start(folder)?;
            let measured = hog.run(level).with_context(|| {
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
