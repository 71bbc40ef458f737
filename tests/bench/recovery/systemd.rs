//! A systemd of the bench's own: the manager of a user that there is none of, in a cgroup of its own, with one unit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::cgroupfs::CgroupFs;

use super::rivals::until;
use crate::daemon::{Folder, program};
use crate::peers::run;

const EXECUTABLE: &str = "/lib/systemd/systemd";

/// Ends with its owner, and all that it started.
#[derive(Debug)]
pub(super) struct Systemd {
    manager: Child,
    runtime: PathBuf,
    cgroup: PathBuf,
}

impl Systemd {
    /// No user has such a number.
    fn runtime() -> PathBuf {
        format!("/run/user/{}", 3_000_000_000 + std::process::id()).into()
    }

    /// The address of its bus.
    pub(super) fn address() -> String {
        format!("unix:path={}", Self::runtime().join("bus").display())
    }

    pub(super) fn start(folder: &Folder, command: &[String]) -> Result<Self> {
        for (needed, package) in [
            (EXECUTABLE, "systemd"),
            ("/usr/bin/dbus-daemon", "dbus-daemon"),
        ] {
            let there = Path::new(needed).is_file();
            ensure!(there, "no {needed}; `apt-get install {package}` brings it");
        }
        let runtime = Self::runtime();
        let units = folder.file("units");
        let hierarchy = CgroupFs::open()?.context("no cgroup v2")?;
        let name = format!("smart-monitor-bench-systemd-{}", std::process::id());
        let cgroup = hierarchy.mount().join(name);
        for place in [&runtime, &units, &cgroup] {
            fs::create_dir_all(place)?;
        }
        write_units(folder, &units, command)?;
        // A manager of users runs only where systemd seems to have booted the host: for it alone, it does.
        let script = format!(
            "mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system && echo $$ >{}/cgroup.procs \
             && exec {EXECUTABLE} --user --unit=bench.target",
            cgroup.display()
        );
        let mut manager = program("unshare");
        manager.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        manager
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("DBUS_SESSION_BUS_ADDRESS", Self::address())
            .env("SYSTEMD_UNIT_PATH", &units)
            .env("SYSTEMD_LOG_TARGET", "null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let manager = manager.spawn().context("cannot start systemd")?;
        let own = Self {
            manager,
            runtime,
            cgroup,
        };
        until(
            || own.tell(&["is-active", "dbus.service"]).is_ok(),
            "systemd and its bus",
        )?;
        own.tell(&["start", "bench"])?;
        Ok(own)
    }

    fn tell(&self, words: &[&str]) -> Result<()> {
        let mut command = program("systemctl");
        command.arg("--user").args(words);
        run(command.env("XDG_RUNTIME_DIR", &self.runtime))
    }
}

/// The service, and the bus: a manager is on it when there are two units of these names.
fn write_units(folder: &Folder, units: &Path, command: &[String]) -> Result<()> {
    let config = folder.file("bus.conf");
    fs::write(
        &config,
        format!(
            "<busconfig><type>session</type><listen>{}</listen><policy context=\"default\"><allow user=\"*\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
            Systemd::address()
        ),
    )?;
    let unit = |rest: &str| format!("[Unit]\nDefaultDependencies=no\n{rest}\n");
    let bus = format!(
        "Requires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
         ExecStart=/usr/bin/dbus-daemon --config-file={} --address=systemd: --nofork --nopidfile --systemd-activation",
        config.display()
    );
    // `RestartSec=` is what it is by default. There is a limit of starts, which so many kills must not meet.
    let service = format!(
        "StartLimitIntervalSec=0\n[Service]\nExecStart={}\nRestart=always",
        command.join(" ")
    );
    for (name, rest) in [
        ("dbus.socket", "[Socket]\nListenStream=%t/bus"),
        ("dbus.service", &bus),
        ("bench.service", &service),
        ("bench.target", "Wants=dbus.socket dbus.service"),
    ] {
        fs::write(units.join(name), unit(rest))?;
    }
    Ok(())
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _killed = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _reaped = self.manager.wait();
        let emptied = until(
            || {
                remove(&self.cgroup);
                !self.cgroup.exists()
            },
            "its cgroups to be gone",
        );
        if let Err(error) = emptied.and_then(|()| Ok(fs::remove_dir_all(&self.runtime)?)) {
            eprintln!("bench: cannot clean up after systemd: {error:#}");
        }
    }
}

/// Removes a cgroup and those below it, as far as they are empty.
fn remove(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove(&below.path());
        }
    }
    let _later = fs::remove_dir(cgroup);
}
