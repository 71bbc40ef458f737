//! `kind = "systemd"`, with a real one: the manager of a user of the test's own, with that user's bus, in a cgroup of its own. It has no
//! unit but those of the test. (A manager of users runs only where systemd seems to have booted the host: for it alone, it does, and
//! there is that user.)

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::cgroupfs::CgroupFs;
use smart_monitor::host::procfs;
use smart_monitor::model::{Outcome, ProcessKey, ServiceState};
use smart_monitor_tests::{Daemon, PATIENCE, Site, program, send, wait_until};

const RULES: &str =
    "[[remedy]]\ndetector = \"service_down\"\non = [\"*\"]\naction = \"restart_service\"\n";

/// A manager and its bus. They end with it, and all that they started.
struct Systemd {
    manager: Child,
    uid: u32,
    address: String,
    runtime: PathBuf,
    units: PathBuf,
    cgroup: PathBuf,
}

impl Systemd {
    /// `also` says who may use its bus besides the user, whom that needs no word for.
    fn start(site: &Site, also: &str) -> Result<Self> {
        // No user has such a number.
        let uid = 3_000_000_000 + std::process::id();
        let runtime = PathBuf::from(format!("/run/user/{uid}"));
        let units = site.path("units");
        let hierarchy = CgroupFs::open()?.context("no cgroup v2")?;
        let name = format!("smart-monitor-systemd-{}", std::process::id());
        let cgroup = hierarchy.mount().join(name);
        for folder in [&runtime, &units, &cgroup] {
            fs::create_dir_all(folder)?;
        }
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
        for own in ["", "cgroup.procs", "cgroup.subtree_control"] {
            chown(cgroup.join(own), Some(uid), None)?;
        }
        chown(&runtime, Some(uid), None)?;
        let config = site.path("bus.conf");
        let address = format!("unix:path={}", runtime.join("bus").display());
        fs::write(
            &config,
            format!(
                "<busconfig><type>session</type><listen>{address}</listen><policy context=\"default\">{also}\
                 <allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>"
            ),
        )?;
        // It is on the bus when these two run, by these names, and only then.
        let socket = "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n";
        let bus = format!(
            "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
             ExecStart=dbus-daemon --config-file={} --address=systemd: --nofork --nopidfile --systemd-activation\n",
            config.display()
        );
        let target = "[Unit]\nDescription=Test\nWants=dbus.socket dbus.service\n";
        for (unit, text) in [
            ("dbus.socket", socket),
            ("dbus.service", &bus),
            ("test.target", target),
        ] {
            fs::write(units.join(unit), text)?;
        }
        let known = site.path("passwd");
        let users = fs::read_to_string("/etc/passwd")?;
        fs::write(&known, format!("{users}tester:x:{uid}:{uid}::/:/bin/sh\n"))?;
        let script = format!(
            "mount --bind {} /etc/passwd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system && echo $$ >{}/cgroup.procs \
             && exec setpriv --reuid {uid} --regid {uid} --clear-groups /lib/systemd/systemd --user --unit=test.target",
            known.display(),
            cgroup.display()
        );
        let mut manager = program("unshare");
        manager.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        manager
            .env("HOME", "/")
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("SYSTEMD_UNIT_PATH", &units)
            .env("SYSTEMD_LOG_TARGET", "console")
            .stdin(Stdio::null());
        let manager = manager.spawn().context("cannot start systemd")?;
        let own = Self {
            manager,
            uid,
            address,
            runtime,
            units,
            cgroup,
        };
        wait_until(PATIENCE, "systemd answers", || {
            own.ctl(&["is-active", "test.target", "dbus.service"]).ok()
        })?;
        Ok(own)
    }

    /// What `systemctl` says; an error when it fails.
    fn ctl(&self, words: &[&str]) -> Result<String> {
        let mut command = program("setpriv");
        let uid = self.uid.to_string();
        command.args(["--reuid", &uid, "--clear-groups", "systemctl", "--user"]);
        command.args(words);
        command.env("XDG_RUNTIME_DIR", &self.runtime);
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{words:?}: {said}{errors}");
        Ok(said)
    }

    /// Starts a unit with these lines in its `[Service]`.
    fn unit(&self, name: &str, lines: &str) -> Result<()> {
        let text = format!("[Unit]\nDefaultDependencies=no\n[Service]\n{lines}\n");
        fs::write(self.units.join(format!("{name}.service")), text)?;
        self.ctl(&["daemon-reload"])?;
        self.ctl(&["start", name]).map(|_| ())
    }

    fn property(&self, unit: &str, name: &str) -> Result<String> {
        let said = self.ctl(&["show", "--value", "--property", name, unit])?;
        Ok(said.trim().to_owned())
    }

