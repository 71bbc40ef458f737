//! Applications of a real PM2.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::{State, StepKind};
use smart_monitor::model::{Incident, ProcessKey, ServiceState};
use smart_monitor_tests::{Daemon, Site, program, send};

const REMEDY: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
attempts = 1
[[remedy]]
detector = "memory_pressure"
on = ["*"]
action = "restart_service"
"#;

/// Applications note their starts, and fail while there is a file `NAME.broken`.
const SCRIPT: &str = "echo >> \"$0.starts\"; [ -e \"$0.broken\" ] && exit 3; exec sleep 1000";
/// Takes 200 MiB, once it is told to.
const LEAKS: &str = "exec python3 -c 'import os, sys, time
while not os.path.exists(sys.argv[1]): time.sleep(0.05)
os.rename(sys.argv[1], sys.argv[1] + \".seen\")
taken = b\"x\" * (200 << 20)
time.sleep(1000)' \"$0.leak\"";

fn pm2(site: &Site, words: &[&str]) -> Command {
    let mut command = program("pm2");
    command.args(words).env("PM2_HOME", site.path("pm2"));
    // What it starts goes away with the site.
    command.env("SMART_MONITOR_STATE_DIR", site.state());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

pub(super) fn tell(site: &Site, words: &[&str]) -> Result<()> {
    let ended = pm2(site, words).status();
    let ended = ended.context("no pm2: .ci/run installs it")?;
    ensure!(ended.success(), "pm2 {words:?}: {ended}");
    Ok(())
}

fn start(site: &Site, name: &str, text: &str, options: &[&str]) -> Result<()> {
    let script = site.script(name, text)?;
    let script = script.to_str().context("a path in UTF-8")?;
    let mut words = vec!["start", script, "--interpreter", "none", "--name", name];
    words.extend(options);
    tell(site, &words)
}

fn service(site: &Site, name: &str, lines: &str) -> String {
    let home = site.path("pm2");
    format!(
        "[[service]]\nname = \"{name}\"\nkind = \"pm2\"\nwith = {{ home = \"{}\" }}\n{lines}\n",
        home.display()
    )
}

fn starts(site: &Site, name: &str) -> Result<usize> {
    Ok(fs::read(site.path(&format!("{name}.starts")))?.len())
}

fn repaired(daemon: &mut Daemon, name: &str, old: ProcessKey) -> Result<(Incident, ProcessKey)> {
    let incident = daemon.incident(&format!("{name} is repaired"), |it| {
        it.subject.configured_name() == Some(name) && it.is_over()
    })?;
    let new = daemon.healthy(name)?;
    ensure!(new != old && procfs::runs(new), "{old} {new}");
    Ok((incident, new))
}

fn is(daemon: &mut Daemon, name: &str, state: ServiceState) -> Result<()> {
    daemon.wait_for(&format!("{name} is {}", state.name()), |daemon| {
        let view = daemon.status().ok()?.view.services.remove(name)?;
        (view.state == state).then_some(())
    })
}

#[test]
fn an_end_is_repaired_once_and_a_stop_never() -> Result<()> {
    let site = Site::new()?;
    start(&site, "heals", SCRIPT, &[])?;
    start(&site, "left", SCRIPT, &["--no-autorestart"])?;
    start(
        &site,
        "alone",
        SCRIPT,
        &["--no-autorestart", "--no-treekill"],
    )?;
    start(&site, "leaks", LEAKS, &[])?;
    let text: String = ["heals", "left", "alone"]
        .iter()
        .map(|name| service(&site, name, ""))
        .chain([service(&site, "leaks", "memory_max = \"100MiB\"")])
        .collect();
    site.configure(&(text + REMEDY))?;
    let mut daemon = site.start()?;

    let heals = daemon.healthy("heals")?;
    send(heals, Signal::KILL)?;
    let (theirs, heals) = repaired(&mut daemon, "heals", heals)?;
    ensure!(theirs.actions == 0, "they did it: {theirs:#?}");
    let tells = |it: &Incident| it.steps.iter().any(|it| it.detail.contains("pm2"));
    ensure!(tells(&theirs), "it says who: {theirs:#?}");
    ensure!(starts(&site, "heals")? == 2, "it was started once again");

    let left = daemon.healthy("left")?;
    send(left, Signal::KILL)?;
    let (ours, _) = repaired(&mut daemon, "left", left)?;
    let acted = ours.steps.iter().filter(|it| it.what == StepKind::Acted);
    ensure!(
        ours.actions == 1 && acted.count() == 1,
        "we did it: {ours:#?}"
    );
    ensure!(starts(&site, "left")? == 2, "it was started once again");

    // A stop is none of our business, whatever PM2 keeps of it.
    for name in ["heals", "left", "alone"] {
        daemon.healthy(name)?;
        tell(&site, &["stop", name])?;
        is(&mut daemon, name, ServiceState::Stopped)?;
    }
    ensure!(!procfs::runs(heals), "it is stopped");
    let all = daemon.incidents()?;
    ensure!(all.len() == 2, "to stop it is no fault: {all:#?}");
    tell(&site, &["restart", "heals"])?;
    daemon.healthy("heals")?;

    // Memory is nothing that PM2 was told to look after.
    let leaks = daemon.healthy("leaks")?;
    fs::write(site.path("leaks.leak"), "")?;
    let (leaked, _) = repaired(&mut daemon, "leaks", leaks)?;
    ensure!(leaked.detector.contains("memory"), "{leaked:#?}");
    ensure!(leaked.actions == 1, "{leaked:#?}");
    let count = ["heals", "left", "alone"].map(|name| starts(&site, name).unwrap_or(0));
    ensure!(count == [3, 2, 1], "nobody started another: {count:?}");
    Ok(())
}

#[test]
fn what_pm2_gives_up_is_tried_once_and_without_pm2_nothing_is_known() -> Result<()> {
    let site = Site::new()?;
    start(&site, "flaps", SCRIPT, &["--max-restarts", "2"])?;
    start(&site, "web", SCRIPT, &[])?;
    site.configure(&(service(&site, "flaps", "") + &service(&site, "web", "") + REMEDY))?;
    let mut daemon = site.start()?;
    let flaps = daemon.healthy("flaps")?;
    let web = daemon.healthy("web")?;
    // PM2 counts ends only of what it was told to start a short time ago.
    fs::write(site.path("flaps.broken"), "")?;
    tell(&site, &["restart", "flaps"])?;
    let incident = daemon.incident("a person is needed", |it| it.state == State::Escalated)?;
    ensure!(!procfs::runs(flaps), "it is gone");
    ensure!(incident.actions == 1, "one remedy: {incident:#?}");
    daemon.wait_for("it says why", |daemon| {
        let view = daemon.status().ok()?.view.services.remove("flaps")?;
        let why = view.service.gave_up?;
        why.contains("errored: given up").then_some(())
    })?;
    ensure!((4..=8).contains(&starts(&site, "flaps")?), "no storm");

    let pid = fs::read_to_string(site.path("pm2/pm2.pid"))?
        .trim()
        .parse()?;
    let god = procfs::stat(pid).context("PM2 runs")?.key;
    send(god, Signal::KILL)?;
    is(&mut daemon, "web", ServiceState::Unknown)?;
    let view = daemon
        .status()?
        .view
        .services
        .remove("web")
        .context("it is there")?;
    let why = view.service.unknown.unwrap_or_default();
    ensure!(why.contains("nobody listens at"), "{why}");
    start(&site, "web", SCRIPT, &[])?;
    let second = daemon.wait_for("its new process is seen", |daemon| {
        daemon.service("web").filter(|it| *it != web)
    })?;
    ensure!(daemon.healthy("web")? == second, "it is well");
    let all = daemon.incidents()?;
    ensure!(all.len() == 1, "that is no fault of the service: {all:#?}");
    Ok(())
}
