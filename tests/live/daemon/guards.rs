//! What keeps the daemon from acting: no consent, a dry run, a limit, a protected name.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Outcome, State, Subject};
use smart_monitor_tests::{Simulated, Site, file_name, program, send};

use super::{is, is_fixed, remedy, restarts, tells};

fn no_intent(site: &Site) -> Result<()> {
    let journal = site.journal()?;
    let intents = journal
        .iter()
        .filter(|line| line.get("entry").is_some_and(|kind| kind == "intent"));
    ensure!(intents.count() == 0, "{journal:#?}");
    Ok(())
}

#[test]
fn a_crash_loop_backs_off_is_given_up_and_tried_again() -> Result<()> {
    let site = Site::new()?;
    let script = site.script("loops", "exit 7")?;
    let text = format!(
        "[policy]\nbackoff_initial = \"200ms\"\nlimit = 3\nhalf_open_after = \"3s\"\n\
         [[service]]\nname = \"loops\"\nkind = \"command\"\ncommand = [\"{}\"]\n",
        script.display()
    );
    let restart = restarts();
    site.configure(&(text + &restart))?;
    let mut daemon = site.start()?;
    let given_up = daemon.incident("it is given up", |incident| {
        is(incident, "service_down", "loops") && incident.state == State::Escalated
    })?;
    ensure!(given_up.actions == 3, "{given_up:#?}");
    ensure!(
        tells(&given_up, StepKind::Escalated, "a person is needed"),
        "{given_up:#?}"
    );
    let decided: Vec<_> = given_up
        .steps
        .iter()
        .filter(|step| step.what == StepKind::Decided)
        .map(|step| step.at)
        .collect();
    let waits: Vec<_> = decided
        .iter()
        .zip(decided.iter().skip(1))
        .map(|(earlier, later)| later.since(*earlier).as_millis())
        .collect();
    let grows = matches!(waits.as_slice(), [first, second] if *first >= 200 && *second >= 400);
    ensure!(grows, "{waits:?}: {given_up:#?}");

    // Each time that `half_open_after` has passed, it is tried once more; at last it helps.
    daemon.incident("it is tried once more", |incident| {
        incident.id == given_up.id && incident.actions >= 4
    })?;
    site.script("loops", "exec sleep 1000")?;
    daemon.incident("it helps", |incident| {
        incident.id == given_up.id && is_fixed(incident, "service_down", "loops")
    })?;
    ensure!(daemon.service("loops").is_some(), "it runs");
    let down = daemon.incidents()?;
    ensure!(down.len() == 1, "one condition is one incident: {down:#?}");
    Ok(())
}

#[test]
fn a_dry_run_restarts_nothing() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start_with(|command| {
        command.arg("--dry-run");
    })?;
    daemon.healthy("auth")?;
    auth.fault("crash", &[])?;
    let incident = daemon.incident("it says what it would have done", |incident| {
        is(incident, "service_down", "auth") && incident.outcome == Some(Outcome::WouldHave)
    })?;
    ensure!(
        tells(
            &incident,
            StepKind::Refused,
            "would have done restart_service"
        ),
        "{incident:#?}"
    );
    ensure!(incident.actions == 0, "{incident:#?}");
    ensure!(site.running()?.is_empty(), "nothing was restarted");
    no_intent(&site)?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "nothing was restarted");
    no_intent(&site)
}

#[test]
fn a_service_without_a_remedy_is_not_touched() -> Result<()> {
    let site = Site::new()?;
    let (with, without) = (Simulated::new("with")?, Simulated::new("without")?);
    let remedy = "\n[[remedy]]\ndetector = \"service_down\"\non = [\"with\"]\naction = \"restart_service\"\n";
    site.configure(&(with.toml() + &without.toml() + remedy))?;
    let mut daemon = site.start()?;
    daemon.healthy("with")?;
    daemon.healthy("without")?;
    without.fault("crash", &[])?;
    let incident = daemon.incident("it is seen", |incident| {
        is(incident, "service_down", "without") && tells(incident, StepKind::Refused, "consent")
    })?;
    // Proof that the daemon acts, and had the time to: the other one is restarted meanwhile.
    with.fault("crash", &[])?;
    daemon.incident("the other one is repaired", |incident| {
        is_fixed(incident, "service_down", "with")
    })?;
    let same = daemon.incident("still there", |other| other.id == incident.id)?;
    ensure!(same.state == State::Open && same.actions == 0, "{same:#?}");
    ensure!(
        !site.running()?.contains_key("without"),
        "it was not to be started"
    );
    Ok(())
}

#[test]
fn a_protected_name_is_not_ended_whatever_a_remedy_says() -> Result<()> {
    let site = Site::new()?;
    // Names that no other process of this host has.
    let number = std::process::id() % 100_000;
    let safe = site.script(&format!("sm-safe-{number}"), "while :; do :; done")?;
    let prey = site.script(&format!("sm-prey-{number}"), "while :; do :; done")?;
    let text = format!(
        "[policy]\nprotected = [\"{safe}\"]\n[detectors.runaway_cpu]\nthreshold = \"10%\"\nfor = \"1s\"\n\
         [[process]]\nname = \"busy\"\ncomm = [\"{safe}\", \"{prey}\"]\n",
        safe = file_name(&safe),
        prey = file_name(&prey),
    );
    site.configure(&(text + &remedy("runaway_cpu", "kill_process", "term_grace = \"0s\"")))?;
    let mut children = [program(&safe).spawn()?, program(&prey).spawn()?];
    let mut daemon = site.start()?;
    let about = |name: &std::path::Path| {
        let name = file_name(name);
        move |subject: &Subject| matches!(subject, Subject::Process { comm, .. } if *comm == name)
    };
    let (is_safe, is_prey) = (about(&safe), about(&prey));
    let refused = daemon.incident("the protected one is left alone", |incident| {
        is_safe(&incident.subject) && tells(incident, StepKind::Refused, "protected_subject")
    });
    let ended = daemon.incident("the other one is ended", |incident| {
        is_prey(&incident.subject) && incident.outcome == Some(Outcome::Fixed)
    });
    let [safe, prey] = &mut children;
    let lives = safe.try_wait()?.is_none();
    safe.kill()?;
    safe.wait()?;
    prey.kill()?;
    prey.wait()?;
    refused?;
    ended?;
    ensure!(lives, "the protected one was ended");
    Ok(())
}

#[test]
fn what_was_done_before_counts_after_a_restart_of_the_daemon() -> Result<()> {
    let mut site = Site::new()?;
    site.daemon_lines = "services_on_exit = \"leave\"".to_owned();
    let auth = Simulated::new("auth")?;
    let limit = "[policy]\nbackoff_initial = \"10ms\"\nlimit = 2\nhalf_open_after = \"1h\"\n";
    site.configure(&(limit.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    for _ in 0..2 {
        let process = daemon.healthy("auth")?;
        send(process, Signal::KILL)?;
        daemon.incident("it is repaired", |incident| {
            is_fixed(incident, "service_down", "auth") && incident.evidence.process == Some(process)
        })?;
    }
    daemon.kill()?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    send(process, Signal::KILL)?;
    let third = daemon.incident("the limit still holds", |incident| {
        is(incident, "service_down", "auth") && incident.state == State::Escalated
    })?;
    ensure!(
        third.evidence.process == Some(process) && third.actions == 0,
        "{third:#?}"
    );
    // Its end is told a moment before it is over.
    daemon.wait_for("it is down, and stays so", |_| {
        (!procfs::runs(process)).then_some(())
    })?;
    Ok(())
}
