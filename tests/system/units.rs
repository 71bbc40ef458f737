//! Services that systemd runs: what it repairs is left to it, what it does not is done once, and what a person stopped stays so.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::ServiceState;
use smart_monitor_tests::send;

use super::Scene;
use super::stage::{becomes, systemctl};
use super::unit_stage::Watched;

pub(crate) const SCENES: &[Scene] = &[
    (
        "a_unit_that_nobody_restarts_is_restarted_once",
        a_unit_that_nobody_restarts_is_restarted_once,
    ),
    (
        "a_unit_that_systemd_restarts_is_left_to_it",
        a_unit_that_systemd_restarts_is_left_to_it,
    ),
    (
        "a_unit_that_was_stopped_stays_so",
        a_unit_that_was_stopped_stays_so,
    ),
    (
        "a_unit_that_systemd_gave_up_is_started_again",
        a_unit_that_systemd_gave_up_is_started_again,
    ),
    (
        "a_unit_that_its_watchdog_ended_is_restarted",
        a_unit_that_its_watchdog_ended_is_restarted,
    ),
    (
        "a_unit_that_does_not_answer_is_restarted",
        a_unit_that_does_not_answer_is_restarted,
    ),
    (
        "a_unit_that_starts_slowly_is_waited_for",
        a_unit_that_starts_slowly_is_waited_for,
    ),
    (
        "a_unit_that_cannot_start_is_given_up",
        a_unit_that_cannot_start_is_given_up,
    ),
    (
        "a_unit_that_ends_again_and_again_is_given_up",
        a_unit_that_ends_again_and_again_is_given_up,
    ),
    (
        "what_needs_a_unit_is_not_restarted_with_it",
        what_needs_a_unit_is_not_restarted_with_it,
    ),
];

fn a_unit_that_nobody_restarts_is_restarted_once() -> Result<String> {
    let watched = Watched::started("plain", "", "ExecStart=/usr/bin/sleep 1001\nRestart=no")?;
    let (old, run) = (watched.process()?, watched.of_unit("InvocationID")?);
    let began = Instant::now();
    send(old, Signal::KILL)?;
    let took = watched.comes_back(old, began)?;
    watched.stays(2, 1, "0")?;
    ensure!(watched.of_unit("InvocationID")? != run, "it is another run");
    Ok(format!("restarted by the daemon, {took:.1?} after SIGKILL"))
}

fn a_unit_that_systemd_restarts_is_left_to_it() -> Result<String> {
    let lines = "ExecStart=/usr/bin/sleep 1002\nRestart=always\nRestartSec=2s";
    let watched = Watched::started("healed", "", lines)?;
    let old = watched.process()?;
    let began = Instant::now();
    send(old, Signal::KILL)?;
    let took = watched.comes_back(old, began)?;
    watched.stays(2, 0, "1")?;
    Ok(format!(
        "restarted by systemd, {took:.1?} after SIGKILL, with RestartSec=2s"
    ))
}

/// Of one that systemd would start anew after an end by itself, too.
fn a_unit_that_was_stopped_stays_so() -> Result<String> {
    for (name, restart) in [("stopped", "no"), ("kept", "always")] {
        let lines = format!("ExecStart=/usr/bin/sleep 1003\nRestart={restart}");
        let watched = Watched::started(name, "", &lines)?;
        systemctl(&["stop", &watched.unit.0])?;
        watched.wait_for("it is known as stopped", || {
            (watched.state()? == ServiceState::Stopped).then_some(())
        })?;
        watched.stays(1, 0, "0")?;
        systemctl(&["start", &watched.unit.0])?;
        watched.wait_for("it is well", || {
            (watched.state()? == ServiceState::Healthy).then_some(())
        })?;
        watched.stays(2, 0, "0")?;
        ensure!(watched.incidents()?.is_empty(), "{}", watched.words()?);
    }
    Ok("no act, no incident".to_owned())
}

fn a_unit_that_systemd_gave_up_is_started_again() -> Result<String> {
    let limit = "StartLimitIntervalSec=1h\nStartLimitBurst=3";
    let lines = "ExecStart=/usr/bin/sleep 1004\nRestart=on-failure\nRestartSec=100ms";
    let watched = Watched::started("limited", limit, lines)?;
    let mut last = watched.process()?;
    for _ in 0..2 {
        send(last, Signal::KILL)?;
        last = watched.wait_for("systemd starts it again", || {
            let active = watched.of_unit("ActiveState").ok()? == "active";
            watched
                .process()
                .ok()
                .filter(|next| active && *next != last)
        })?;
    }
    ensure!(watched.acts()? == 0, "so far it is systemd's");
    let began = Instant::now();
    send(last, Signal::KILL)?;
    let took = watched.comes_back(last, began)?;
    // An order begins their count anew.
    watched.stays(4, 1, "0")?;
    Ok(format!(
        "twice by systemd; the third time it gave up, and the daemon started it {took:.1?} after SIGKILL"
    ))
}

