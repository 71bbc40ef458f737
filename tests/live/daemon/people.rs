//! What people ask for: on the command line, over the socket alone, written down before it is done.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use smart_monitor::api::answers::Silences;
use smart_monitor::model::Outcome;
use smart_monitor::model::incident::StepKind;
use smart_monitor_tests::{Daemon, Simulated, Site, http_send, program, send};

use super::{is, is_fixed, remedy, restarts, tells};

/// A command of the command line, as alice runs it with sudo.
fn ask(site: &Site, words: &[&str]) -> Result<Output> {
    let mut command = program(smart_monitor_tests::binary()?);
    command.args(words).arg("--socket").arg(site.socket());
    command.env("SUDO_USER", "alice").stdin(Stdio::null());
    Ok(command.output()?)
}

/// What it says when it is done.
fn done(site: &Site, words: &[&str]) -> Result<String> {
    let output = ask(site, words)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {said}{errors}");
    Ok(said)
}

/// Its exit code and what it says when it is not done.
fn not_done(site: &Site, words: &[&str]) -> Result<(i32, String)> {
    let output = ask(site, words)?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code().context("it ended")?, errors))
}

fn silences(daemon: &Daemon) -> Result<Vec<u64>> {
    let list: Silences = daemon.ask("/api/v1/silences")?;
    Ok(list.silences.iter().map(|silence| silence.id).collect())
}

/// What people have asked for, as the journal has it.
fn asked(site: &Site) -> Result<Vec<(String, String)>> {
    let word = |line: &Value, name: &str| line.get(name)?.as_str().map(str::to_owned);
    let journal = site.journal()?;
    let lines = journal.iter().filter_map(|line| {
        let by = word(line, "by").filter(|_| word(line, "entry").as_deref() == Some("person"))?;
        Some((by, word(line.get("request")?, "request")?))
    });
    Ok(lines.collect())
}

#[test]
fn nothing_is_done_to_a_silenced_service() -> Result<()> {
    let site = Site::new()?;
    let (auth, batch) = (Simulated::new("auth")?, Simulated::new("batch")?);
    site.configure(&(auth.toml() + &batch.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    daemon.healthy("batch")?;
    let (code, error) = not_done(&site, &["silence", "ghost", "--for", "1h", "--reason", "x"])?;
    ensure!(code == 1 && error.contains("auth, batch"), "{code} {error}");
    let said = done(
        &site,
        &["silence", "auth", "--for", "1h", "--reason", "upgrade"],
    )?;
    ensure!(said.contains("by root (alice): upgrade"), "{said}");

    // A daemon that has died and one that has ended: the silence outlives both.
    daemon.kill()?;
    drop(daemon);
    let mut daemon = site.start()?;
    ensure!(silences(&daemon)? == [1], "it is still in force");
    done(
        &site,
        &[
            "silence",
            "*",
            "--for",
            "7d",
            "--detector",
            "memory_pressure",
            "--reason",
            "y",
        ],
    )?;
    ensure!(silences(&daemon)? == [1, 2], "numbers go on");

    for name in ["auth", "batch"] {
        send(daemon.healthy(name)?, rustix::process::Signal::KILL)?;
    }
    daemon.incident("the other one is repaired", |incident| {
        is_fixed(incident, "service_down", "batch")
    })?;
    let down = daemon.incident("it is seen all the same", |incident| {
        is(incident, "service_down", "auth") && tells(incident, StepKind::Refused, "silence")
    })?;
    ensure!(
        down.actions == 0 && daemon.service("auth").is_none(),
        "{down:#?}"
    );
    let id = down.id.to_string();
    done(&site, &["ack", &id])?;
    let status = String::from_utf8(ask(&site, &["status"])?.stdout)?;
    for line in [
        format!("incident {id} is acknowledged by root (alice)"),
        "silence 1: nothing is done about auth for ".to_owned(),
    ] {
        ensure!(status.contains(&line), "no {line} in\n{status}");
    }

    done(&site, &["unsilence", "1"])?;
    daemon.incident("now it is repaired", |incident| {
        incident.id == down.id && incident.outcome == Some(Outcome::Fixed)
    })?;
    let (code, error) = not_done(&site, &["unsilence", "1"])?;
    ensure!(
        code == 1 && error.contains("no silence 1"),
        "{code} {error}"
    );
    let by_alice = |what: &str| ("root (alice)".to_owned(), what.to_owned());
    ensure!(
        asked(&site)? == ["silence", "silence", "acknowledge", "unsilence"].map(by_alice),
        "{:?}",
        asked(&site)?
    );
    Ok(())
}

#[test]
fn what_needs_a_word_waits_for_it_and_is_then_done() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let careful = remedy("service_down", "restart_service", "approval = \"10m\"");
    site.configure(&(auth.toml() + &careful))?;
    let mut daemon = site.start()?;
    send(daemon.healthy("auth")?, rustix::process::Signal::KILL)?;
    let down = daemon.incident("it asks", |incident| {
        is(incident, "service_down", "auth") && incident.proposed.is_some()
    })?;
    let id = down.id.to_string();
    ensure!(daemon.service("auth").is_none(), "nothing was done");

    // HTTP has no say, and neither has a script that was not told to agree.
    let path = format!("/api/v1/incidents/{id}/approve");
    let (code, answer) = http_send("POST", site.http, &path, "{}")?;
    ensure!(code == 403 && answer.contains("socket"), "{code} {answer}");
    let (code, error) = not_done(&site, &["approve", &id])?;
    ensure!(code == 2 && error.contains("--yes"), "{code} {error}");
    ensure!(asked(&site)?.is_empty(), "nobody has said anything");

    let said = done(&site, &["approve", &id, "--yes"])?;
    ensure!(said.contains("start service auth anew"), "{said}");
    let fixed = daemon.incident("it is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(
        tells(&fixed, StepKind::Approved, "root (alice)"),
        "{fixed:#?}"
    );
    let journal = site.journal()?;
    let mut lines = journal.iter();
    let is_entry = |line: &&Value, kind: &str| line.get("entry") == Some(&json!(kind));
    lines
        .find(|line| is_entry(line, "person"))
        .context("the word is written down")?;
    let intent = lines.find(|line| is_entry(line, "intent"));
    let intent = intent.context("before the intent")?;
    ensure!(intent.get("by") == Some(&json!("root (alice)")), "{intent}");
    let (code, error) = not_done(&site, &["approve", &id, "--yes"])?;
    ensure!(
        code == 1 && error.contains("proposes nothing"),
        "{code} {error}"
    );
    Ok(())
}

#[test]
fn what_is_rejected_is_not_done() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let careful = remedy("service_down", "restart_service", "approval = \"10m\"");
    site.configure(&(auth.toml() + &careful))?;
    let mut daemon = site.start()?;
    send(daemon.healthy("auth")?, rustix::process::Signal::KILL)?;
    let down = daemon.incident("it asks", |incident| {
        is(incident, "service_down", "auth") && incident.proposed.is_some()
    })?;
    let id = down.id.to_string();
    done(&site, &["reject", &id])?;
    let rejected = daemon.incident("it is a person's now", |incident| {
        incident.id == down.id && tells(incident, StepKind::Rejected, "root (alice)")
    })?;
    ensure!(
        rejected.actions == 0 && rejected.proposed.is_none(),
        "{rejected:#?}"
    );
    let (code, error) = not_done(&site, &["reject", &id])?;
    ensure!(
        code == 1 && error.contains("proposes nothing"),
        "{code} {error}"
    );
    Ok(())
}
