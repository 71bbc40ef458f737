//! Memory emergencies on the running kernel: the host's own memory under a level that is just below what is there, and a daemon in the
//! midst of a storm in a cgroup that is too small for all who are in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::meminfo::Meminfo;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, Outcome, ProcessKey, Subject};
use smart_monitor_tests::{
    Daemon, PATIENCE, Simulated, Site, binary, may_lower_oom_score, program, wait_until,
};

const MIB: u64 = 1 << 20;

fn fact<'a>(incident: &'a Incident, name: &str) -> &'a str {
    let facts = incident.evidence.facts.iter();
    let mut facts = facts.filter(|(key, _)| key == name);
    facts.next().map_or("", |(_, value)| value)
}

/// The host is short of memory as soon as so much more is taken.
fn short_after(bytes: u64) -> Result<String> {
    let read = Meminfo::open()?.read().context("no /proc/meminfo")?;
    let level = read.available.saturating_sub(bytes);
    Ok(format!(
        "[detectors.memory_pressure]\navailable_min = \"{level}B\"\nleast = \"{level}B\"\nleast_swap = \"100%\"\nmargin = \"0%\"\nexhaust_within = \"0s\"\n"
    ))
}

#[test]
fn who_takes_the_hosts_memory_is_ended_once_and_who_is_larger_but_still_is_not() -> Result<()> {
    let site = Site::new()?;
    let (leaky, large) = (Simulated::new("leaky")?, Simulated::new("large")?);
    let kill = "[[remedy]]\ndetector = \"memory_pressure\"\non = [\"*\"]\naction = \"kill_process\"\nterm_grace = \"0s\"\n";
    let services = leaky.toml() + &large.toml();
    site.configure(&(short_after(1600 * MIB)? + &services + kill))?;
    let mut daemon = site.start()?;
    let (process, bystander) = (daemon.healthy("leaky")?, daemon.healthy("large")?);
    large.fault("leak", &[("mib_per_s", "4096"), ("max_mib", "400")])?;
    daemon.wait_for("it is large", |_| {
        let resident = procfs::resident(bystander).ok()?;
        (resident > 380 * MIB).then_some(())
    })?;
    leaky.fault("leak", &[("mib_per_s", "1000"), ("max_mib", "2048")])?;
    let incident = daemon.incident("the host has its memory again", |incident| {
        incident.detector == "memory_pressure" && incident.is_over()
    })?;
    ensure!(
        incident.subject == Subject::service("leaky") && incident.evidence.process == Some(process),
        "{incident:#?}"
    );
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(incident.actions == 1, "{incident:#?}");
    ensure!(
        fact(&incident, "its end brings").contains("grows"),
        "{incident:#?}"
    );
    ensure!(fact(&incident, "not").starts_with("large"), "{incident:#?}");
    ensure!(
        daemon.service("large") == Some(bystander),
        "a bystander was ended"
    );
    let rest = daemon.incidents()?;
    let kills = rest
        .iter()
        .filter(|incident| incident.detector == "memory_pressure");
    ensure!(kills.count() == 1, "one kill: {rest:#?}");
    Ok(())
}