fn a_unit_that_its_watchdog_ended_is_restarted() -> Result<String> {
    let command = "/usr/local/bin/smart-monitor simulate --name hung --listen 127.0.0.1:8090";
    let lines =
        format!("Type=notify\nExecStart={command}\nWatchdogSec=5s\nTimeoutAbortSec=2s\nRestart=no");
    let watched = Watched::started("hung", "", &lines)?;
    let old = watched.process()?;
    let began = Instant::now();
    send(old, Signal::STOP)?;
    let took = watched.comes_back(old, began)?;
    ensure!(!procfs::runs(old), "the old one is gone");
    watched.stays(2, 1, "0")?;
    Ok(format!(
        "ended by systemd, restarted by the daemon, {took:.1?} after it stood still, with WatchdogSec=5s"
    ))
}

fn a_unit_that_does_not_answer_is_restarted() -> Result<String> {
    let command = "/usr/local/bin/smart-monitor simulate --name deaf --listen 127.0.0.1:8091";
    let lines = format!("Type=notify\nExecStart={command}\nTimeoutStopSec=2s\nRestart=no");
    let watched = Watched::started("deaf", "", &lines)?;
    let old = watched.process()?;
    let began = Instant::now();
    send(old, Signal::STOP)?;
    let took = watched.comes_back(old, began)?;
    ensure!(!procfs::runs(old), "the old one is gone");
    watched.stays(2, 1, "0")?;
    Ok(format!(
        "found and restarted by the daemon, {took:.1?} after it stood still, of which systemd waits 2 s before it kills"
    ))
}

fn a_unit_that_starts_slowly_is_waited_for() -> Result<String> {
    let command = "/usr/bin/sh -c 'sleep 20; systemd-notify --ready; exec sleep 1005'";
    let lines = format!("Type=notify\nNotifyAccess=all\nExecStart={command}\nRestart=no");
    let watched = Watched::written("slow", "", &lines)?;
    let began = Instant::now();
    systemctl(&["start", "--no-block", &watched.unit.0])?;
    watched.wait_for("it is ready", || {
        (watched.state()? == ServiceState::Healthy).then_some(())
    })?;
    let first = began.elapsed();
    ensure!(first >= Duration::from_secs(20), "it took {first:?}");
    watched.stays(1, 0, "0")?;
    let old = watched.process()?;
    let began = Instant::now();
    send(old, Signal::KILL)?;
    watched.comes_back(old, began)?;
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_secs(20),
        "the job was awaited: {took:?}"
    );
    watched.stays(2, 1, "0")?;
    Ok(format!(
        "by hand in {first:.1?}; restarted by the daemon, well again {took:.1?} after SIGKILL, of which its start takes 20 s"
    ))
}

fn a_unit_that_cannot_start_is_given_up() -> Result<String> {
    let watched = Watched::written(
        "broken",
        "",
        "ExecStart=/usr/bin/sh -c 'exit 3'\nType=notify",
    )?;
    // It says here, too, that it cannot start.
    let said = systemctl(&["start", &watched.unit.0]);
    ensure!(said.is_err(), "it cannot start");
    becomes(&watched.unit.0, "ActiveState", "failed")?;
    let last = watched.is_given_up()?;
    ensure!(last.contains("given up after 3 actions"), "{last}");
    let words = watched.words()?;
    ensure!(
        words.contains("ended with `failed`") && words.contains("exit code 3"),
        "{words}"
    );
    watched.stays(4, 3, "0")?;
    Ok(format!("after 3 starts of ours: {last}"))
}

fn a_unit_that_ends_again_and_again_is_given_up() -> Result<String> {
    let command = "/usr/bin/sh -c 'sleep 3; exit 1'";
    let watched = Watched::written("flapping", "", &format!("ExecStart={command}\nRestart=no"))?;
    let began = Instant::now();
    systemctl(&["start", &watched.unit.0])?;
    let last = watched.is_given_up()?;
    let took = began.elapsed();
    ensure!(last.contains("given up after 3 actions"), "{last}");
    becomes(&watched.unit.0, "ActiveState", "failed")?;
    watched.stays(4, 3, "0")?;
    Ok(format!("after {took:.1?}: {last}"))
}

fn what_needs_a_unit_is_not_restarted_with_it() -> Result<String> {
    let base = Watched::started("base", "", "ExecStart=/usr/bin/sleep 1006\nRestart=no")?;
    let needs = "Requires=base.service\nAfter=base.service";
    let above = Watched::started("above", needs, "ExecStart=/usr/bin/sleep 1007\nRestart=no")?;
    let (old, upper) = (base.process()?, above.process()?);
    let run = above.of_unit("InvocationID")?;
    let began = Instant::now();
    send(old, Signal::KILL)?;
    let took = base.comes_back(old, began)?;
    base.stays(2, 1, "0")?;
    above.stays(1, 0, "0")?;
    ensure!(
        above.process()? == upper && above.of_unit("InvocationID")? == run,
        "it ran on"
    );
    Ok(format!(
        "restarted by the daemon {took:.1?} after SIGKILL; what requires it ran on"
    ))
}
