//! Who ended a service, as the kernel told it before the end.

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::Opened as _;
use smart_monitor::host::signals::Held;
use smart_monitor::model::Incident;
use smart_monitor::model::incident::StepKind;
use smart_monitor_tests::{Simulated, Site};

use super::{is, is_fixed, remedy, restarts, tells};

fn fact(incident: &Incident, name: &str) -> String {
    let mut facts = incident.evidence.facts.iter();
    let fact = facts.find(|(known, _)| known == name);
    fact.map(|(_, value)| value.clone()).unwrap_or_default()
}

#[test]
fn who_sent_the_signal_is_named() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    Held::open(process)?.kill()?;
    let down = daemon.incident("it is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    let by = fact(&down, "killed by");
    let own = format!("[{}], SIGKILL (9)", std::process::id());
    ensure!(by.ends_with(&own), "{down:#?}");
    daemon.healthy("auth")?;
    auth.fault("crash", &[("how", "segv")])?;
    daemon.incident("its own fault is told", |incident| {
        is(incident, "service_down", "auth")
            && fact(incident, "killed by") == "by itself (a fault), SIGSEGV (11)"
    })?;
    Ok(())
}

#[test]
fn a_guards_kill_is_the_cause_of_the_end_and_is_not_repeated() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let guard = "\n[[guard]]\nkind = \"memory_ceiling\"\non = [\"auth\"]\nlimit = \"128MiB\"\n";
    let kill = remedy("memory_pressure", "kill_process", "");
    site.configure(&(auth.toml() + guard + &restarts() + &kill))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    auth.fault("leak", &[("mib_per_s", "2000"), ("max_mib", "400")])?;
    let down = daemon.incident("it is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    let by = fact(&down, "killed by");
    ensure!(by.starts_with("a guard in the kernel"), "{down:#?}");
    let over = daemon.incident("the crossing is over", |incident| {
        is(incident, "memory_pressure", "auth") && incident.is_over()
    })?;
    let cause = down.caused_by.context("it has a cause")?;
    ensure!(cause == over.id, "{over:#?}");
    ensure!(over.evidence.process == Some(process), "{over:#?}");
    ensure!(over.actions == 0, "{over:#?}");
    ensure!(tells(&over, StepKind::Acted, "in the kernel"), "{over:#?}");
    Ok(())
}
