//! `SIGHUP`: the file as it is now, or the configuration before, never anything between.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::api::answers::Condition;
use smart_monitor::host::procfs;
use smart_monitor_tests::{Simulated, Site, send};

use super::{is, is_fixed, restarts, tells};

const FAST: &str = "[policy]\nbackoff_initial = \"10ms\"\nlimit = 20\n";

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_adds_and_removes_services() -> Result<()> {
    let site = Site::new()?;
    let (stays, goes, comes) = (
        Simulated::new("stays")?,
        Simulated::new("goes")?,
        Simulated::new("comes")?,
    );
    let good = FAST.to_owned() + &stays.toml() + &goes.toml() + &restarts();
    site.configure(&good)?;
    let mut daemon = site.start()?;
    let (first, gone) = (daemon.healthy("stays")?, daemon.healthy("goes")?);

    // A mistake, and what would go with it.
    site.configure(&(stays.toml() + &restarts().replace("restart_service", "restart_servce")))?;
    daemon.signal(Signal::HUP)?;
    daemon.says("the one before stays in force")?;
    daemon.says("did you mean `restart_service`?")?;
    let place = format!("{}:", site.config().display());
    let health = daemon.wait_for("/health says so", |daemon| {
        let health = daemon.health().ok()?;
        health
            .reasons
            .iter()
            .any(|reason| reason.contains(&place))
            .then_some(health)
    })?;
    ensure!(health.status == Condition::Degraded, "{health:#?}");
    ensure!(
        daemon.service("goes") == Some(gone),
        "it was stopped by a bad file"
    );
    for service in [&stays, &goes] {
        let process = daemon.healthy(service.name)?;
        service.fault("crash", &[])?;
        daemon.incident("a crash is repaired", |incident| {
            is_fixed(incident, "service_down", service.name)
                && incident.evidence.process == Some(process)
        })?;
    }
    // No file at all is a bad file too.
    std::fs::remove_file(site.config())?;
    daemon.signal(Signal::HUP)?;
    daemon.says("cannot read the configuration")?;
    let second = daemon.healthy("stays")?;
    ensure!(second != first, "it was restarted after its crash");

    // A good one.
    site.configure(&(FAST.to_owned() + &stays.toml() + &comes.toml() + &restarts()))?;
    daemon.signal(Signal::HUP)?;
    daemon.says("configuration reloaded")?;
    daemon.healthy("comes")?;
    let health = daemon.health()?;
    ensure!(
        !health.reasons.iter().any(|reason| reason.contains(&place)),
        "{health:#?}"
    );
    ensure!(!health.services.contains_key("goes"), "{health:#?}");
    ensure!(
        !site.running()?.contains_key("goes"),
        "it was to be stopped"
    );
    ensure!(
        daemon.service("stays") == Some(second),
        "it was not to be touched"
    );
    comes.fault("crash", &[])?;
    daemon.incident("the new one is repaired too", |incident| {
        is_fixed(incident, "service_down", "comes")
    })?;
    let goes_down = daemon
        .incidents()?
        .into_iter()
        .filter(|incident| is(incident, "service_down", "goes"));
    ensure!(goes_down.count() == 1, "stopping it is no crash");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

/// The detector starts afresh with other settings, in the middle of an incident: it must still come to its end.
#[test]
fn an_open_incident_survives_a_reload() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let slow = "[policy]\nbackoff_initial = \"3s\"\n";
    let remedies = super::remedy("service_down", "restart_service", "verify_within = \"2s\"");
    site.configure(&(slow.to_owned() + &auth.toml() + &remedies))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("auth")?;
    send(first, Signal::KILL)?;
    daemon.incident("the first is repaired at once", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    let second = daemon.healthy("auth")?;
    send(second, Signal::KILL)?;
    let waiting = daemon.incident("the second one waits", |incident| {
        incident.evidence.process == Some(second)
            && tells(
                incident,
                smart_monitor::model::incident::StepKind::Refused,
                "cooldown",
            )
    })?;
    let changed = "[detectors.latency_spike]\nthreshold = \"3s\"\n";
    site.configure(&(slow.to_owned() + changed + &auth.toml() + &remedies))?;
    daemon.signal(Signal::HUP)?;
    daemon.says("configuration reloaded")?;
    let over = daemon.incident("it is over", |incident| {
        incident.id == waiting.id && incident.is_over()
    })?;
    ensure!(is_fixed(&over, "service_down", "auth"), "{over:#?}");
    ensure!(
        over.actions == 1,
        "a healthy service was restarted: {over:#?}"
    );
    let third = daemon.healthy("auth")?;
    ensure!(procfs::runs(third), "it runs");
    Ok(())
}

/// A service that is removed while it is in trouble leaves no incident behind that nobody can end.
#[test]
fn a_removed_service_leaves_no_open_incident() -> Result<()> {
    let site = Site::new()?;
    let (stays, goes) = (Simulated::new("stays")?, Simulated::new("goes")?);
    site.configure(&(FAST.to_owned() + &stays.toml() + &goes.toml()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("goes")?;
    send(process, Signal::KILL)?;
    let open = daemon.incident("it is seen", |incident| {
        is(incident, "service_down", "goes")
    })?;
    site.configure(&(FAST.to_owned() + &stays.toml()))?;
    daemon.signal(Signal::HUP)?;
    daemon.says("configuration reloaded")?;
    daemon.incident("it is over", |incident| {
        incident.id == open.id && incident.is_over()
    })?;
    Ok(())
}
