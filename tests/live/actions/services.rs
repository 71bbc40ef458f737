//! Services that are stopped, started and told to reload by hand: with the real daemon, which dies in between.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{ProcessKey, ServiceState};
use smart_monitor_tests::{Daemon, Site, send};

use super::{act, acted_upon, told};

/// Waits; also where whoever started the tests ignores SIGHUP.
const CALM: &str = "exec env --default-signal=HUP sleep 1000";

const RULES: &str = r#"
[[remedy]]
name = "by-hand"
detector = "manual"
on = ["*"]
step = [
    { action = "stop_service", term_grace = "20s" },
    { action = "start_service" },
    { action = "reload_service" },
    { action = "restart_service" },
]
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
"#;

/// A service that is this script; `lines` are added to its table.
fn service(site: &Site, name: &str, script: &str, lines: &str) -> Result<String> {
    let path = site.script(name, script)?;
    Ok(format!(
        "[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"{}\"]\n{lines}\n",
        path.display()
    ))
}

fn is_stopped(daemon: &Daemon, name: &str) -> Result<bool> {
    let services = daemon.status()?.view.services;
    let stopped = services
        .get(name)
        .map(|it| it.state == ServiceState::Stopped);
    Ok(stopped == Some(true) && daemon.service(name).is_none())
}

fn runs_anew(daemon: &mut Daemon, name: &str, old: ProcessKey) -> Result<ProcessKey> {
    let new = daemon.healthy(name)?;
    ensure!(
        new != old && procfs::runs(new) && !procfs::runs(old),
        "{old} {new}"
    );
    Ok(new)
}

