//! Checks of the host: what is hostile is bounded and said in words, and what hangs harms no other.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::procfs;
use smart_monitor::model::{Check, Incident};
use smart_monitor_tests::{Daemon, Site, http_send, wait_until};

/// A service that nobody here runs, with these checks.
fn checked(name: &str, checks: &[String]) -> String {
    let checks: Vec<String> = checks
        .iter()
        .map(|check| format!("[[service.check]]\n{check}\ninterval = \"100ms\"\nfailures = 1\n"))
        .collect();
    let checks = checks.concat();
    format!("[[service]]\nname = \"{name}\"\nkind = \"none\"\n{checks}")
}

/// Sends heartbeats until it is dropped.
struct Heart(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Heart {
    fn beat(site: &Site, service: &'static str) -> Self {
        let (beats, at) = (Arc::new(AtomicBool::new(true)), site.http);
        let goes_on = Arc::clone(&beats);
        let thread = std::thread::spawn(move || {
            let (path, body) = (
                format!("/api/v1/heartbeats/{service}"),
                r#"{"figures":{"queue":3}}"#,
            );
            while goes_on.load(Ordering::Relaxed) {
                let _not_up_yet = http_send("POST", at, &path, body);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self(beats, Some(thread))
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        let _ended = self.1.take().map(std::thread::JoinHandle::join);
    }
}

fn fails(service: &'static str) -> impl Fn(&Incident) -> bool {
    move |incident| {
        incident.detector == "check_failing" && incident.subject.to_string().contains(service)
    }
}

fn check(daemon: &Daemon, service: &str, name: &str) -> Option<Check> {
    let mut services = daemon.status().ok()?.view.services;
    services.remove(service)?.service.checks.remove(name)
}

fn waits(daemon: &mut Daemon, name: &str, well: bool, says: &str) -> Result<()> {
    let mut last = None;
    let found = daemon.wait_for(&format!("{name} says `{says}`"), |daemon| {
        last = check(daemon, "host", name);
        let last = last.as_ref()?;
        let said = last.said.as_deref().unwrap_or_default();
        (last.well == Some(well) && said.contains(says)).then_some(())
    });
    found.with_context(|| format!("{last:#?}"))
}

#[test]
fn a_heartbeat_that_stops_is_an_incident_until_it_comes_back() -> Result<()> {
    let site = Site::new()?;
    let beats = "heartbeat = { every = \"200ms\", missing = 3 }".to_owned();
    site.configure(&checked("batch", &[beats]))?;
    let mut daemon = site.start()?;
    let heart = Heart::beat(&site, "batch");
    daemon.wait_for("its figure is shown", |daemon| {
        let queue = daemon.metric("smart_monitor_check_figure", "figure=\"queue\"");
        (queue.ok()? > 2.9).then_some(())
    })?;
    ensure!(daemon.incidents()?.is_empty(), "{}", daemon.last_words());
    drop(heart);
    let missed = daemon.incident("it is missed", fails("batch"))?;
    ensure!(!missed.is_over(), "{missed:#?}");
    let heart = Heart::beat(&site, "batch");
    daemon.incident("it is back", |incident| {
        incident.id == missed.id && incident.is_over()
    })?;
    drop(heart);
    let body = r#"{"status":"error","text":"the queue is stuck"}"#;
    let (code, answer) = http_send("POST", site.http, "/api/v1/heartbeats/batch", body)?;
    ensure!(code == 200, "{answer}");
    daemon.wait_for("it says so", |daemon| {
        let said = check(daemon, "batch", "heartbeat")?.said?;
        said.contains("the queue is stuck").then_some(())
    })?;
    let (code, _) = http_send("POST", site.http, "/api/v1/heartbeats/other", "")?;
    ensure!(code == 404, "{code}");
    ensure!(daemon.stop()?.success(), "{}", daemon.last_words());
    Ok(())
}

/// While four hang, another still starts as often as it is to.
fn another_starts_in_time(site: &Site) -> Result<()> {
    let count = || fs::read_to_string(site.path("runs")).map_or(0, |text| text.lines().count());
    let (before, began) = (count(), Instant::now());
    wait_until(Duration::from_secs(10), "ten more runs", || {
        (count() >= before + 10).then_some(())
    })?;
    let took = began.elapsed();
    ensure!(
        took < Duration::from_secs(3),
        "ten runs at 100 ms took {took:?}"
    );
    Ok(())
}

#[test]
fn hostile_files_and_programs_are_bounded_and_harm_no_other_check() -> Result<()> {
    let site = Site::new()?;
    let path = |name: &str| site.path(name).display().to_string();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        site.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )?;
    fs::write(site.path("app.log"), "ERROR of yesterday\n")?;
    let shell = |name: &str, script: &str, more: &str| {
        let text = format!("command = {{ command = [\"/bin/sh\", \"-c\", '''{script}''']{more} }}");
        format!("{text}\nname = \"{name}\"\ntimeout = \"400ms\"")
    };
    let runs = path("runs");
    // Of this test alone.
    let nap = format!("97.{}", std::process::id());
    let mut checks = vec![
        format!(
            "heartbeat = {{ every = \"1h\", file = \"{}\" }}",
            path("app.log")
        ),
        format!(
            "file = {{ path = \"{}\", contains = \"x\" }}\nname = \"pipe\"",
            path("pipe")
        ),
        "file = { path = \"/dev/zero\", contains = \"x\" }\nname = \"endless\"".to_owned(),
        format!(
            "file = {{ path = \"{}\", max_age = \"1h\" }}\nname = \"fresh\"",
            path("app.log")
        ),
        "disk = { path = \"/\", free = \"1B\", inodes = \"0%\" }\nname = \"room\"".to_owned(),
        "disk = { path = \"/proc\" }\nname = \"no-room\"".to_owned(),
        format!(
            "log = {{ file = \"{}\", pattern = \"ERROR\" }}",
            path("app.log")
        ),
        "process = { comm = \"smart-monitor\", memory = \"1MiB\" }".to_owned(),
        "metric = { name = \"smart_monitor_build_info\", expect = { equals = 1 } }".to_owned(),
        shell(
            "quick",
            &format!("echo 4 rows; echo run >> {runs}"),
            ", expect = { above = 0, below = 5 }",
        ),
        shell("plugin", "echo \"DISK OK | '/x'=3MB\"", ", nagios = true"),
        shell("critical", "echo 'DISK full'; exit 2", ", nagios = true"),
        shell("flood", "exec yes", ""),
    ];
    for number in 0..4 {
        let script = format!(
            "trap \"\" TERM; sleep {nap} & setsid sleep {nap} & while :; do sleep {nap}; done"
        );
        checks.push(shell(&format!("hangs-{number}"), &script, ""));
    }
    site.configure(&checked("host", &checks))?;
    let mut daemon = site.start()?;
    for (name, well, says) in [
        ("pipe", false, "it is a pipe"),
        ("endless", false, "it is a device"),
        ("fresh", true, "app.log"),
        ("room", true, "% free"),
        ("no-room", false, "/proc"),
        ("log", true, "0 lines match"),
        ("process", false, "memory"),
        ("metric", true, "is 1"),
        ("quick", true, "4 rows"),
        ("plugin", true, "DISK OK"),
        ("critical", false, "critical: DISK full"),
        ("flood", false, "timeout"),
        ("hangs-0", false, "timeout"),
        ("hangs-3", false, "timeout"),
    ] {
        waits(&mut daemon, name, well, says)?;
    }
    let mut log = OpenOptions::new().append(true).open(site.path("app.log"))?;
    log.write_all(b"ERROR of today\n")?;
    waits(&mut daemon, "log", false, "ERROR of today")?;

    another_starts_in_time(&site)?;
    let resident = procfs::resident(daemon.process()?)?;
    ensure!(resident < 200 << 20, "{resident} bytes");
    ensure!(daemon.stop()?.success(), "{}", daemon.last_words());
    // What hung is ended with its cgroup, at the latest when the daemon begins again.
    site.configure("")?;
    let mut daemon = site.start()?;
    ensure!(daemon.stop()?.success(), "{}", daemon.last_words());
    let sleeps = format!("sleep\0{nap}\0").into_bytes();
    wait_until(Duration::from_secs(10), "no `sleep 97` is left", || {
        let all = procfs::processes().ok()?;
        let left = all
            .iter()
            .filter(|stat| stat.comm == "sleep" && stat.state != 'Z');
        let mut lines = left.map(|stat| fs::read(format!("/proc/{}/cmdline", stat.key.pid)));
        lines
            .all(|line| line.unwrap_or_default() != sleeps)
            .then_some(())
    })
}
