//! What an incident keeps of the host as it was, and the output of services.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use monitor_common::{Event, Kind};
use smart_monitor::api::answers::OneIncident;
use smart_monitor::model::Incident;
use smart_monitor_tests::{Daemon, Site, binary, program};

use super::{is, restarts};

/// A service that says three things and dies once it is told to.
fn service(site: &Site) -> Result<String> {
    let go = site.path("go").display().to_string();
    let script = format!(
        "echo one; echo two >&2; printf '\\033[31mthree\\033[0m\\n'\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexit 3"
    );
    let path = site.script("teller", &script)?;
    let command = path.display();
    Ok(format!(
        "\n[[service]]\nname = \"teller\"\nkind = \"command\"\ncommand = [\"{command}\"]\n"
    ))
}

fn whole(daemon: &Daemon, incident: &Incident) -> Option<Incident> {
    let path = format!("/api/v1/incidents/{}", incident.id);
    Some(daemon.ask::<OneIncident>(&path).ok()?.incident)
}

#[test]
fn an_incident_keeps_the_last_lines_the_events_and_the_load() -> Result<()> {
    let site = Site::new()?;
    site.configure(&service(&site)?)?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("teller")?;
    // Once its lines and two process tables are there.
    let log = site.state().join("logs/teller.log");
    daemon.wait_for("it has said all", |_| {
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("three").then_some(())
    })?;
    let mode = std::fs::metadata(&log)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    std::fs::write(site.path("go"), "")?;
    let down = daemon.incident("it is down", |incident| {
        is(incident, "service_down", "teller")
    })?;
    ensure!(
        down.evidence.frozen.is_none(),
        "a listing is short: {down:#?}"
    );
    let incident = daemon.wait_for("its log is there", |daemon| {
        let incident = whole(daemon, &down)?;
        let there = incident.evidence.frozen.as_ref()?.log.len() == 3;
        there.then_some(incident)
    })?;
    let frozen = incident.evidence.frozen.context("it was frozen")?;
    ensure!(frozen.log == ["one", "two", "three"], "{frozen:#?}");
    let last = frozen.events.last().context("events")?;
    ensure!(last.kind() == Kind::ProcessExit, "{frozen:#?}");
    ensure!(last.task().pid == process.pid, "{frozen:#?}");
    ensure!(
        frozen.events.is_sorted_by_key(Event::time_ns),
        "{frozen:#?}"
    );
    ensure!(frozen.load.is_some_and(|load| load.cpus > 0), "{frozen:#?}");
    ensure!(frozen.top.iter().any(|top| top.resident > 0), "{frozen:#?}");

    // For people; and after a kill of the daemon, from the journal.
    let explain = |site: &Site| -> Result<String> {
        let mut explain = program(binary()?);
        explain.args(["explain", &incident.id.to_string()]);
        explain.arg("--socket").arg(site.socket());
        explain.arg("--state-dir").arg(site.state());
        Ok(String::from_utf8(explain.output()?.stdout)?)
    };
    let told = [
        "last lines of its log\n  one\n  two\n  three\n",
        "exit code 3",
        "load average",
        "MEMORY",
    ];
    let text = explain(&site)?;
    ensure!(told.iter().all(|part| text.contains(part)), "{text}");
    daemon.kill()?;
    let text = explain(&site)?;
    ensure!(told.iter().all(|part| text.contains(part)), "{text}");
    Ok(())
}

#[test]
fn a_restarted_service_goes_on_in_its_file_and_the_journal_has_its_last_words() -> Result<()> {
    let site = Site::new()?;
    site.configure(&(service(&site)? + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("teller")?;
    let log = site.state().join("logs/teller.log");
    let said = |times: usize| {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.matches("three").count() >= times).then_some(())
    };
    daemon.wait_for("it has said all", |_| said(1))?;
    std::fs::write(site.path("go"), "")?;
    daemon.wait_for("it was restarted", |_| said(2))?;
    std::fs::remove_file(site.path("go"))?;
    daemon.wait_for("the journal has it", |_| {
        let journal = site.journal().ok()?;
        let path = "/incident/evidence/frozen/log/0";
        let line = journal.iter().find_map(|line| line.pointer(path));
        (line?.as_str() == Some("one")).then_some(())
    })?;
    // What is on the way to the act is short.
    let journal = site.journal()?;
    let mut intents = journal.iter().filter(|line| line["entry"] == "intent");
    let short = intents.all(|line| line.pointer("/incident/evidence/frozen").is_none());
    ensure!(short, "{journal:#?}");
    Ok(())
}

#[test]
fn without_capture_services_write_where_the_daemon_does() -> Result<()> {
    let mut site = Site::new()?;
    site.daemon_lines = "capture_logs = false".to_owned();
    site.configure(&service(&site)?)?;
    let mut daemon = site.start()?;
    daemon.healthy("teller")?;
    daemon.says("three")?;
    ensure!(!site.state().join("logs").exists(), "nothing is captured");
    Ok(())
}
