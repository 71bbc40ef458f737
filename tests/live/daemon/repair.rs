//! The closed loop: a fault, what the kernel saw, what was done, the proof.

use anyhow::{Context as _, Result, ensure};
use monitor_common::Kind;
use rustix::process::Signal;
use serde_json::Value;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Outcome, ServiceState};
use smart_monitor_tests::{Simulated, Site, send};

use super::{is, is_fixed, position, remedy, restarts, tells};

#[test]
fn a_crashed_service_is_restarted_and_the_journal_has_the_intent_before_the_effect() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("auth")?;
    auth.fault("crash", &[("how", "segv")])?;
    let incident = daemon.incident("the crash is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(incident.evidence.process == Some(before), "{incident:#?}");
    ensure!(incident.actions == 1, "{incident:#?}");
    let ending = incident
        .evidence
        .facts
        .iter()
        .find(|(name, _)| name == "ending");
    ensure!(
        ending.is_some_and(|(_, how)| how.contains("SEGV")),
        "{incident:#?}"
    );
    let kinds: Vec<StepKind> = incident.steps.iter().map(|step| step.what).collect();
    let story = [
        StepKind::Seen,
        StepKind::Detected,
        StepKind::Decided,
        StepKind::Acted,
        StepKind::Recovered,
    ];
    ensure!(kinds == story, "{incident:#?}");
    ensure!(
        incident.steps.is_sorted_by_key(|step| step.at),
        "{incident:#?}"
    );
    ensure!(daemon.healthy("auth")? != before, "it is another process");

    // As others see it, over TCP.
    let answer = daemon.get("/api/v1/incidents")?;
    let first = answer.pointer("/incidents/0").context("an incident")?;
    let probe = first.pointer("/evidence/probe").and_then(Value::as_str);
    ensure!(probe == Some("process_exit"), "{first:#}");
    ensure!(
        first.get("outcome").and_then(Value::as_str) == Some("fixed"),
        "{first:#}"
    );

    let journal = site.journal()?;
    let id = incident.id.0;
    let intent = position(&journal, "intent", id).context("no intent")?;
    let effect = position(&journal, "effect", id).context("no effect")?;
    let outcome = position(&journal, "incident", id).context("no outcome")?;
    ensure!(intent < effect && effect < outcome, "{journal:#?}");
    let written = journal
        .get(intent)
        .and_then(|line| line.get("monotonic_ns")?.as_i64());
    let acted = journal
        .get(effect)
        .and_then(|line| line.pointer("/effect/acted")?.as_i64());
    ensure!(
        written < acted && written.is_some(),
        "{written:?} {acted:?}"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn every_way_to_crash_is_repaired_one_after_the_other() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let limits = "[policy]\nbackoff_initial = \"10ms\"\nlimit = 20\n";
    site.configure(&(limits.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let mut last = daemon.healthy("auth")?;
    for how in ["exit", "abort", "segv", "kill"] {
        auth.fault("crash", &[("how", how)])?;
        daemon.incident(how, |incident| {
            is_fixed(incident, "service_down", "auth") && incident.evidence.process == Some(last)
        })?;
        last = daemon.healthy("auth")?;
    }
    let running = site.running()?;
    ensure!(
        running.get("auth").is_some_and(|all| all == &[last]),
        "{running:?}"
    );
    Ok(())
}

#[test]
fn the_process_over_its_memory_ceiling_is_ended_and_no_other() -> Result<()> {
    let site = Site::new()?;
    let (leaky, other) = (Simulated::new("leaky")?, Simulated::new("other")?);
    let kill = remedy("memory_pressure", "kill_process", "term_grace = \"0s\"");
    let ceiling = "memory_max = \"100MiB\"";
    site.configure(&(leaky.toml_with(ceiling) + &other.toml_with(ceiling) + &kill + &restarts()))?;
    let mut daemon = site.start()?;
    let (before, bystander) = (daemon.healthy("leaky")?, daemon.healthy("other")?);
    // Another process of the same name, which is nobody's business.
    let stranger = Simulated::new("stranger")?;
    let mut command = smart_monitor_tests::program(smart_monitor_tests::binary()?);
    command.args([
        "simulate",
        "--name",
        "stranger",
        "--listen",
        &stranger.at.to_string(),
    ]);
    let mut child = command.spawn()?;
    leaky.fault("leak", &[("mib_per_s", "400"), ("max_mib", "400")])?;
    let memory = daemon.incident("the leak is repaired", |incident| {
        is_fixed(incident, "memory_pressure", "leaky")
    });
    let stranger_lives = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    let memory = memory?;
    ensure!(stranger_lives, "the stranger was not to be touched");
    ensure!(memory.evidence.process == Some(before), "{memory:#?}");
    let down = daemon.incident("the service is back", |incident| {
        is_fixed(incident, "service_down", "leaky")
    })?;
    ensure!(down.caused_by == Some(memory.id), "{down:#?}");
    ensure!(down.evidence.process == Some(before), "{down:#?}");
    ensure!(down.evidence.probe == Some(Kind::ProcessExit), "{down:#?}");
    ensure!(
        daemon.healthy("other")? == bystander,
        "a bystander was ended"
    );
    let rest = daemon.incidents()?;
    ensure!(rest.len() == 2, "nothing else happened: {rest:#?}");
    Ok(())
}

/// A service that nobody can prove well must not make the daemon busy.
#[test]
fn a_service_whose_check_never_answers_costs_no_cpu() -> Result<()> {
    let site = Site::new()?;
    let silent = smart_monitor_tests::free_port()?;
    let script = site.script("silent", "exec sleep 1000")?;
    let service = format!(
        "[[service]]\nname = \"silent\"\nkind = \"command\"\ncommand = [\"{}\"]\n\
         [service.check]\ntcp = \"{silent}\"\ninterval = \"1s\"\n",
        script.display()
    );
    let restart = remedy("service_down", "restart_service", "verify_within = \"1h\"");
    site.configure(&(service + &restart))?;
    let mut daemon = site.start()?;
    let first = daemon.wait_for("it runs", |daemon| daemon.service("silent"))?;
    send(first, Signal::KILL)?;
    daemon.wait_for("it runs again", |daemon| {
        daemon.service("silent").filter(|process| *process != first)
    })?;
    // `settle` is over by far; then the cost of some more seconds.
    let uptime = daemon.status()?.uptime_seconds;
    let later = |daemon: &smart_monitor_tests::Daemon, by: f64| {
        let status = daemon.status().ok()?;
        (status.uptime_seconds > uptime + by).then_some(status.own.cpu_seconds)
    };
    let at_two = daemon.wait_for("two seconds", |daemon| later(daemon, 2.0))?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let at_five = daemon.wait_for("three more", |daemon| later(daemon, 5.0))?;
    // Busy would be three seconds.
    ensure!(
        at_five - at_two < 1.0,
        "{} s of CPU within 3 s",
        at_five - at_two
    );
    Ok(())
}

#[test]
fn a_program_that_is_not_there_is_said_and_given_up() -> Result<()> {
    let site = Site::new()?;
    let service = "[policy]\nbackoff_initial = \"10ms\"\nlimit = 3\n\
         [[service]]\nname = \"missing\"\nkind = \"command\"\ncommand = [\"/nowhere/to/be/found\"]\n";
    site.configure(&(service.to_owned() + &restarts()))?;
    let mut daemon = site.start()?;
    let incident = daemon.incident("it is given up", |incident| {
        is(incident, "service_down", "missing")
            && incident.state == smart_monitor::model::State::Escalated
    })?;
    ensure!(incident.outcome == Some(Outcome::Failed), "{incident:#?}");
    ensure!(incident.actions == 3, "{incident:#?}");
    ensure!(
        tells(&incident, StepKind::Failed, "/nowhere/to/be/found"),
        "{incident:#?}"
    );
    let services = daemon.status()?.view.services;
    let state = services.get("missing").map(|view| view.state);
    ensure!(state == Some(ServiceState::Down), "{services:#?}");
    ensure!(procfs::runs(daemon.process()?), "the daemon goes on");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn workers_of_a_dead_service_do_not_outlive_its_restart() -> Result<()> {
    let site = Site::new()?;
    let script = site.script("shop", "sleep 1000 &\nsleep 1000 &\nwait")?;
    let service = format!(
        "[[service]]\nname = \"shop\"\nkind = \"command\"\ncommand = [\"{}\"]\n",
        script.display()
    );
    site.configure(&(service + &restarts()))?;
    let mut daemon = site.start()?;
    let three = |site: &Site| {
        let mut running = site.running().ok()?.remove("shop")?;
        running.sort();
        (running.len() == 3).then_some(running)
    };
    let main = daemon.healthy("shop")?;
    let before = daemon.wait_for("the service and its workers run", |_| three(&site))?;
    send(main, Signal::KILL)?;
    daemon.incident("the crash is repaired", |incident| {
        is_fixed(incident, "service_down", "shop")
    })?;
    let after = daemon.wait_for("a new service and its workers run", |_| three(&site))?;
    ensure!(
        after.iter().all(|process| !before.contains(process)),
        "old workers are left: {before:?}, {after:?}"
    );
    daemon.stop()?;
    ensure!(
        site.running()?.is_empty(),
        "workers outlived an orderly end"
    );
    Ok(())
}
