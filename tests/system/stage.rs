//! What scenes do to systemd, and a daemon of theirs that runs by the unit that users get.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use smart_monitor::api::answers::{Incidents, Status};
use smart_monitor::api::client::get_json_blocking;
use smart_monitor::host::procfs;
use smart_monitor::model::{Incident, ProcessKey, ServiceState};
use smart_monitor_tests::{program, wait_until};

/// Far longer than anything takes, also where each instruction is emulated.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The daemon's unit.
pub(crate) const DAEMON: &str = "smart-monitor.service";

const CONFIG: &str = "/etc/smart-monitor/smart-monitor.toml";
const SOCKET: &str = "/run/smart-monitor/smart-monitor.sock";

/// What a program says, and whether it ended well.
pub(crate) fn run(name: &str, words: &[&str]) -> Result<(bool, String)> {
    let mut command = program(name);
    let output = command.args(words).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok((output.status.success(), said))
}

/// `systemctl` with these words, which must succeed.
pub(crate) fn systemctl(words: &[&str]) -> Result<String> {
    let (good, said) = run("systemctl", words)?;
    ensure!(good, "systemctl {} failed: {said}", words.join(" "));
    Ok(said)
}

/// What systemd knows of a unit by this name.
pub(crate) fn property(unit: &str, name: &str) -> Result<String> {
    systemctl(&["show", "--value", "--property", name, unit])
}

/// Waits until a unit's property is this.
pub(crate) fn becomes(unit: &str, name: &str, value: &str) -> Result<()> {
    let mut last = String::new();
    let found = wait_until(PATIENCE, &format!("{unit}: {name}={value}"), || {
        last = property(unit, name).ok()?;
        (last == value).then_some(())
    });
    found.with_context(|| format!("it is {last}; {}", journal(unit)))
}

/// The main process of a unit.
pub(crate) fn main_process(unit: &str) -> Result<ProcessKey> {
    let pid = property(unit, "MainPID")?.parse()?;
    let stat = procfs::stat(pid).with_context(|| format!("{unit} has no process"))?;
    Ok(stat.key)
}

/// The folder of a unit's cgroup.
pub(crate) fn cgroup(unit: &str) -> Result<PathBuf> {
    let path = property(unit, "ControlGroup")?;
    ensure!(path.len() > 1, "{unit} has no cgroup");
    Ok(Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

/// The last lines that a unit wrote.
pub(crate) fn journal(unit: &str) -> String {
    let said = run(
        "journalctl",
        &[
            "--unit",
            unit,
            "--lines",
            "25",
            "--no-pager",
            "--output",
            "cat",
        ],
    );
    said.map_or_else(
        |error| error.to_string(),
        |(_, said)| format!("{unit} said: {said}"),
    )
}

/// A unit of the scene's own, gone with it.
pub(crate) struct Unit(pub(crate) String);

impl Unit {
    /// Writes it, with this text, and has systemd know it. Not started.
    pub(crate) fn new(name: &str, text: &str) -> Result<Self> {
        fs::create_dir_all("/run/systemd/system")?;
        fs::write(format!("/run/systemd/system/{name}"), text)?;
        systemctl(&["daemon-reload"])?;
        Ok(Self(name.to_owned()))
    }

    /// The same, of a service that runs this.
    pub(crate) fn running(name: &str, command: &str, lines: &str) -> Result<Self> {
        let text =
            format!("[Unit]\nDescription=Of a scene\n[Service]\nExecStart={command}\n{lines}\n");
        let unit = Self::new(name, &text)?;
        systemctl(&["start", name])?;
        Ok(unit)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // What is left is the machine's end to take away; the next scene has other names.
        let _stopped = run("systemctl", &["stop", &self.0]);
        let _forgotten = run("systemctl", &["reset-failed", &self.0]);
        let _gone = fs::remove_file(format!("/run/systemd/system/{}", self.0));
    }
}

/// A daemon that runs as the service that users install, with nothing left of the one before.
pub(crate) struct Installed;

#[expect(
    clippy::unused_self,
    reason = "only a daemon that was started can be asked"
)]
impl Installed {
    /// Starts it with this configuration, and waits until it observes.
    pub(crate) fn new(configuration: &str) -> Result<Self> {
        fs::write(CONFIG, configuration)?;
        let installed = Self;
        systemctl(&["start", DAEMON])?;
        installed.observes()?;
        Ok(installed)
    }

