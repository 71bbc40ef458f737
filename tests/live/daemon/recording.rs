//! Recordings of a real daemon: begun at its start and in the middle of its life, and replayed to what it did.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor_tests::{Daemon, PATIENCE, Simulated, Site, binary, program, send, wait_until};

use super::{is_fixed, restarts};

/// No cooldowns: a replay does not know the actions of before, and would not wait as long as the daemon did.
const FAST: &str = "[policy]\nbackoff_initial = \"0s\"\nbackoff_max = \"0s\"\nlimit = 20\n";

fn replay(recording: &Path, more: &[&str]) -> Result<(Output, String)> {
    let mut command = program(binary()?);
    command.arg("replay").arg(recording).args(more);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output, said))
}

/// Its process ends, and it is started anew.
fn crash(daemon: &mut Daemon, service: &Simulated) -> Result<()> {
    let process = daemon.healthy(service.name)?;
    service.fault("crash", &[])?;
    daemon.incident("a crash is repaired", |incident| {
        is_fixed(incident, "service_down", service.name)
            && incident.evidence.process == Some(process)
    })?;
    daemon.healthy(service.name)?;
    Ok(())
}

#[test]
fn a_recording_from_the_middle_replays_to_what_was_done() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(FAST.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    // Before it begins: an incident whose number the replay must not run into.
    crash(&mut daemon, &auth)?;
    let file = site.path("middle.rec");
    let mut command = program(binary()?);
    command
        .arg("record")
        .arg(&file)
        .arg("--socket")
        .arg(site.socket());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut recording = command.spawn()?;
    daemon.wait_for("signals are recorded", |daemon| {
        let progress = daemon.get("/api/v1/recording").ok()?;
        (progress.get("signals")?.as_u64()? > 0).then_some(())
    })?;
    let mut second = program(binary()?);
    second.arg("record").arg(site.path("other.rec"));
    let second = second.arg("--socket").arg(site.socket()).output()?;
    let refused = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(
        second.status.code() == Some(1) && refused.contains("one at a time"),
        "{refused}"
    );
    ensure!(
        !site.path("other.rec").exists(),
        "nothing is left of what was refused"
    );
    crash(&mut daemon, &auth)?;
    crash(&mut daemon, &auth)?;
    let of_command = procfs::stat(recording.id()).context("it runs")?.key;
    send(of_command, Signal::INT)?;
    wait_until(PATIENCE, "the command ends", || {
        recording.try_wait().ok().flatten()
    })?;
    let output = recording.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && said.contains("it was asked to end"),
        "{said}"
    );
    ensure!(said.contains(" bytes a signal), 0 lost"), "{said}");
    let mode = std::fs::metadata(&file)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");

    let (output, said) = replay(&file, &[])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (line, times) in [
        ("service_down of service auth: act restart_service", 2),
        ("service_down of service auth: resolved, fixed", 2),
        ("would have", 0),
        ("not decided again", 0),
        ("missing", 0),
    ] {
        ensure!(
            said.matches(line).count() == times,
            "{times} times {line:?}:\n{said}"
        );
    }
    let ids: Vec<u64> = daemon
        .incidents()?
        .iter()
        .map(|incident| incident.id.0)
        .collect();
    for id in ids.iter().rev().take(2) {
        ensure!(
            said.contains(&format!("#{id:<4} service_down")),
            "{id} is another:\n{said}"
        );
    }

    // The recorded configuration is enough for a comparison, wherever the service is.
    let without = site.path("without.toml");
    let (_, config) = replay(&file, &["--dump-config"])?;
    ensure!(config.contains("restart_service"), "{config}");
    std::fs::write(
        &without,
        config.replace("\"restart_service\"", "\"kill_process\""),
    )?;
    let path = without.to_str().context("it is text")?;
    let (output, said) = replay(&file, &["--config", path])?;
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(
        said.contains(
            "restart_service of service auth: 2 as it was, 0 as it would be, 2 not any more"
        ),
        "{said}"
    );
    ensure!(
        said.contains("of 2 restart_service that would not be done any more, 2 had fixed"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_recording_from_the_start_follows_a_reload() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let good = FAST.to_owned() + &auth.toml() + &restarts();
    site.configure(&good)?;
    let file = site.path("start.rec");
    let mut daemon = site.start_with(|command| {
        command.arg("--record").arg(&file);
    })?;
    crash(&mut daemon, &auth)?;
    // From here on, nothing may be done.
    site.configure(&good.replace("[policy]", "[policy]\ndry_run = true"))?;
    daemon.signal(Signal::HUP)?;
    daemon.says("configuration reloaded")?;
    let process = daemon.healthy("auth")?;
    auth.fault("crash", &[])?;
    daemon.incident("it would have been repaired", |incident| {
        incident.detector == "service_down" && incident.evidence.process == Some(process)
    })?;
    daemon.stop()?;
    let (output, said) = replay(&file, &[])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let acts = said.matches(": act restart_service").count();
    let would = said
        .matches("service_down of service auth: would have (")
        .count();
    ensure!((acts, would) == (1, 1), "{said}");
    ensure!(
        !said.contains("cut short") && !said.contains("not decided again"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_recording_whose_command_was_killed_is_ended_by_another() -> Result<()> {
    let site = Site::new()?;
    site.configure("")?;
    let mut daemon = site.start()?;
    let command = |words: &[&str]| {
        let mut command = program(binary()?);
        command.arg("record").args(words);
        command.arg("--socket").arg(site.socket());
        anyhow::Ok(command)
    };
    let none = command(&["--stop"])?.output()?;
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    ensure!(none.status.code() == Some(1), "{said}");
    ensure!(said.contains("nothing is recorded"), "{said}");
    let file = site.path("left.rec").display().to_string();
    let mut left = command(&[&file])?;
    left.stdout(Stdio::null()).stderr(Stdio::null());
    let mut left = left.spawn()?;
    daemon.wait_for("it is recorded", |daemon| {
        daemon.get("/api/v1/recording").ok()
    })?;
    left.kill()?;
    left.wait()?;
    let other = site.path("other.rec").display().to_string();
    let second = command(&[&other])?.output()?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(second.status.code() == Some(1), "{said}");
    ensure!(
        said.contains("`sudo smart-monitor record --stop`"),
        "{said}"
    );
    let stopped = command(&["--stop"])?.output()?;
    let said = String::from_utf8_lossy(&stopped.stdout).into_owned();
    ensure!(stopped.status.success(), "{said}");
    ensure!(
        said.contains("left.rec: ") && said.contains("it was asked to end"),
        "{said}"
    );
    let again = command(&["--stop"])?.output()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(
        again.status.code() == Some(1) && said.contains("has ended"),
        "{said}"
    );
    let third = command(&[&other, "--for", "1s"])?.output()?;
    ensure!(third.status.success(), "there is room for another");
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_leaves_a_recording_that_reads() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(FAST.to_owned() + &auth.toml() + &restarts()))?;
    let file = site.path("killed.rec");
    let mut daemon = site.start_with(|command| {
        command.arg("--record").arg(&file);
    })?;
    crash(&mut daemon, &auth)?;
    let before = daemon.get("/api/v1/recording")?;
    let signals =
        |progress: &serde_json::Value| progress.get("signals").and_then(serde_json::Value::as_u64);
    daemon.wait_for("what was seen is in the file", |daemon| {
        let now = daemon.get("/api/v1/recording").ok()?;
        (signals(&now)? > signals(&before)?).then_some(())
    })?;
    daemon.kill()?;
    let (output, said) = replay(&file, &[])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(said.contains("the recording was cut short"), "{said}");
    ensure!(said.contains(": act restart_service"), "{said}");
    Ok(())
}