    /// A daemon for which this is the systemd of the host.
    fn daemon(&self, site: &Site) -> Result<Daemon> {
        site.start_with(|command| {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        })
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _killed = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _reaped = self.manager.wait();
        let emptied = wait_until(PATIENCE, "its cgroups are gone", || {
            remove(&self.cgroup);
            (!self.cgroup.exists()).then_some(())
        });
        if let Err(error) = emptied.and_then(|()| Ok(fs::remove_dir_all(&self.runtime)?)) {
            eprintln!("cannot clean up after systemd: {error:#}");
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

fn service(name: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nkind = \"systemd\"\n")
}

fn is_stopped(daemon: &mut Daemon, name: &str) -> Result<()> {
    daemon.wait_for(&format!("{name} is stopped"), |daemon| {
        let view = daemon.status().ok()?.view.services.remove(name)?;
        (view.state == ServiceState::Stopped).then_some(())
    })
}

fn runs_anew(daemon: &mut Daemon, name: &str, old: ProcessKey) -> Result<ProcessKey> {
    daemon.wait_for(&format!("{name} has another process"), |daemon| {
        let new = daemon.service(name).filter(|new| *new != old)?;
        procfs::runs(new).then_some(new)
    })?;
    daemon.healthy(name)
}

/// How often the daemon has acted.
fn acts(daemon: &Daemon) -> Result<u32> {
    Ok(daemon
        .incidents()?
        .iter()
        .map(|incident| incident.actions)
        .sum())
}

#[test]
fn a_crash_is_repaired_once_and_what_an_administrator_does_is_left_alone() -> Result<()> {
    let site = Site::new()?;
    let systemd = Systemd::start(&site, "<allow user=\"root\"/>")?;
    systemd.unit("calm", "ExecStart=sleep 1000")?;
    // Ends with a code that systemd takes for a failure when it is told to stop.
    systemd.unit(
        "rude",
        "ExecStart=sh -c 'trap \"exit 3\" TERM; sleep 1000 & wait'",
    )?;
    systemd.unit("short", "ExecStart=sh -c 'sleep 1000 || true'")?;
    site.configure(
        &[
            service("calm"),
            service("rude"),
            service("short"),
            RULES.to_owned(),
        ]
        .concat(),
    )?;
    let mut daemon = systemd.daemon(&site)?;
    let first = daemon.healthy("calm")?;
    daemon.healthy("rude")?;

    send(first, Signal::KILL)?;
    let second = runs_anew(&mut daemon, "calm", first)?;
    daemon.incident("it is fixed", |it| it.outcome == Some(Outcome::Fixed))?;
    ensure!(acts(&daemon)? == 1, "{:#?}", daemon.incidents()?);

    systemd.ctl(&["restart", "calm"])?;
    let third = runs_anew(&mut daemon, "calm", second)?;
    systemd.ctl(&["stop", "calm", "rude"])?;
    is_stopped(&mut daemon, "calm")?;
    is_stopped(&mut daemon, "rude")?;
    ensure!(
        systemd.property("rude", "ActiveState")? == "failed",
        "it is rude"
    );
    systemd.ctl(&["start", "calm"])?;
    runs_anew(&mut daemon, "calm", third)?;
    ensure!(acts(&daemon)? == 1, "{:#?}", daemon.incidents()?);
    ensure!(daemon.incidents()?.len() == 1, "{:#?}", daemon.incidents()?);

    // One that ends by itself, and well, was not stopped.
    let child = daemon.healthy("short")?;
    let pid = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.pid))?;
    let below = procfs::stat(pid.trim().parse()?).context("its child")?;
    send(below.key, Signal::TERM)?;
    runs_anew(&mut daemon, "short", child)?;
    ensure!(acts(&daemon)? == 2, "{:#?}", daemon.incidents()?);
    Ok(())
}

#[test]
fn what_systemd_repairs_is_left_to_it_until_it_gives_up() -> Result<()> {
    let site = Site::new()?;
    let systemd = Systemd::start(&site, "")?;
    let lines = "ExecStart=sleep 1000\nRestart=on-failure\nRestartSec=300ms";
    systemd.unit("healed", lines)?;
    let broken = site.path("broken");
    let lines = format!(
        "ExecStart=sh -c 'test ! -e {} && exec sleep 1000'\nRestart=on-failure\nRestartSec=50ms",
        broken.display()
    );
    systemd.unit("flapping", &lines)?;
    // By a bus that nobody but the user may use.
    let user = format!("with = {{ user = {} }}\n", systemd.uid);
    site.configure(
        &[
            service("healed"),
            user.clone(),
            service("flapping"),
            user,
            RULES.to_owned(),
        ]
        .concat(),
    )?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("healed")?;
    let flapping = daemon.healthy("flapping")?;

    send(first, Signal::KILL)?;
    runs_anew(&mut daemon, "healed", first)?;
    ensure!(
        systemd.property("healed", "NRestarts")? == "1",
        "by systemd"
    );
    daemon.incident("it is over", |it| it.closed.is_some())?;
    ensure!(acts(&daemon)? == 0, "{:#?}", daemon.incidents()?);

    fs::write(&broken, "")?;
    send(flapping, Signal::KILL)?;
    daemon.incident("we act when systemd has given up", |it| it.actions > 0)?;
    ensure!(
        systemd.property("flapping", "NRestarts")? != "1",
        "it tried"
    );
    fs::remove_file(&broken)?;
    runs_anew(&mut daemon, "flapping", flapping)?;
    Ok(())
}