    /// Writes another configuration, which is not read before somebody says so.
    pub(crate) fn configure(&self, configuration: &str) -> Result<()> {
        Ok(fs::write(CONFIG, configuration)?)
    }

    /// Waits until it does.
    pub(crate) fn observes(&self) -> Result<()> {
        self.wait_for("the daemon observes", || self.status().ok().map(drop))
    }

    /// Waits for something; fails with the daemon's last words.
    pub(crate) fn wait_for<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> Result<T> {
        wait_until(PATIENCE, what, look).map_err(|error| {
            let known = self.incidents().unwrap_or_default();
            error.context(format!("{}; its incidents: {known:#?}", journal(DAEMON)))
        })
    }

    pub(crate) fn status(&self) -> Result<Status> {
        let answer = get_json_blocking(Path::new(SOCKET), "/api/v1/status")?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Oldest first.
    pub(crate) fn incidents(&self) -> Result<Vec<Incident>> {
        let answer = get_json_blocking(Path::new(SOCKET), "/api/v1/incidents?limit=1000")?;
        let all: Incidents = serde_json::from_value(answer)?;
        Ok(all.incidents)
    }

    /// Waits until a service is healthy, as another process than this.
    pub(crate) fn healthy_but(&self, name: &str, old: Option<ProcessKey>) -> Result<ProcessKey> {
        self.wait_for(&format!("{name} is healthy"), || {
            let view = self.status().ok()?.view.services.remove(name)?;
            let healthy = view.state == ServiceState::Healthy;
            view.service
                .process
                .filter(|process| healthy && Some(*process) != old && procfs::runs(*process))
        })
    }

    /// Waits until it is.
    pub(crate) fn healthy(&self, name: &str) -> Result<ProcessKey> {
        self.healthy_but(name, None)
    }

    /// What the command line says, and whether it ended well.
    pub(crate) fn told(&self, words: &[&str]) -> Result<(bool, String)> {
        run("smart-monitor", words)
    }

    /// Has something done by hand, which must succeed.
    pub(crate) fn act(&self, words: &[&str]) -> Result<()> {
        let words: Vec<&str> = ["act"].into_iter().chain(words.iter().copied()).collect();
        let (good, said) = self.told(&words)?;
        if !good {
            bail!("{} failed: {said}; {}", words.join(" "), journal(DAEMON));
        }
        Ok(())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // A scene that stopped it has nothing to stop.
        let _stopped = run("systemctl", &["stop", DAEMON]);
        let _left = run("systemctl", &["kill", "--signal=KILL", DAEMON]);
        let _forgotten = run("systemctl", &["reset-failed", DAEMON]);
        let _gone = fs::remove_dir_all("/var/lib/smart-monitor");
    }
}

/// A configuration: the services end with the daemon or do not, and what is done about them.
pub(crate) fn configuration(on_exit: &str, tables: &str) -> String {
    format!(
        r#"
[daemon]
http = ""
services_on_exit = "{on_exit}"
stop_grace = "5s"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
[[remedy]]
detector = "manual"
on = ["*"]
step = [
    {{ action = "throttle_cpu", with = {{ percent = 20 }} }},
    {{ action = "throttle_memory", with = {{ high = "64MiB" }} }},
]
{tables}
"#
    )
}

/// A service that the daemon runs itself.
pub(crate) const WAITER: &str = r#"
[[service]]
name = "waiter"
kind = "command"
command = ["/usr/bin/sleep", "100000"]
"#;
