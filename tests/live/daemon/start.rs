//! Starts that cannot succeed, or only in part: one clear message each, with what to do.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use anyhow::{Result, ensure};
use smart_monitor::api::answers::Condition;
use smart_monitor_tests::{Simulated, Site};

use super::{is_fixed, restarts};

/// What it said, when it ended as it should: with an error, and in an orderly way.
fn refusal(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(2),
        "{:?}: {said}",
        output.status
    );
    ensure!(output.stdout.is_empty(), "errors go to standard error");
    for unseemly in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        ensure!(!said.contains(unseemly), "{said}");
    }
    Ok(said)
}

/// The same, when it said one thing only.
fn one_line(output: &Output) -> Result<String> {
    let said = refusal(output)?;
    ensure!(said.lines().count() == 1, "one message: {said}");
    Ok(said)
}

#[test]
fn a_mistake_in_the_configuration_is_shown_where_it_stands() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let cases = [
        // A name that there is not, a table, a value, and what is no TOML at all.
        (
            restarts().replace("service_down", "service_dwn"),
            "detector = ",
            "did you mean `service_down`?",
        ),
        (
            "\n[polcy]\nlimit = 3\n".to_owned(),
            "[polcy]",
            "did you mean `policy`?",
        ),
        (
            "\n[policy]\nlimitt = 3\n".to_owned(),
            "limitt",
            "did you mean `limit`?",
        ),
        (
            "\n[policy]\nbackoff_initial = 5\n".to_owned(),
            "backoff_initial",
            "such as",
        ),
        ("\n[[service]\n".to_owned(), "[[service]", ""),
    ];
    for (wrong, place, help) in cases {
        site.configure(&(auth.toml() + &wrong))?;
        let said = refusal(&site.run_to_its_end(|_| {})?)?;
        let text = std::fs::read_to_string(site.config())?;
        let line = text
            .lines()
            .position(|line| line.contains(place) && !line.starts_with("[[service]]"));
        let place = format!("{}:{}:", site.config().display(), line.unwrap_or(0) + 1);
        ensure!(said.contains(&place), "expected {place}\n{said}");
        ensure!(said.contains(help), "expected {help}\n{said}");
        ensure!(
            !site.state().exists() && !site.socket().exists(),
            "nothing was begun"
        );
    }
    std::fs::remove_file(site.config())?;
    let said = one_line(&site.run_to_its_end(|_| {})?)?;
    ensure!(said.contains("--config"), "{said}");
    Ok(())
}

