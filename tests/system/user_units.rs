//! A unit of a user's manager, reached by way of that user's bus, which lets nobody else in.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::{Incident, ProcessKey, ServiceState, Subject};
use smart_monitor_tests::{program, send, wait_until};

use super::Scene;
use super::stage::{Installed, PATIENCE, Unit, systemctl};
use super::unit_stage::daemon;

pub(crate) const SCENES: &[Scene] = &[(
    "a_unit_of_a_user_is_restarted_by_that_users_systemd",
    a_unit_of_a_user_is_restarted_by_that_users_systemd,
)];

const NAME: &str = "personal";
const RUNTIME: &str = "/run/user/1000";
/// As `user@1000.service` is, but for what asks who has logged in.
const MANAGER: &str = "[Unit]
Description=The manager of a user
[Service]
User=user
Type=notify
NotifyAccess=all
Environment=XDG_RUNTIME_DIR=/run/user/1000 HOME=/tmp
RuntimeDirectory=user/1000
RuntimeDirectoryMode=0700
Delegate=yes
ExecStart=/usr/lib/systemd/systemd --user
";
/// As the package dbus-user-session has them.
const SOCKET: &str = "[Unit]\nDescription=The user's bus\n[Socket]\nListenStream=%t/bus\n";
const BUS: &str = "[Unit]
Description=The user's bus
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation
";

/// `systemctl --user`, as that user: others are refused.
fn ctl(words: &[&str]) -> Result<String> {
    let mut command = program("systemctl");
    command.arg("--user").args(words);
    command.env("XDG_RUNTIME_DIR", RUNTIME).uid(1000).gid(1000);
    let output = command.stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    ensure!(output.status.success(), "systemctl {words:?}: {said}");
    Ok(said)
}

fn property(name: &str) -> Result<String> {
    ctl(&["show", "--value", "--property", name, "personal.service"])
}

fn process() -> Result<ProcessKey> {
    let stat = procfs::stat(property("MainPID")?.parse()?);
    Ok(stat.context("it has no process")?.key)
}

fn incidents(daemon: &Installed) -> Result<Vec<Incident>> {
    let own = |it: &Incident| matches!(&it.subject, Subject::Service { name } if name == NAME);
    Ok(daemon.incidents()?.into_iter().filter(own).collect())
}

fn is(daemon: &Installed, state: ServiceState) -> Result<()> {
    daemon.wait_for(&format!("{NAME} is {state:?}"), || {
        let view = daemon.status().ok()?.view.services.remove(NAME)?;
        (view.state == state).then_some(())
    })
}

fn a_unit_of_a_user_is_restarted_by_that_users_systemd() -> Result<String> {
    let daemon = daemon()?;
    is(daemon, ServiceState::Unknown)?;
    fs::create_dir_all("/run/systemd/user")?;
    let service = "[Unit]\nDescription=Of a scene\n[Service]\nExecStart=/usr/bin/sleep 1008\n";
    for (name, text) in [
        ("dbus.socket", SOCKET),
        ("dbus.service", BUS),
        ("personal.service", service),
    ] {
        fs::write(format!("/run/systemd/user/{name}"), text)?;
    }
    let manager = Unit::new("user-manager.service", MANAGER)?;
    systemctl(&["start", &manager.0])?;
    ctl(&["start", "dbus.socket", "dbus.service", "personal.service"])?;
    let old = daemon.healthy(NAME)?;
    ensure!(old == process()?, "its process");
    let run = property("InvocationID")?;
    let began = Instant::now();
    send(old, Signal::KILL)?;
    let new = wait_until(PATIENCE, "it is started anew", || {
        process().ok().filter(|new| *new != old)
    })?;
    let took = began.elapsed();
    ensure!(daemon.healthy_but(NAME, Some(old))? == new, "once");
    ensure!(property("InvocationID")? != run, "it is another run");
    ensure!(property("NRestarts")? == "0", "systemd did not do it");
    ctl(&["stop", "personal.service"])?;
    is(daemon, ServiceState::Stopped)?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let all = incidents(daemon)?;
        let acts: u32 = all.iter().map(|it| it.actions).sum();
        ensure!(acts == 1, "{all:#?}");
        ensure!(property("MainPID")? == "0", "it stays stopped");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(format!(
        "restarted by the daemon, as the user, {took:.1?} after SIGKILL; stopped, it stays so"
    ))
}
