//! A service is killed with SIGKILL: how long until the daemon knows, acts, and the service is back.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use smart_monitor::host::Opened as _;
use smart_monitor::model::Time;
use smart_monitor::model::incident::StepKind;

use crate::daemon::{Daemon, Folder};
use crate::report::{Report, Samples, progress};
use crate::service::{Ear, command, hold, now};

/// How long a supervisor may take to start the service again.
pub(crate) const AGAIN_WITHIN: Duration = Duration::from_secs(15);
/// Between two kills: the service must count as up, and no wave of work be left of the last one.
const REST: Duration = Duration::from_millis(20);

/// What other supervisors are compared by.
#[derive(Debug, Default)]
pub(crate) struct Back {
    pub(crate) begun: Samples,
    pub(crate) serving: Samples,
}

pub(crate) fn measure(binary: &Path, rounds: usize, report: &mut Report) -> Result<Back> {
    progress(&format!("down: {rounds} kills of a service"));
    let folder = Folder::new()?;
    let ear = Ear::new(&folder.0)?;
    let listen: SocketAddr = ([127, 0, 0, 1], 19201).into();
    let mut daemon = Daemon::start(binary, &folder, &config(&command(&ear, listen)?, listen))?;
    daemon.wait_until_up(Duration::from_millis(20))?;

    let mut back = Back::default();
    let [mut exit, mut detected, mut known, mut acted, mut recovered] =
        std::array::from_fn(|_| Samples::default());
    let mut service = ear.next(AGAIN_WITHIN)?;
    daemon.healthy("target")?;
    let mut last = daemon.last_incident()?;
    for round in 0..rounds {
        std::thread::sleep(REST);
        let held = hold(service.pid)?;
        let killed = now();
        held.kill()?;
        service = ear
            .next(AGAIN_WITHIN)
            .with_context(|| format!("kill {round}"))?;
        back.begun.add(service.begun.saturating_sub(killed));
        back.serving.add(service.serving.saturating_sub(killed));
        last += 1;
        let incident = daemon.over(last)?;
        let killed = Time::from_nanos(i64::try_from(killed.as_nanos())?);
        let at = |step| {
            incident
                .first(step)
                .with_context(|| format!("no {step:?} in {incident:#?}"))
        };
        let seen = at(StepKind::Seen)?;
        exit.add(seen.since(killed));
        detected.add(at(StepKind::Detected)?.since(seen));
        known.add(at(StepKind::Detected)?.since(killed));
        acted.add(at(StepKind::Acted)?.since(killed));
        recovered.add(at(StepKind::Recovered)?.since(killed));
    }
    daemon.stop()?;

    let ms = |n| Some(Duration::from_millis(n));
    report.section("A service killed with SIGKILL");
    report.durations("kill -> the kernel's exit event", &exit, None);
    report.durations("exit event -> service_down raised", &detected, None);
    report.durations("kill -> service_down raised", &known, ms(1));
    report.durations("kill -> the restart begins", &acted, None);
    report.durations(
        "kill -> replacement exec'd (its own clock in main)",
        &back.begun,
        ms(10),
    );
    report.durations(
        "kill -> replacement listens (its own clock)",
        &back.serving,
        None,
    );
    report.durations(
        "kill -> recovery proven by its health check",
        &recovered,
        None,
    );
    Ok(back)
}

fn config(command: &[String], listen: SocketAddr) -> String {
    format!(
        r#"
[daemon]
http = ""

[policy]
backoff_initial = "0s"
backoff_max = "0s"
limit = 1000
limit_window = "100ms"
host_limit_per_hour = 1000000

[[service]]
name = "target"
kind = "command"
command = {command:?}
listen = ["{listen}"]
[service.check]
tcp = "{listen}"
interval = "1s"
timeout = "500ms"

[[remedy]]
detector = "service_down"
on = ["target"]
action = "restart_service"
"#
    )
}