#[test]
fn without_root_it_says_so() -> Result<()> {
    let site = Site::new()?;
    site.configure("")?;
    // The checkout may lie where only root can look.
    let binary = site.path("smart-monitor");
    std::fs::copy(smart_monitor_tests::binary()?, &binary)?;
    let output = site.run_to_its_end(|command| {
        let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        *command = smart_monitor_tests::program(&binary);
        command
            .args(arguments)
            .env("RUST_BACKTRACE", "1")
            .uid(65534)
            .gid(65534);
    })?;
    let said = one_line(&output)?;
    ensure!(
        said.contains("run as root") && said.contains("sudo"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() -> Result<()> {
    let site = Site::new()?;
    site.configure("")?;
    std::fs::write(site.state(), "not a folder")?;
    let said = one_line(&site.run_to_its_end(|_| {})?)?;
    let named = said.contains(&site.state().display().to_string());
    ensure!(named && said.contains("--state-dir"), "{said}");
    ensure!(
        std::fs::read_to_string(site.state())? == "not a folder",
        "it was not to be touched"
    );
    Ok(())
}

#[test]
fn a_taken_port_takes_away_http_and_nothing_else() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let _taken = TcpListener::bind(site.http)?;
    let mut daemon = site.start()?;
    let health = daemon.health()?;
    ensure!(health.status == Condition::Degraded, "{health:#?}");
    let said = health
        .reasons
        .iter()
        .any(|reason| reason.contains(&site.http.to_string()) && reason.contains("[daemon] http"));
    ensure!(said, "{health:#?}");
    daemon.says("no HTTP; all else works")?;
    daemon.healthy("auth")?;
    auth.fault("crash", &[])?;
    daemon.incident("it is repaired all the same", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_second_daemon_in_the_same_place_is_refused_and_the_first_goes_on() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    // The same state folder.
    let said = one_line(&site.run_to_its_end(|command| {
        command.arg("--socket").arg(site.path("other-socket"));
    })?)?;
    ensure!(
        said.contains("another smart-monitor uses this state folder"),
        "{said}"
    );
    // The same socket.
    let said = one_line(&site.run_to_its_end(|command| {
        command.arg("--state-dir").arg(site.path("other-state"));
    })?)?;
    ensure!(
        said.contains(&site.socket().display().to_string()) && said.contains("stop it first"),
        "{said}"
    );
    ensure!(
        daemon.healthy("auth")? == process,
        "the first one's service was touched"
    );
    auth.fault("crash", &[])?;
    daemon.incident("the first one still acts", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    let journal = site.journal()?;
    let starts = journal
        .iter()
        .filter(|line| line.get("entry").is_some_and(|kind| kind == "started"));
    ensure!(
        starts.count() == 1,
        "the second one wrote into the first one's journal"
    );
    Ok(())
}

#[test]
fn a_program_that_the_verifier_refuses_is_off_and_the_rest_is_on() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(
        &("[kernel]\nrefuse = [\"tcp_connect\"]\n".to_owned() + &auth.toml() + &restarts()),
    )?;
    let mut daemon = site.start()?;
    let status = daemon.status()?;
    for probe in &status.probes {
        ensure!(probe.on == (probe.name != "tcp_connect"), "{probe:#?}");
    }
    let off = status.probes.iter().find(|probe| !probe.on);
    let explained = off.is_some_and(|probe| probe.reason.is_some() && probe.fix.is_some());
    ensure!(explained, "{off:#?}");
    for detector in &status.view.detectors {
        let degraded = detector.name == "connect_failure";
        ensure!(detector.degraded.is_some() == degraded, "{detector:#?}");
    }
    let health = daemon.health()?;
    ensure!(health.status == Condition::Degraded, "{health:#?}");
    let said = health
        .reasons
        .iter()
        .any(|reason| reason.contains("probe tcp_connect is off"));
    ensure!(said, "{health:#?}");
    daemon.says("probe off probe=\"tcp_connect\"")?;
    daemon.healthy("auth")?;
    auth.fault("crash", &[])?;
    daemon.incident("a crash is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    Ok(())
}

#[test]
fn a_layout_that_reads_wrong_turns_its_probes_off_and_exits_are_still_seen() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let broken = "[kernel]\nbreak_offsets = [\"task_struct.start_boottime\"]\n";
    site.configure(&(broken.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let status = daemon.status()?;
    let exit = status
        .probes
        .iter()
        .find(|probe| probe.name == "process_exit");
    let reason = exit
        .and_then(|probe| probe.reason.clone())
        .unwrap_or_default();
    ensure!(
        reason.contains("self-check") && reason.contains("start_boottime"),
        "{exit:#?}"
    );
    let detector = status
        .view
        .detectors
        .iter()
        .find(|detector| detector.name == "service_down");
    ensure!(
        detector.is_some_and(|detector| detector.degraded.is_some()),
        "{detector:#?}"
    );
    ensure!(
        daemon.health()?.status != Condition::Healthy,
        "that is no good health"
    );
    // Identity must not rest on what reads wrong.
    daemon.healthy("auth")?;
    auth.fault("crash", &[])?;
    let incident = daemon.incident("a crash is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(incident.evidence.probe.is_none(), "{incident:#?}");
    Ok(())
}
