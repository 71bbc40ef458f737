//! More than it can take: bursts of processes, a full disk, requests of all kinds.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::api::answers::Condition;
use smart_monitor::model::incident::StepKind;
use smart_monitor_tests::{Daemon, Simulated, Site, http_get, program};

use super::{is, is_fixed, position, restarts, tells};

/// The most memory it ever had, bytes.
fn peak(daemon: &Daemon) -> Result<u64> {
    let pid = daemon.process()?.pid;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmHWM")?;
    Ok(kib.parse::<u64>()? << 10)
}

/// Ends of processes that were seen, and those that were counted only: lost, or held back for their cgroup made too many.
fn exits(daemon: &Daemon) -> Option<(f64, f64)> {
    let exit = "probe=\"process_exit\"";
    let seen = daemon
        .metric("smart_monitor_probe_events_total", exit)
        .ok()?;
    let lost = daemon
        .metric("smart_monitor_probe_lost_events_total", exit)
        .ok()?;
    let held_back = daemon
        .metric("smart_monitor_probe_suppressed_events_total", exit)
        .ok()?;
    Some((seen, lost + held_back))
}

#[test]
fn of_a_burst_of_ten_thousand_processes_none_is_lost_uncounted() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    let (seen, lost) = exits(&daemon).context("no metrics")?;
    // Two shells at once, a hundred children at a time each.
    let storm = "i=0; while [ $i -lt 50 ]; do j=0; while [ $j -lt 100 ]; do (:) & j=$((j+1)); done; wait; i=$((i+1)); done";
    let shell = || {
        program("sh")
            .args(["-c", storm])
            .stdin(Stdio::null())
            .spawn()
    };
    let mut shells = [shell()?, shell()?];
    for shell in &mut shells {
        ensure!(shell.wait()?.success(), "the storm itself failed");
    }
    let (seen, lost) =
        daemon.wait_for("every one of them is seen or counted as lost", |daemon| {
            let (now, gone) = exits(daemon)?;
            let (seen, lost) = (now - seen, gone - lost);
            (seen + lost >= 10_000.0).then_some((seen, lost))
        })?;
    println!(
        "{seen} exits seen, {lost} lost, peak memory {} KiB",
        peak(&daemon)? >> 10
    );
    ensure!(peak(&daemon)? < 64 << 20, "{} bytes", peak(&daemon)?);
    auth.fault("crash", &[])?;
    let incident = daemon.incident("it still repairs", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(
        incident.evidence.probe.is_some(),
        "by the kernel's event: {incident:#?}"
    );
    Ok(())
}

#[test]
fn a_crash_in_the_middle_of_a_burst_is_repaired() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    let storm = "while :; do j=0; while [ $j -lt 50 ]; do (:) & j=$((j+1)); done; wait; done";
    let mut shell = program("sh")
        .args(["-c", storm])
        .stdin(Stdio::null())
        .spawn()?;
    let before = exits(&daemon);
    let repaired = (|| {
        let before = before.context("no metrics")?.0;
        daemon.wait_for("the storm has begun", |daemon| {
            (exits(daemon)?.0 > before + 500.0).then_some(())
        })?;
        smart_monitor_tests::send(process, rustix::process::Signal::KILL)?;
        daemon.incident("it is repaired", |incident| {
            is_fixed(incident, "service_down", "auth")
        })?;
        Ok(())
    })();
    shell.kill()?;
    shell.wait()?;
    repaired
}

/// Takes all that is left.
fn fill(file: &mut File) -> Result<()> {
    for size in [4096, 1] {
        while file.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
    }
    ensure!(file.write(&[0]).is_err(), "the file system has no end");
    Ok(())
}

#[test]
fn with_a_full_disk_nothing_acts_and_with_space_again_it_does() -> Result<()> {
    let mut site = Site::new()?;
    site.mount_state("256k")?;
    let auth = Simulated::new("auth")?;
    // Were an attempt that could not be written counted as an action, the limit would be reached while the disk is full.
    let limits = "[policy]\nbackoff_initial = \"10ms\"\nbackoff_max = \"10ms\"\nlimit = 20\n";
    site.configure(&(limits.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    let filler = site.state().join("filler");
    fill(&mut File::create(&filler)?)?;
    // What is left of the journal's last block may be enough for an act or two.
    let mut halted = false;
    for _ in 0..20 {
        let process = daemon.healthy("auth")?;
        auth.fault("crash", &[])?;
        halted = daemon.wait_for("it is repaired, or nothing acts", |daemon| {
            let health = daemon.health().ok()?;
            let incidents = daemon.incidents().ok()?;
            let repaired = incidents.iter().any(|incident| {
                is_fixed(incident, "service_down", "auth")
                    && incident.evidence.process == Some(process)
            });
            let halted = health.status == Condition::Unhealthy;
            (halted || (repaired && daemon.service("auth").is_some())).then_some(halted)
        })?;
        if halted {
            break;
        }
    }
    ensure!(
        halted,
        "the disk was full, and it went on acting: {}",
        daemon.last_words()
    );
    let (code, body) = http_get(site.http, "/health")?;
    ensure!(code == 503 && body.contains("journal"), "{code}: {body}");
    daemon.says("nothing acts")?;
    // The line that did not fit may have been one after a repair: then it still runs.
    if daemon.service("auth").is_some() {
        auth.fault("crash", &[])?;
    }
    let waiting = daemon.incident("it says why it does not act", |incident| {
        is(incident, "service_down", "auth") && tells(incident, StepKind::Refused, "journal")
    })?;
    ensure!(
        site.running()?.is_empty(),
        "nothing was started: {:?}",
        site.running()?
    );
    // It tries again and again, and never by acting first. Twelve seconds are two of its rounds.
    let actions = waiting.actions;
    std::thread::sleep(std::time::Duration::from_secs(12));
    ensure!(
        site.running()?.is_empty(),
        "nothing was started: {:?}",
        site.running()?
    );
    let still = daemon.incident("it is still there", |incident| incident.id == waiting.id)?;
    ensure!(
        still.actions == actions,
        "attempts that cannot be written count as actions: {still:#?}"
    );
    std::fs::remove_file(&filler)?;
    daemon.incident("it is repaired", |incident| {
        incident.id == waiting.id && is_fixed(incident, "service_down", "auth")
    })?;
    daemon.healthy("auth")?;
    let health = daemon.health()?;
    ensure!(health.status != Condition::Unhealthy, "{health:#?}");
    // Whole lines only, and the intent before the effect here too.
    let journal = site.journal()?;
    let id = waiting.id.0;
    let (intent, effect) = (
        position(&journal, "intent", id),
        position(&journal, "effect", id),
    );
    ensure!(intent.is_some() && effect.is_some(), "{journal:#?}");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn it_answers_while_others_keep_its_connections_busy() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    // Callers who say nothing, or half a request.
    let mut idle = Vec::new();
    for number in 0..600 {
        if let Ok(mut stream) = std::net::TcpStream::connect(site.http) {
            if number % 2 == 0 {
                let _refused = stream.write(b"GET /metrics HTT");
            }
            idle.push(stream);
        }
    }
    auth.fault("crash", &[])?;
    daemon.incident("it repairs, and answers on its socket", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(peak(&daemon)? < 64 << 20, "{} bytes", peak(&daemon)?);
    drop(idle);
    daemon.wait_for("it answers over TCP again", |daemon| {
        daemon.get("/api/v1/status").ok()
    })?;
    Ok(())
}
