//! Guards that act in the kernel: what crosses them ends there, what may not be ended is only reported.

use anyhow::{Result, ensure};
use smart_monitor::model::{Incident, Outcome};
use smart_monitor_tests::{Daemon, Simulated, Site};

use super::{is, is_fixed, restarts};

const CEILING: &str = "\n[[guard]]\nkind = \"memory_ceiling\"\non = [\"*\"]\nlimit = \"96MiB\"\n";

fn fact(incident: &Incident, name: &str) -> Option<String> {
    let mut facts = incident.evidence.facts.iter();
    let found = facts.find(|(other, _)| other == name)?;
    Some(found.1.clone())
}

fn crossings(daemon: &Daemon) -> Option<f64> {
    let probe = "probe=\"memory_ceiling\"";
    let metric = daemon.metric("smart_monitor_probe_events_total", probe);
    metric.ok().filter(|count| *count > 0.0)
}

#[test]
fn a_leak_over_its_ceiling_ends_in_the_kernel_and_the_service_comes_back() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + CEILING + &restarts()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    auth.fault("leak", &[("mib_per_s", "2000"), ("max_mib", "400")])?;
    let incident = daemon.incident("its end is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(incident.evidence.process == Some(process), "{incident:#?}");
    let ending = fact(&incident, "ending").unwrap_or_default();
    ensure!(ending.contains("SIGKILL"), "{incident:#?}");
    ensure!(crossings(&daemon) == Some(1.0), "one crossing");
    let armed = site.journal()?.into_iter().filter(|entry| {
        entry["entry"] == "guarded" && entry["target"] == "service auth" && entry["enforce"] == true
    });
    ensure!(armed.count() == 2, "the intent, for either process");
    let again = daemon.healthy("auth")?;
    ensure!(again != process);
    Ok(())
}

#[test]
fn in_a_dry_run_the_kernel_only_reports() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + CEILING + &restarts()))?;
    let mut daemon = site.start_with(|command| {
        command.arg("--dry-run");
    })?;
    let process = daemon.healthy("auth")?;
    auth.fault("leak", &[("mib_per_s", "2000"), ("max_mib", "200")])?;
    daemon.wait_for("the crossing is reported", crossings)?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    ensure!(daemon.service("auth") == Some(process), "it lives");
    let enforced = site
        .journal()?
        .into_iter()
        .any(|entry| entry["entry"] == "guarded" && entry["enforce"] == true);
    ensure!(!enforced);
    Ok(())
}

#[test]
fn without_a_guard_no_program_looks_at_memory() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&auth.toml())?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    auth.fault("leak", &[("mib_per_s", "2000"), ("max_mib", "200")])?;
    std::thread::sleep(std::time::Duration::from_millis(1500));
    ensure!(crossings(&daemon).is_none());
    ensure!(daemon.service("auth") == Some(process));
    Ok(())
}

/// Every process makes two of itself, and they two of themselves: killing whoever forks leaves its child. Ends by itself when its file is
/// gone, or after a while, whatever the guard does.
const BOMB: &str = r#"
depth=${1:-0}
[ -e "$0" ] || exit 0
[ "$depth" -lt 12 ] || { sleep 5; exit 0; }
sh "$0" $((depth + 1)) &
sh "$0" $((depth + 1)) &
wait
"#;

#[test]
fn a_fork_bomb_ends_and_its_neighbour_forks_on() -> Result<()> {
    let site = Site::new()?;
    let bomb = site.script("bomb", BOMB)?;
    let calm = site.script("calm", "while :; do sleep 0.05; done\n")?;
    let service = |name: &str, script: &std::path::Path| {
        format!(
            "\n[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"{}\"]\n",
            script.display()
        )
    };
    let guard = "\n[[guard]]\nkind = \"fork_storm\"\non = [\"*\"]\nper_second = 100\n";
    site.configure(&(service("bomb", &bomb) + &service("calm", &calm) + guard))?;
    let mut daemon = site.start()?;
    let calm = daemon.wait_for("the neighbour runs", |daemon| daemon.service("calm"))?;
    daemon.incident("the bomb is down", |incident| {
        is(incident, "service_down", "bomb") && incident.outcome != Some(Outcome::Fixed)
    })?;
    daemon.says("a fork storm was ended with all of its cgroup")?;
    daemon.wait_for("nothing is left of it", |_| {
        let left = site.running().ok()?;
        left.get("bomb").is_none_or(Vec::is_empty).then_some(())
    })?;
    ensure!(daemon.service("calm") == Some(calm), "the neighbour lives");
    Ok(())
}
