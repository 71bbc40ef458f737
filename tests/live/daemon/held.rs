//! What a start of the daemon starts by itself, what not, and what the journal says of it.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, State};
use smart_monitor_tests::{Daemon, Simulated, Site, program, send};

use super::{is, is_fixed, restarts, tells};

const NOT_STARTED: &str = "the service is not started";

/// Services that daemons have started of their own accord, in order.
fn started(site: &Site) -> Result<Vec<String>> {
    let journal = site.journal()?;
    let entries = journal
        .iter()
        .filter(|line| line.get("entry") == Some(&json!("service_started")));
    let names = entries.map(|line| {
        let command = line.get("command").and_then(Value::as_array);
        let command = command.context("with its command")?;
        ensure!(command.first() == Some(&json!("smart-monitor")), "{line}");
        let name = line.get("service").and_then(Value::as_str);
        Ok(name.context("with its name")?.to_owned())
    });
    names.collect()
}

fn command(site: &Site, words: &[&str]) -> Result<String> {
    let mut command = program(smart_monitor_tests::binary()?);
    let output = command.args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{words:?} in {}: {said}{errors}",
        site.state().display()
    );
    Ok(said)
}

/// Kills the daemon, then the service, and starts another daemon.
fn killed_both(site: &Site, mut daemon: Daemon, service: &str) -> Result<Daemon> {
    let process = daemon.healthy(service)?;
    daemon.kill()?;
    drop(daemon);
    send(process, Signal::KILL)?;
    site.start()
}

/// The incident about a service that was not started, once this is said of it.
fn held(daemon: &mut Daemon, service: &str, guard: &str) -> Result<Incident> {
    daemon.says(NOT_STARTED)?;
    let incident = daemon.incident("it is told why", |incident| {
        is(incident, "service_down", service)
            && !incident.is_over()
            && [StepKind::Refused, StepKind::Escalated]
                .iter()
                .any(|what| tells(incident, *what, guard))
    })?;
    ensure!(
        incident.actions == 0 && daemon.service(service).is_none(),
        "{incident:#?}"
    );
    Ok(incident)
}

#[test]
fn a_start_gives_nothing_that_was_given_up_another_try() -> Result<()> {
    let site = Site::new()?;
    let (auth, batch) = (Simulated::new("auth")?, Simulated::new("batch")?);
    let limits = "[policy]\nlimit = 1\n";
    site.configure(&(limits.to_owned() + &auth.toml() + &batch.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("batch")?;
    send(daemon.healthy("auth")?, Signal::KILL)?;
    daemon.incident("the one restart that it has", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(
        started(&site)? == ["auth", "batch"],
        "restarts have intents"
    );

    // As often as it is started: not once more.
    let mut daemon = killed_both(&site, daemon, "auth")?;
    for _ in 0..2 {
        let incident = held(&mut daemon, "auth", "limit: given up after 1 actions")?;
        ensure!(incident.state == State::Escalated, "{incident:#?}");
        ensure!(
            incident
                .evidence
                .facts
                .iter()
                .any(|(name, value)| name == "start failed" && value.contains("given up")),
            "{incident:#?}"
        );
        // What runs is taken over, and is nobody's start.
        daemon.healthy("batch")?;
        ensure!(
            started(&site)? == ["auth", "batch"],
            "{:?}",
            started(&site)?
        );
        ensure!(!site.running()?.contains_key("auth"), "it is not started");
        daemon.kill()?;
        daemon = site.start()?;
    }

    // A person who takes it out of the file and puts it back has it started, which stands in the journal as the daemon's.
    let reload = |daemon: &mut Daemon, text: &str, services: &str| {
        site.configure(text)?;
        daemon.signal(Signal::HUP)?;
        daemon.wait_for("it has reloaded", |daemon| {
            let log = daemon.log();
            let mut lines = log.lines();
            lines
                .any(|line| line.contains("configuration reloaded") && line.contains(services))
                .then_some(())
        })
    };
    let without = limits.to_owned() + &batch.toml() + &restarts();
    reload(&mut daemon, &without, "services=1")?;
    let with = limits.to_owned() + &auth.toml() + &batch.toml() + &restarts();
    reload(&mut daemon, &with, "services=2")?;
    daemon.healthy("auth")?;
    ensure!(started(&site)? == ["auth", "batch", "auth"], "the new one");
    let state = site.state().display().to_string();
    let said = command(
        &site,
        &["audit", "--service", "auth", "--state-dir", &state],
    )?;
    let rows: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("starts service auth: "))
        .collect();
    ensure!(
        rows.len() == 2 && rows.iter().all(|row| row.contains(" daemon ")),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_start_ends_no_silence() -> Result<()> {
    let site = Site::new()?;
    let (auth, batch) = (Simulated::new("auth")?, Simulated::new("batch")?);
    site.configure(&(auth.toml() + &batch.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("batch")?;
    daemon.healthy("auth")?;
    let socket = site.socket().display().to_string();
    let silence = ["silence", "auth", "--for", "1h", "--reason", "upgrade"];
    command(&site, &[&silence[..], &["--socket", &socket]].concat())?;

    let mut daemon = killed_both(&site, daemon, "auth")?;
    let incident = held(&mut daemon, "auth", "silence: silence 1 by ")?;
    daemon.healthy("batch")?;
    ensure!(
        started(&site)? == ["auth", "batch"],
        "{:?}",
        started(&site)?
    );
    command(&site, &["unsilence", "1", "--socket", &socket])?;
    daemon.incident("it is restarted then", |now| {
        now.id == incident.id && is_fixed(now, "service_down", "auth") && now.actions == 1
    })?;
    daemon.healthy("auth")?;
    ensure!(started(&site)? == ["auth", "batch"], "that was a remedy");
    Ok(())
}