#[test]
fn a_stopped_service_stays_so_until_it_is_started() -> Result<()> {
    let site = Site::new()?;
    site.configure(&(service(&site, "calm", CALM, "")? + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("calm")?;
    acted_upon(&site, &daemon, "start_service calm", 1, "runs already")?;
    acted_upon(&site, &daemon, "stop_service calm", 0, "calm does not run")?;
    ensure!(
        is_stopped(&daemon, "calm")? && !procfs::runs(first),
        "it is stopped"
    );
    acted_upon(
        &site,
        &daemon,
        "restart_service calm",
        1,
        "start_service starts it",
    )?;
    acted_upon(&site, &daemon, "reload_service calm", 1, "does not say how")?;
    acted_upon(&site, &daemon, "stop_service calm", 1, "is stopped already")?;

    // Neither the death of the daemon nor its orderly end starts it.
    daemon.kill()?;
    drop(daemon);
    let mut daemon = site.start()?;
    daemon.says("it was stopped, and stays so")?;
    daemon.wait_for("it is stopped", |daemon| {
        is_stopped(daemon, "calm").ok()?.then_some(())
    })?;
    daemon.stop()?;
    let mut daemon = site.start()?;
    daemon.says("it was stopped, and stays so")?;
    ensure!(!site.running()?.contains_key("calm"), "it is not started");
    acted_upon(&site, &daemon, "start_service calm", 0, "calm runs as pid")?;
    let second = runs_anew(&mut daemon, "calm", first)?;

    // And from there on it is a service like any other; also when what was stopped is undone.
    let stopped = act(&site, &daemon, "stop_service calm", 0)?;
    let undo = stopped.id.to_string();
    ensure!(told(&site, &["undo", &undo])?.0 == 0, "it can be undone");
    let third = runs_anew(&mut daemon, "calm", second)?;
    send(third, Signal::KILL)?;
    daemon.incident("it is restarted", |incident| {
        incident.detector == "service_down" && incident.is_over()
    })?;
    runs_anew(&mut daemon, "calm", third)?;
    let down = daemon.incidents()?;
    let down = down.iter().filter(|it| it.detector == "service_down");
    ensure!(down.count() == 1, "stopping is no crash");
    Ok(())
}

/// Between SIGTERM and the end: what was begun is not taken for done.
#[test]
fn a_daemon_that_dies_while_it_stops_a_service_takes_it_over_again() -> Result<()> {
    let site = Site::new()?;
    let deaf = "trap 'echo term >> \"$0.told\"' TERM; while :; do sleep 0.05; done";
    site.configure(&(service(&site, "deaf", deaf, "")? + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("deaf")?;
    ensure!(
        told(&site, &["act", "stop_service", "deaf", "--wait", "0s"])?.0 == 1,
        "not over"
    );
    let asked = site.path("deaf.told");
    daemon.wait_for("it was asked to leave", |_| asked.exists().then_some(()))?;
    daemon.kill()?;
    drop(daemon);
    let mut daemon = site.start()?;
    daemon.says("found running, taken over")?;
    ensure!(daemon.healthy("deaf")? == first, "it is the same");
    send(first, Signal::KILL)?;
    daemon.incident("it is no service that was stopped", |incident| {
        incident.detector == "service_down" && incident.is_over()
    })?;
    runs_anew(&mut daemon, "deaf", first)?;
    Ok(())
}

#[test]
fn a_reload_keeps_the_process_or_is_a_failure() -> Result<()> {
    let site = Site::new()?;
    let hears = "trap 'echo hup >> \"$0.told\"' HUP; while :; do sleep 0.05; done";
    let good = site.script("good", "echo \"$SMART_MONITOR_SERVICE\" > \"$0.told\"")?;
    let bad = site.script("bad", "echo no such file >&2; exit 3")?;
    let by = |path: &std::path::Path| format!("reload = {{ command = [\"{}\"] }}", path.display());
    let hup = "reload = { signal = \"SIGHUP\" }";
    let services = [
        service(&site, "hears", hears, hup)?,
        service(&site, "deaf", CALM, hup)?,
        service(&site, "asked", CALM, &by(&good))?,
        service(&site, "wrong", CALM, &by(&bad))?,
    ];
    site.configure(&(services.concat() + RULES))?;
    let mut daemon = site.start()?;
    let before = ["hears", "deaf", "asked", "wrong"].map(|name| daemon.healthy(name));
    acted_upon(
        &site,
        &daemon,
        "reload_service hears",
        0,
        "hears still runs as pid",
    )?;
    let word = site.path("hears.told");
    daemon.wait_for("it has heard", |_| word.exists().then_some(()))?;
    acted_upon(
        &site,
        &daemon,
        "reload_service asked",
        0,
        "asked still runs as pid",
    )?;
    ensure!(
        std::fs::read_to_string(site.path("good.told"))? == "asked\n",
        "it ran"
    );
    acted_upon(&site, &daemon, "reload_service wrong", 1, "no such file")?;

    // One that dies of it is found down, and restarted.
    acted_upon(&site, &daemon, "reload_service deaf", 1, "it ended of that")?;
    daemon.incident("it is restarted", |incident| {
        incident.detector == "service_down" && incident.is_over() && incident.actions == 1
    })?;
    let [hears, deaf, asked, wrong] = before;
    runs_anew(&mut daemon, "deaf", deaf?)?;
    for (name, process) in [("hears", hears?), ("asked", asked?), ("wrong", wrong?)] {
        ensure!(daemon.service(name) == Some(process), "{name} is as it was");
    }
    Ok(())
}

#[test]
fn what_vanishes_before_it_is_done_is_refused() -> Result<()> {
    let site = Site::new()?;
    let lines = "reload = { signal = \"SIGHUP\" }\n";
    site.configure(&(service(&site, "calm", CALM, lines)? + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("calm")?;
    acted_upon(&site, &daemon, "stop_service calm", 0, "calm does not run")?;
    acted_upon(&site, &daemon, "reload_service calm", 1, "does not run")?;
    acted_upon(&site, &daemon, "start_service calm", 0, "calm runs as pid")?;
    runs_anew(&mut daemon, "calm", first)?;
    // Its program is gone by the time that it is to be started: from there on it is a service that is down.
    acted_upon(&site, &daemon, "stop_service calm", 0, "calm does not run")?;
    std::fs::remove_file(site.path("calm"))?;
    let failed = act(&site, &daemon, "start_service calm", 1)?;
    let said = failed
        .steps
        .iter()
        .any(|step| step.what == StepKind::Failed && step.detail.contains("cannot start"));
    ensure!(said, "{failed:#?}");
    ensure!(!is_stopped(&daemon, "calm")?, "it is to run");
    site.script("calm", CALM)?;
    daemon.incident("it is restarted", |incident| {
        incident.detector == "service_down" && incident.is_over()
    })?;
    daemon.healthy("calm")?;
    Ok(())
}
