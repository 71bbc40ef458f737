//! Actions, on the running kernel and real software.

#[path = "actions/commands.rs"]
mod commands;
#[path = "actions/connections.rs"]
mod connections;
#[path = "actions/crashes.rs"]
mod crashes;
#[path = "actions/network.rs"]
mod network;
#[path = "actions/network_steps.rs"]
mod network_steps;
#[path = "actions/processes.rs"]
mod processes;
#[path = "actions/restraints.rs"]
mod restraints;
#[path = "actions/releases.rs"]
mod releases;
#[path = "actions/rollback.rs"]
mod rollback;
#[path = "actions/run_command.rs"]
mod run_command;
#[path = "actions/services.rs"]
mod services;

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::detectors::MANUAL;
use smart_monitor::model::Incident;
use smart_monitor_tests::{Daemon, Site, program};

/// The exit code of the command line, and what it says.
fn told(site: &Site, words: &[&str]) -> Result<(i32, String)> {
    let mut command = program(smart_monitor_tests::binary()?);
    command.args(words).arg("--socket").arg(site.socket());
    let output = command.stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok((output.status.code().context("it ended")?, said))
}

/// What came of an act that a person asks for, of which the command line ends so: `ACTION SUBJECT`.
fn act(site: &Site, daemon: &Daemon, what: &str, code: i32) -> Result<Incident> {
    let mut words = vec!["act"];
    words.extend(what.split(' '));
    let (found, said) = told(site, &words)?;
    ensure!(found == code, "{what} ended with {found}: {said}");
    let incidents = daemon.incidents()?;
    let by_hand = incidents.into_iter().filter(|it| it.detector == MANUAL);
    by_hand.max_by_key(|it| it.id).context("it is an incident")
}

/// The same, and that its story says this.
fn acted_upon(site: &Site, daemon: &Daemon, what: &str, code: i32, said: &str) -> Result<()> {
    let incident = act(site, daemon, what, code)?;
    let tells = incident.steps.iter().any(|step| step.detail.contains(said));
    ensure!(tells, "{what}: no {said:?} in {incident:#?}");
    Ok(())
}
