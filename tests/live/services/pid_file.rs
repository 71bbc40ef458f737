//! Programs that put themselves into the background and write their PID to a file: a real Redis, and worse ones.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::ServiceState;
use smart_monitor::model::incident::State;
use smart_monitor_tests::{Daemon, Site, free_port, program, send};

const RULES: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
"#;

fn stopped(daemon: &mut Daemon, name: &str) -> Result<()> {
    daemon.wait_for("it is told as stopped", |daemon| {
        let services = daemon.status().ok()?.view.services;
        (services.get(name)?.state == ServiceState::Stopped).then_some(())
    })
}

#[test]
fn a_real_one_is_restarted_once_and_left_alone_when_stopped() -> Result<()> {
    let site = Site::new()?;
    let (file, at) = (site.path("redis.pid"), free_port()?);
    let port = at.port().to_string();
    let file = file.display().to_string();
    let start = [
        "redis-server",
        "--daemonize",
        "yes",
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
        "--pidfile",
        &file,
        "--save",
        "",
    ];
    let config = format!(
        r#"
[[service]]
name = "redis"
kind = "pid_file"
with = {{ file = "{file}", start = {start:?} }}
check = {{ tcp = "{at}", interval = "100ms" }}
"#
    );
    let started = program(start[0]).args(&start[1..]).status()?;
    ensure!(started.success(), "Redis does not start");
    site.configure(&(config + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("redis")?;
    send(first, Signal::KILL)?;
    daemon.incident("the crash is repaired", |it| it.state == State::Resolved)?;
    let second = daemon.healthy("redis")?;
    ensure!(second != first && procfs::runs(second), "{first} {second}");
    ensure!(
        daemon.incidents()?.iter().map(|it| it.actions).sum::<u32>() == 1,
        "once"
    );

    // What it does itself when it is told to end: it takes its file away.
    send(second, Signal::TERM)?;
    stopped(&mut daemon, "redis")?;
    ensure!(
        !procfs::runs(second) && daemon.incidents()?.len() == 1,
        "{}",
        daemon.log()
    );
    Ok(())
}

#[test]
fn a_start_that_hangs_is_ended_and_told() -> Result<()> {
    let site = Site::new()?;
    let file = site.path("pid").display().to_string();
    let background = format!("setsid sleep 1000 >/dev/null 2>&1 & echo $! >{file}");
    let script = site.script("begin", &background)?;
    ensure!(program(&script).status()?.success(), "it starts by hand");
    site.script("begin", "echo starting; sleep 1000")?;
    let begin = script.display();
    let config = format!(
        r#"
[[service]]
name = "web"
kind = "pid_file"
with = {{ file = "{file}", start = ["{begin}"], timeout = "1s" }}
"#
    );
    site.configure(&(config + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("web")?;
    send(first, Signal::KILL)?;
    let incident = daemon.incident("it is told", |it| {
        let mut steps = it.steps.iter();
        steps.any(|step| step.detail.contains("took longer than 1s and was ended"))
    })?;
    ensure!(incident.detector == "service_down", "{incident:#?}");
    // Mended by a person, who starts it by hand.
    site.script("begin", &background)?;
    ensure!(program(&script).status()?.success(), "it starts by hand");
    let second = daemon.wait_for("it is seen to run", |daemon| {
        daemon.service("web").filter(|it| procfs::runs(*it))
    })?;
    // Rubbish in its file is no reason to do anything to it.
    std::fs::write(site.path("pid"), "rubbish")?;
    daemon.wait_for("nobody can say", |daemon| {
        let unknown = daemon
            .status()
            .ok()?
            .view
            .services
            .get("web")?
            .service
            .unknown
            .clone();
        unknown?.contains("has no PID in it").then_some(())
    })?;
    ensure!(procfs::runs(second), "it is left alone");
    send(second, Signal::KILL)?;
    Ok(())
}

/// A program in the background, started by a script; the script's text, and what stands in `with`.
fn in_background(site: &Site, more: &str) -> Result<(std::path::PathBuf, String, String)> {
    let file = site.path("pid").display().to_string();
    let background = format!("setsid sleep 1000 >/dev/null 2>&1 & echo $! >{file}");
    let script = site.script("begin", &background)?;
    ensure!(program(&script).status()?.success(), "it starts by hand");
    let with = format!(
        "file = \"{file}\", start = [\"{}\"]{more}",
        script.display()
    );
    Ok((script, background, with))
}

#[test]
fn one_that_is_ended_and_whose_file_is_taken_away_after_is_stopped() -> Result<()> {
    let site = Site::new()?;
    let (_, _, with) = in_background(&site, "")?;
    let config = format!("[[service]]\nname = \"web\"\nkind = \"pid_file\"\nwith = {{ {with} }}\n");
    site.configure(&(config + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("web")?;
    // As `start-stop-daemon --stop --remove-pidfile` has it: the end first, then the file.
    send(first, Signal::TERM)?;
    daemon.wait_for("it has ended", |_| (!procfs::runs(first)).then_some(()))?;
    std::fs::remove_file(site.path("pid"))?;
    stopped(&mut daemon, "web")?;
    ensure!(daemon.incidents()?.is_empty(), "{}", daemon.log());
    Ok(())
}

#[test]
fn one_that_a_restart_of_ours_leaves_down_is_repaired_when_it_can_be() -> Result<()> {
    let site = Site::new()?;
    let (script, background, with) = in_background(&site, "")?;
    let config = format!("[[service]]\nname = \"web\"\nkind = \"pid_file\"\nwith = {{ {with} }}\n");
    let rules = RULES.replace("action =", "attempts = 20\naction =");
    site.configure(&(config + &rules))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("web")?;
    site.script("begin", "echo no >&2; exit 3")?;
    send(first, Signal::KILL)?;
    daemon.incident("its start fails", |it| {
        let mut steps = it.steps.iter();
        steps.any(|step| step.detail.contains("failed (wait status 0x300)"))
    })?;
    ensure!(!script.with_file_name("pid").exists(), "its file is gone");
    let down = daemon.status()?.view.services;
    let down = down.get("web").map(|it| it.state);
    ensure!(down == Some(ServiceState::Down), "{down:?}");
    site.script("begin", &background)?;
    daemon.incident("it is repaired", |it| it.state == State::Resolved)?;
    let second = daemon.healthy("web")?;
    send(second, Signal::KILL)?;
    Ok(())
}
