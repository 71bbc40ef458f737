//! Units of the scenes, and the one daemon that watches all of them: it is started once, since that takes long in an emulated machine.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::model::incident::State;
use smart_monitor::model::{Incident, ProcessKey, ServiceState, Subject};
use smart_monitor_tests::wait_until;

use super::stage::{Installed, PATIENCE, Unit, main_process, property, systemctl};

/// Services of the scenes, with what stands beside `kind`.
const SERVICES: &[(&str, &str)] = &[
    ("plain", ""),
    ("healed", ""),
    ("stopped", ""),
    ("kept", ""),
    ("limited", ""),
    ("hung", ""),
    // The check is the first to see that it hangs.
    (
        "deaf",
        "check = { http = \"http://127.0.0.1:8091/health\", interval = \"1s\", timeout = \"1s\", failures = 2 }",
    ),
    ("broken", ""),
    ("slow", "start_within = \"2m\""),
    ("flapping", ""),
    ("base", ""),
    ("above", ""),
    ("personal", "with = { user = 1000 }"),
];

/// `boot_grace`: these machines have just begun.
const RULES: &str = r#"
[daemon]
http = ""
services_on_exit = "leave"
[policy]
boot_grace = "0s"
limit = 3
host_limit_per_hour = 1000
breaker_after = 100
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
[[remedy]]
detector = "check_failing"
on = ["*"]
action = "restart_service"
[[remedy]]
detector = "latency_spike"
on = ["*"]
action = "restart_service"
"#;

/// Runs until the machine ends.
static DAEMON: OnceLock<Installed> = OnceLock::new();

/// The daemon.
pub(crate) fn daemon() -> Result<&'static Installed> {
    if let Some(daemon) = DAEMON.get() {
        return Ok(daemon);
    }
    let entries = SERVICES.iter().map(|(name, more)| {
        format!("[[service]]\nname = \"{name}\"\nkind = \"systemd\"\n{more}\n")
    });
    let text: String = entries.collect();
    let daemon = Installed::new(&format!("{RULES}{text}"))?;
    Ok(DAEMON.get_or_init(|| daemon))
}

/// A unit that the daemon watches.
pub(crate) struct Watched {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
}

impl Watched {
    /// Writes the unit, which notes its starts, with these lines of `[Unit]` and `[Service]`. Not started.
    pub(crate) fn written(name: &'static str, of_unit: &str, lines: &str) -> Result<Self> {
        let starts = format!("ExecStartPre=/usr/bin/sh -c 'echo start >>/run/{name}.starts'");
        let text =
            format!("[Unit]\nDescription=Of a scene\n{of_unit}\n[Service]\n{starts}\n{lines}\n");
        fs::write(format!("/run/{name}.starts"), "")?;
        let unit = Unit::new(&format!("{name}.service"), &text)?;
        daemon()?;
        Ok(Self { name, unit })
    }

    /// The same, and starts it, and waits until the daemon knows that it is well.
    pub(crate) fn started(name: &'static str, of_unit: &str, lines: &str) -> Result<Self> {
        let watched = Self::written(name, of_unit, lines)?;
        systemctl(&["start", &watched.unit.0])?;
        watched.wait_for("it is well", || {
            (watched.state()? == ServiceState::Healthy).then_some(())
        })?;
        Ok(watched)
    }

    pub(crate) fn process(&self) -> Result<ProcessKey> {
        main_process(&self.unit.0)
    }

    pub(crate) fn of_unit(&self, name: &str) -> Result<String> {
        property(&self.unit.0, name)
    }

    /// How often it was started, by whomever.
    pub(crate) fn starts(&self) -> Result<usize> {
        let text = fs::read_to_string(format!("/run/{}.starts", self.name))?;
        Ok(text.lines().count())
    }

    pub(crate) fn incidents(&self) -> Result<Vec<Incident>> {
        let all = daemon()?.incidents()?;
        let own =
            |it: &Incident| matches!(&it.subject, Subject::Service { name } if name == self.name);
        Ok(all.into_iter().filter(own).collect())
    }

    /// How often the daemon has acted on it.
    pub(crate) fn acts(&self) -> Result<u32> {
        Ok(self.incidents()?.iter().map(|it| it.actions).sum())
    }

    /// All that the stories of its incidents say.
    pub(crate) fn words(&self) -> Result<String> {
        let all = self.incidents()?;
        let steps = all.iter().flat_map(|it| &it.steps);
        let lines = steps.map(|step| format!("{}: {}", step.what.name(), step.detail));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// The state that the daemon tells.
    pub(crate) fn state(&self) -> Option<ServiceState> {
        let status = daemon().ok()?.status().ok()?;
        Some(status.view.services.get(self.name)?.state)
    }

    /// Waits for something about it; what fails tells its incidents.
    pub(crate) fn wait_for<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> Result<T> {
        let found = wait_until(PATIENCE, &format!("{}: {what}", self.name), look);
        found.with_context(|| {
            let words = self.words().unwrap_or_default();
            let status = daemon().and_then(Installed::status);
            let view = status.map(|mut it| it.view.services.remove(self.name));
            format!("{view:?}, with {:?} starts; {words}", self.starts())
        })
    }

    /// It was started so often, we acted on it so often, systemd started it anew so often; and so it stays for longer than it takes to decide.
    pub(crate) fn stays(&self, starts: usize, acts: u32, restarts: &str) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            let found = (self.starts()?, self.acts()?, self.of_unit("NRestarts")?);
            ensure!(
                found == (starts, acts, restarts.to_owned()),
                "starts, acts and restarts of systemd are {found:?}, not {:?}: {}",
                (starts, acts, restarts),
                self.words()?
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Waits until it is well as another process than this, and every incident is over: how long it was away.
    pub(crate) fn comes_back(&self, old: ProcessKey, began: Instant) -> Result<Duration> {
        self.wait_for("it has another process", || {
            self.process().ok().filter(|new| *new != old)
        })?;
        let took = began.elapsed();
        self.wait_for("the daemon knows it as well", || {
            let all = self.incidents().ok()?;
            let over = all.iter().all(Incident::is_over) && !all.is_empty();
            (over && self.state()? == ServiceState::Healthy).then_some(())
        })?;
        Ok(took)
    }

    /// Waits until a person is called about it; what was said last.
    pub(crate) fn is_given_up(&self) -> Result<String> {
        self.wait_for("a person is called", || {
            let all = self.incidents().ok()?;
            let escalated = all.into_iter().find(|it| it.state == State::Escalated)?;
            Some(escalated.steps.last()?.detail.clone())
        })
    }
}
