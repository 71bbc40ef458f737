//! Guards that act in the kernel: what crosses them ends there, what may not be ended is only reported.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::cgroupfs::CgroupFs;
use smart_monitor::host::procfs;
use smart_monitor::model::{Incident, Outcome};
use smart_monitor_tests::{Daemon, PATIENCE, Simulated, Site, program, wait_until};

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
    daemon.wait_for("it has taken twice its ceiling", |_| {
        let resident = procfs::resident(process).ok()?;
        (resident > 190 << 20).then_some(())
    })?;
    ensure!(daemon.service("auth") == Some(process), "it lives");
    let enforced = site
        .journal()?
        .into_iter()
        .any(|entry| entry["entry"] == "guarded" && entry["enforce"] == true);
    ensure!(!enforced);
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
    let service = |name: &str, script: &Path| {
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

/// A cgroup of the test's own, gone with it.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Result<Self> {
        let tree = CgroupFs::open()?.context("no cgroup v2")?;
        let folder = tree
            .mount()
            .join(format!("guarded-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..1000 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

#[test]
fn a_cgroup_with_a_protected_process_is_only_reported_on() -> Result<()> {
    let site = Site::new()?;
    let (precious, plain) = (Group::new("precious")?, Group::new("plain")?);
    // By its name, as a session of sshd would be.
    let sshd = site.path("sshd");
    std::fs::copy("/bin/sleep", &sshd)?;
    let storm = site.script(
        "storm",
        "i=0\nwhile [ $i -lt 60 ]; do i=$((i+1)); /bin/true; done\n",
    )?;
    let guard = |group: &Group| {
        let path = group.0.display();
        format!("\n[[guard]]\nkind = \"fork_storm\"\ncgroup = \"{path}\"\nper_second = 20\n")
    };
    let within = |group: &Group, command: &str| {
        let enter = format!("echo 0 > {}/cgroup.procs; {command}", group.0.display());
        program("sh").args(["-c", &enter]).spawn()
    };
    let mut held = within(&precious, &format!("exec {} 100", sshd.display()))?;
    let inside = |group: &Group| {
        let members = std::fs::read_to_string(group.0.join("cgroup.procs")).ok()?;
        (!members.trim().is_empty()).then_some(())
    };
    wait_until(PATIENCE, "it is in its cgroup", || inside(&precious))?;
    wait_until(PATIENCE, "it is what it is called", || {
        (procfs::stat(held.id())?.comm == "sshd").then_some(())
    })?;
    site.configure(&(guard(&precious) + &guard(&plain)))?;
    let mut daemon = site.start()?;
    daemon.says("which is protected")?;
    let run = |group: &Group, script: &Path| -> Result<bool> {
        let storm = format!("exec sh {}", script.display());
        Ok(within(group, &storm)?.wait()?.success())
    };
    ensure!(!run(&plain, &storm)?, "where nothing is protected, it ends");
    ensure!(run(&precious, &storm)?, "where something is, it goes on");
    ensure!(held.try_wait()?.is_none(), "and the protected one lives");
    held.kill()?;
    held.wait()?;
    Ok(())
}
