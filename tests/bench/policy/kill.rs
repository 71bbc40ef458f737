//! The daemon with 500 rules and 500 services: how soon after the kernel saw a refused connection the service that should have answered
//! has got its SIGKILL, and how soon after its end its restart has begun.
//!
//! A refused connection is the event that a kill follows from with nothing to be waited for, where one failure is enough. Times are those
//! of the incidents' own steps. While they come about, nobody asks the daemon anything.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use smart_monitor::host::Opened as _;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, ProcessKey, Subject};

use super::{RULES, name};
use crate::daemon::{Daemon, Folder};
use crate::report::{Report, Samples, progress};
use crate::service::hold;

/// More than the daemon keeps the incidents of, two a round.
const ROUNDS: usize = 250;
/// How long all services may take to run, and one to die.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two kills: no wave of work is left of the last one.
const REST: Duration = Duration::from_millis(30);
/// The first of the services' ports.
const PORT: u16 = 23_000;
/// From the event to the signal.
const GOAL: Duration = Duration::from_micros(300);

pub(super) fn measure(binary: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    let rounds = rounds.clamp(1, ROUNDS);
    progress(&format!("policy: {RULES} services, {rounds} kills"));
    let folder = Folder::new()?;
    let mut daemon = Daemon::start(binary, &folder, &configuration())?;
    daemon.wait_until_up(Duration::from_millis(50))?;
    let services = running(&daemon)?;
    let before = daemon.last_incident()?;
    for (service, process) in services.iter().take(rounds) {
        std::thread::sleep(REST);
        let held = hold(process.pid)?;
        let address = address(*service);
        let refused = TcpStream::connect(address);
        ensure!(refused.is_err(), "somebody listens on {address}");
        ensure!(held.wait(PATIENCE)?, "{} lives on", name(*service));
        // A connection that is made is the proof that the condition is gone.
        std::thread::sleep(REST);
        let listener = TcpListener::bind(address)?;
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        drop(listener);
    }
    std::thread::sleep(REST);
    let mut incidents = daemon.incidents()?;
    incidents.retain(|incident| incident.id.0 > before);
    daemon.stop()?;

    report.section("500 services, 500 rules: a refused connection, then SIGKILL");
    let kills = Times::of(&incidents, "connect_failure", rounds)?;
    report.durations("kernel event -> permit", &kills.decided, None);
    report.durations("kernel event -> SIGKILL sent", &kills.acted, Some(GOAL));
    let exits = Times::of(&incidents, "service_down", rounds)?;
    report.durations(
        "its exit event -> permit for the restart",
        &exits.decided,
        Some(GOAL),
    );
    report.durations("its exit event -> the restart begins", &exits.acted, None);
    Ok(())
}

/// From the deciding event on.
#[derive(Debug)]
struct Times {
    decided: Samples,
    acted: Samples,
}

impl Times {
    fn of(incidents: &[Incident], detector: &str, rounds: usize) -> Result<Self> {
        let of_it = incidents.iter().filter(|incident| {
            incident.detector == detector && matches!(incident.subject, Subject::Service { .. })
        });
        let since_seen = |step| {
            let times = of_it.clone().filter_map(|incident| {
                let seen = incident.first(StepKind::Seen)?;
                Some(incident.first(step)?.since(seen))
            });
            times.collect::<Samples>()
        };
        let times = Self {
            decided: since_seen(StepKind::Decided),
            acted: since_seen(StepKind::Acted),
        };
        ensure!(
            times.acted.len() >= rounds,
            "{} of {rounds} incidents of {detector} were acted upon: {:#?}",
            times.acted.len(),
            of_it
                .clone()
                .find(|incident| incident.first(StepKind::Acted).is_none())
        );
        Ok(times)
    }
}

fn address(service: usize) -> SocketAddr {
    let port = u16::try_from(service)
        .unwrap_or_default()
        .saturating_add(PORT);
    ([127, 0, 0, 1], port).into()
}

/// Every service's process, once all of them run.
fn running(daemon: &Daemon) -> Result<Vec<(usize, ProcessKey)>> {
    let begin = Instant::now();
    loop {
        let services = daemon.status()?.view.services;
        let processes = (0..RULES).map(|at| {
            let process = services.get(&name(at))?.service.process;
            process.map(|process| (at, process))
        });
        match processes.collect::<Option<Vec<_>>>() {
            Some(all) => return Ok(all),
            None if begin.elapsed() > PATIENCE => bail!("not all of {RULES} services run"),
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn configuration() -> String {
    let mut text = r#"
[daemon]
http = ""

[policy]
backoff_initial = "0s"
backoff_max = "0s"
limit = 1000
host_limit_per_hour = 1000000
concurrent = 16

[detectors.connect_failure]
failures = 1
grace = "1ms"

[detectors.service_down]
settle = "10ms"

[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
"#
    .to_owned();
    for at in 0..RULES {
        let (name, listen) = (name(at), address(at));
        let _infallible = write!(
            text,
            "[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"sleep\", \"1000000\"]\nlisten = [\"{listen}\"]\n\
             [[remedy]]\nname = \"refused-by-{name}\"\ndetector = \"connect_failure\"\non = [\"{name}\"]\n\
             action = \"kill_process\"\nterm_grace = \"0s\"\n"
        );
    }
    text
}