#[test]
fn without_consent_the_one_who_takes_it_is_only_named() -> Result<()> {
    let site = Site::new()?;
    let leaky = Simulated::new("leaky")?;
    site.configure(&(short_after(600 * MIB)? + &leaky.toml()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("leaky")?;
    leaky.fault("leak", &[("mib_per_s", "2000"), ("max_mib", "1800")])?;
    let incident = daemon.incident("it is named", |incident| {
        incident.detector == "memory_pressure" && incident.subject == Subject::service("leaky")
    })?;
    ensure!(
        fact(&incident, "its end brings").contains("no consent"),
        "{incident:#?}"
    );
    ensure!(incident.actions == 0, "{incident:#?}");
    ensure!(procfs::runs(process), "nobody allowed that");
    Ok(())
}

/// A memory cgroup (v1) that is too small for what is in it. What is in it ends with it.
struct Small {
    folder: PathBuf,
    /// `oom_score_adj` of what is run in it.
    score: i32,
    children: Vec<Child>,
}

impl Small {
    fn new(limit: u64) -> Result<Self> {
        let name = format!("smart-monitor-test-{}", std::process::id());
        let folder = Path::new("/sys/fs/cgroup/memory").join(name);
        fs::create_dir(&folder).context("this test needs the memory controller of cgroup v1")?;
        let small = Self {
            folder,
            score: 0,
            children: Vec::new(),
        };
        small.limit(limit)?;
        Ok(small)
    }

    fn limit(&self, bytes: u64) -> Result<()> {
        let file = self.folder.join("memory.limit_in_bytes");
        Ok(fs::write(file, bytes.to_string())?)
    }

    fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Runs a shell in it.
    fn run(&mut self, script: &str) -> Result<()> {
        let (score, procs) = (self.score, self.procs());
        let procs = procs.display();
        let script = format!("echo $$ > {procs}; echo {score} > /proc/$$/oom_score_adj; {script}");
        let mut shell = program("sh");
        shell.args(["-c", &script]).stdin(Stdio::null());
        let child = shell.stderr(Stdio::null()).spawn()?;
        self.children.push(child);
        Ok(())
    }

    /// A file of 500 MiB that is read again and again by three.
    fn read_too_much(&mut self, big: &Path) -> Result<()> {
        let read = format!("while cat {} >/dev/null; do :; done", big.display());
        self.run(&format!(
            "dd if=/dev/zero of={} bs=1M count=500 2>/dev/null; {read}",
            big.display()
        ))?;
        wait_until(PATIENCE, "the file is there", || {
            (fs::metadata(big).ok()?.len() == 500 * MIB).then_some(())
        })?;
        for _ in 0..2 {
            self.run(&read)?;
        }
        Ok(())
    }

    /// Has somebody in it who holds so many bytes, and does nothing else: to the kernel a better victim than who holds less.
    fn ballast(&mut self, bytes: u64) -> Result<ProcessKey> {
        let hold = Simulated::new("ballast")?;
        let daemon = binary()?;
        self.run(&format!(
            "exec {} simulate --name ballast --listen {} >/dev/null",
            daemon.display(),
            hold.at
        ))?;
        let pid = self.children.last().context("it was started")?.id();
        let process = wait_until(PATIENCE, "the ballast is started", || {
            std::net::TcpStream::connect(hold.at).ok()?;
            Some(procfs::stat(pid)?.key)
        })?;
        let mib = bytes.div_ceil(MIB).to_string();
        hold.fault("leak", &[("mib_per_s", "1000"), ("max_mib", &mib)])?;
        wait_until(PATIENCE, "the ballast holds it", || {
            (procfs::resident(process).ok()? >= bytes).then_some(())
        })?;
        Ok(process)
    }

    fn counts(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ended = child.kill().and_then(|()| child.wait());
        }
        let folder = &self.folder;
        let gone = wait_until(PATIENCE, "the cgroup is empty", || {
            fs::remove_dir(folder).is_ok().then_some(())
        });
        if let Err(error) = gone {
            eprintln!("cannot remove {}: {error:#}", folder.display());
        }
    }
}

/// Makes a process this much likelier a victim of the kernel. That needs no right, and is inherited.
fn expose(process: ProcessKey, score: i32) -> Result<()> {
    let file = format!("/proc/{}/oom_score_adj", process.pid);
    fs::write(&file, score.to_string()).with_context(|| format!("cannot write {file}"))
}

/// The daemon's own protection from the kernel's OOM killer: in force where it has the right, and where it has not, it says so. Whether
/// it is.
fn is_protected_or_says_not(daemon: &Daemon, own: ProcessKey) -> Result<bool> {
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", own.pid))?;
    let is_protected = score.trim() == "-900";
    let log = daemon.log();
    let said = log.contains("not protected from the kernel's OOM killer");
    ensure!(is_protected != said, "oom_score_adj {score}: {log}");
    ensure!(
        is_protected || !may_lower_oom_score()?,
        "it did not use its right: {score}"
    );
    Ok(is_protected)
}

#[test]
fn in_the_midst_of_a_storm_it_still_sees_decides_and_acts_and_is_not_the_victim() -> Result<()> {
    let mut small = Small::new(256 * MIB)?;
    let site = Site::new()?;
    let (auth, leaky) = (Simulated::new("auth")?, Simulated::new("leaky")?);
    let restart = "[policy]\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\nlimit = 1000\nlimit_window = \"100ms\"\nhost_limit_per_hour = 1000000\n[[remedy]]\ndetector = \"service_down\"\non = [\"*\"]\naction = \"restart_service\"\n";
    site.configure(&(auth.toml() + &leaky.toml() + restart))?;
    let procs = small.procs();
    let mut daemon = site.start_with(|command| {
        // All of its memory, and of its services, is charged there from the first page on.
        let inside = "echo $$ > \"$0\"; exec \"$@\"";
        let mut shell = program("sh");
        shell.args(["-c", inside]).arg(&procs);
        shell.arg(command.get_program()).args(command.get_args());
        shell.stdin(Stdio::null());
        // The log that the site looks at is its first.
        let place = site.path("1.log");
        let output = fs::File::options().append(true).open(place);
        if let Ok(output) = output {
            if let Ok(again) = output.try_clone() {
                shell.stdout(again);
            }
            shell.stderr(output);
        }
        *command = shell;
    })?;
    let own = daemon.process()?;
    // While the memory of its first victim is on its way back, the kernel takes a second and a third one. The distance to the others
    // decides who: 900, in both cases.
    if is_protected_or_says_not(&daemon, own)? {
        println!("with CAP_SYS_RESOURCE: its oom_score_adj is -900, that of the others 0");
    } else {
        println!(
            "without CAP_SYS_RESOURCE: its oom_score_adj is 0, that of the others is made 900"
        );
        small.score = 900;
    }
    daemon.healthy("leaky")?;
    // Nor is it the largest in there once the one who takes too much is on its way out.
    let weight = procfs::resident(own)? + 32 * MIB;
    small.limit(256 * MIB + weight)?;
    let mut ballast = small.ballast(weight)?;
    let before = small.counts("memory.failcnt").unwrap_or(0);
    // Files that do not fit, and memory that is not given back.
    small.read_too_much(&site.path("big"))?;
    leaky.fault("leak", &[("mib_per_s", "100"), ("max_mib", "60")])?;
    wait_until(PATIENCE, "the cgroup is full", || {
        (small.counts("memory.failcnt")? > before + 1000).then_some(())
    })?;
    let mut waits: Vec<Duration> = Vec::new();
    let mut last = 0;
    for _ in 0..10 {
        daemon.healthy("auth")?;
        auth.fault("crash", &[("how", "kill")])?;
        let incident = daemon.incident("it is repaired in the storm", |incident| {
            let fixed = incident.is_over() && incident.outcome == Some(Outcome::Fixed);
            incident.detector == "service_down"
                && incident.subject == Subject::service("auth")
                && fixed
                && incident.id.0 > last
        })?;
        let seen = incident.first(StepKind::Seen).context("not seen")?;
        let raised = incident.first(StepKind::Detected).context("not raised")?;
        waits.push(raised.since(seen));
        last = incident.id.0;
    }
    waits.sort_unstable();
    println!("event -> raised in the storm: {waits:?}");
    let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
    ensure!(median < Duration::from_millis(50), "{waits:?}");
    let now = procfs::resident(own)?;
    println!(
        "{} MiB of the daemon, {} MiB of ballast",
        now / MIB,
        weight / MIB
    );
    if !procfs::runs(ballast) {
        println!("the ballast was taken in the storm: another one");
        ballast = small.ballast(weight)?;
    }
    ensure!(
        now < procfs::resident(ballast)?,
        "the daemon is the largest"
    );
    for service in ["auth", "leaky"] {
        expose(daemon.healthy(service)?, small.score)?;
    }
    // Now more than there is: the kernel ends somebody, and it is not the daemon.
    leaky.fault("leak", &[("mib_per_s", "400"), ("max_mib", "600")])?;
    let killed = daemon.incident("the kernel's kill is seen", |incident| {
        let leaky = incident.subject == Subject::service("leaky");
        incident.detector == "service_down" && leaky && incident.is_over()
    })?;
    let words = format!("{:?}", killed.evidence.facts);
    ensure!(words.contains("memory was asked for by"), "{killed:#?}");
    let spared = if procfs::runs(ballast) {
        "spared"
    } else {
        "taken"
    };
    println!("the ballast was {spared}");
    ensure!(daemon.process()? == own, "the daemon was the victim");
    daemon.healthy("leaky")?;
    ensure!(daemon.stop()?.success(), "it ends in order");
    Ok(())
}
