//! The daemon as systemd's service: its start, its end, its crash, its reload, and what becomes of its services.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor_tests::send;

use super::Scene;
use super::stage::{
    DAEMON, Installed, WAITER, becomes, cgroup, configuration, journal, main_process, property,
    run, systemctl,
};

pub(crate) const SCENES: &[Scene] = &[
    ("the_system_runs", the_system_runs),
    (
        "the_daemon_starts_and_ends_in_order",
        the_daemon_starts_and_ends_in_order,
    ),
    (
        "a_killed_daemon_comes_back_to_its_services",
        a_killed_daemon_comes_back_to_its_services,
    ),
    (
        "a_restart_leaves_services_alone",
        a_restart_leaves_services_alone,
    ),
    (
        "a_reload_with_a_mistake_changes_nothing",
        a_reload_with_a_mistake_changes_nothing,
    ),
    (
        "a_killed_service_of_its_own_is_restarted_once",
        a_killed_service_of_its_own_is_restarted_once,
    ),
];

fn the_system_runs() -> Result<String> {
    let (_, state) = run("systemctl", &["is-system-running", "--wait"])?;
    let (_, failed) = run("systemctl", &["--failed", "--no-legend", "--plain"])?;
    ensure!(state == "running", "the system is {state}: {failed}");
    let version = systemctl(&["--version"])?;
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let seconds = uptime.split(' ').next().unwrap_or_default();
    let version = version.lines().next().unwrap_or_default();
    Ok(format!("{version}; {seconds} s after power on"))
}

fn the_daemon_starts_and_ends_in_order() -> Result<String> {
    let began = Instant::now();
    let daemon = Installed::new(&configuration("stop", WAITER))?;
    let observed = began.elapsed();
    ensure!(property(DAEMON, "ActiveState")? == "active", "it is active");
    let own = main_process(DAEMON)?;
    let service = daemon.healthy("waiter")?;
    let folder = cgroup(DAEMON)?;
    let (of_daemon, of_service) = (place(own.pid)?, place(service.pid)?);
    ensure!(
        of_service.starts_with(&of_daemon) && of_service != of_daemon,
        "a service is in a cgroup of its own below the daemon's: {of_service}, {of_daemon}"
    );
    let controllers = std::fs::read_to_string(folder.join("cgroup.controllers"))?;
    ensure!(
        ["cpu", "memory"]
            .iter()
            .all(|name| controllers.split_whitespace().any(|it| it == *name)),
        "delegated to it: {controllers}"
    );
    let began = Instant::now();
    systemctl(&["stop", DAEMON])?;
    let stopped = began.elapsed();
    ensure!(
        property(DAEMON, "Result")? == "success" && property(DAEMON, "ActiveState")? == "inactive",
        "it ends in order: {}",
        journal(DAEMON)
    );
    ensure!(!procfs::runs(service), "its service ended with it");
    ensure!(
        property(DAEMON, "NRestarts")? == "0",
        "it was not restarted"
    );
    Ok(format!(
        "observes after {observed:.1?}, stopped after {stopped:.1?}"
    ))
}

/// The path of a process's cgroup of version 2.
fn place(pid: u32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(path.context("it is in no cgroup")?.to_owned())
}

fn a_killed_daemon_comes_back_to_its_services() -> Result<String> {
    let daemon = Installed::new(&configuration("stop", WAITER))?;
    let service = daemon.healthy("waiter")?;
    let first = main_process(DAEMON)?;
    let began = Instant::now();
    send(first, Signal::KILL)?;
    becomes(DAEMON, "NRestarts", "1")?;
    daemon.observes()?;
    let back = began.elapsed();
    ensure!(main_process(DAEMON)? != first, "it is another process");
    ensure!(
        daemon.healthy("waiter")? == service,
        "the service was taken over"
    );
    let acts: u32 = daemon.incidents()?.iter().map(|it| it.actions).sum();
    ensure!(
        acts == 0,
        "nothing was to be done: {:#?}",
        daemon.incidents()?
    );
    systemctl(&["stop", DAEMON])?;
    ensure!(
        !procfs::runs(service),
        "it ends with a daemon that did not start it, too"
    );
    Ok(format!(
        "observes again {back:.1?} after SIGKILL, of which systemd waits 1 s"
    ))
}

fn a_restart_leaves_services_alone() -> Result<String> {
    let daemon = Installed::new(&configuration("leave", WAITER))?;
    let service = daemon.healthy("waiter")?;
    let began = Instant::now();
    systemctl(&["restart", DAEMON])?;
    daemon.observes()?;
    ensure!(
        daemon.healthy("waiter")? == service,
        "the service was taken over"
    );
    let took = began.elapsed();
    let acts: u32 = daemon.incidents()?.iter().map(|it| it.actions).sum();
    ensure!(
        acts == 0,
        "nothing was to be done: {:#?}",
        daemon.incidents()?
    );
    daemon.configure(&configuration("stop", WAITER))?;
    systemctl(&["reload", DAEMON])?;
    daemon.wait_for("the reload is taken over", || {
        journal(DAEMON).contains("reload").then_some(())
    })?;
    Ok(format!("took {took:.1?}"))
}

fn a_reload_with_a_mistake_changes_nothing() -> Result<String> {
    let daemon = Installed::new(&configuration("stop", WAITER))?;
    let (own, service) = (main_process(DAEMON)?, daemon.healthy("waiter")?);
    daemon.configure("[[service]]\nnam = \"waiter\"\n")?;
    let (good, said) = run("systemctl", &["reload", DAEMON])?;
    ensure!(!good, "a reload with a mistake succeeded: {said}");
    ensure!(property(DAEMON, "ActiveState")? == "active", "it goes on");
    ensure!(
        main_process(DAEMON)? == own && daemon.healthy("waiter")? == service,
        "nothing changed"
    );
    let more = WAITER.replace("waiter", "another");
    daemon.configure(&configuration("stop", &format!("{WAITER}{more}")))?;
    systemctl(&["reload", DAEMON])?;
    daemon.healthy("another")?;
    ensure!(
        main_process(DAEMON)? == own && daemon.healthy("waiter")? == service,
        "what is not new goes on"
    );
    Ok(String::new())
}

fn a_killed_service_of_its_own_is_restarted_once() -> Result<String> {
    let daemon = Installed::new(&configuration("stop", WAITER))?;
    let service = daemon.healthy("waiter")?;
    let began = Instant::now();
    send(service, Signal::KILL)?;
    let next = daemon.healthy_but("waiter", Some(service))?;
    let took = began.elapsed();
    let incident = daemon.wait_for("the incident is over", || {
        let all = daemon.incidents().ok()?;
        all.into_iter()
            .find(|it| it.detector == "service_down" && it.is_over())
    })?;
    ensure!(incident.actions == 1, "one act: {incident:#?}");
    ensure!(daemon.healthy("waiter")? == next, "and no other start");
    Ok(format!("healthy again after {took:.1?}"))
}
