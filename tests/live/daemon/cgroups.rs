//! Every service has a cgroup of its own: whatever its processes do, they are known as its, and end with it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::{ProcessKey, Severity};
use smart_monitor_tests::{
    Daemon, PATIENCE, Simulated, Site, file_name, program, send, wait_until,
};

use super::{is, restarts};

/// A main process, a worker with a session of its own, and an orphan of that with one of its own.
const TREE: &str = "(setsid sh -c '(setsid sleep 1003 &) ; exec sleep 1002' &)\nexec sleep 1001";

fn service(name: &str, script: &Path, lines: &str) -> String {
    let script = script.display();
    format!(
        "\n[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"{script}\"]\n{lines}\n"
    )
}

/// One that runs as the daemon does, one as somebody else.
fn two_trees(site: &Site) -> Result<String> {
    let script = site.script("tree", TREE)?;
    Ok(service("web", &script, "") + &service("nobody", &script, "uid = 65534\ngid = 65534"))
}

/// All processes of a service, once the whole tree stands, none of them one of `before`.
fn tree(site: &Site, name: &str, before: &BTreeSet<ProcessKey>) -> Result<BTreeSet<ProcessKey>> {
    wait_until(PATIENCE, "the whole tree stands, and nothing else", || {
        let all = site.running().ok()?.remove(name)?;
        let sleeps = |process: &ProcessKey| {
            procfs::stat(process.pid).is_some_and(|stat| stat.comm == "sleep")
        };
        let all: BTreeSet<ProcessKey> = all.into_iter().collect();
        (all.len() == 3 && all.iter().all(sleeps) && all.is_disjoint(before)).then_some(all)
    })
}

/// The cgroup of a process, as the kernel says: its path in the hierarchy.
fn cgroup(process: ProcessKey) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.pid))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(line.context("no cgroup")?.to_owned())
}

/// The same, its folder.
fn folder(process: ProcessKey) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let at = line.and_then(|line| line.split(' ').nth(4));
    let path = at
        .context("no cgroup hierarchy of version 2 is mounted")?
        .to_owned()
        + &cgroup(process)?;
    Ok(path.into())
}

fn all_in_one(all: &BTreeSet<ProcessKey>, name: &str) -> Result<PathBuf> {
    let folders = all.iter().map(|process| folder(*process));
    let folders = folders.collect::<Result<BTreeSet<_>>>()?;
    ensure!(folders.len() == 1, "{folders:?}");
    let folder = folders.into_iter().next().context("none")?;
    let last = file_name(&folder);
    ensure!(last.trim_end_matches('+') == name, "{}", folder.display());
    Ok(folder)
}

fn main_of(daemon: &mut Daemon, name: &str) -> Result<ProcessKey> {
    daemon.wait_for("it runs", |daemon| daemon.service(name))
}

#[test]
fn nothing_of_a_service_survives_its_restart_or_its_stop() -> Result<()> {
    let site = Site::new()?;
    site.configure(&(two_trees(&site)? + &restarts()))?;
    let mut daemon = site.start()?;
    let mut folders = Vec::new();
    for name in ["web", "nobody"] {
        let before = tree(&site, name, &BTreeSet::new())?;
        all_in_one(&before, name)?;
        send(main_of(&mut daemon, name)?, Signal::KILL)?;
        let after = tree(&site, name, &before)?;
        folders.push(all_in_one(&after, name)?);
        let main = main_of(&mut daemon, name)?;
        ensure!(after.contains(&main), "{main:?} is not in {after:?}");
        let user = after
            .iter()
            .filter_map(|process| procfs::real_uid(process.pid));
        let meant = if name == "web" { 0 } else { 65534 };
        ensure!(
            user.clone().count() == 3 && user.clone().all(|uid| uid == meant),
            "wrong user"
        );
    }
    daemon.says("what it left behind was ended")?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    for folder in folders {
        ensure!(!folder.exists(), "{} stays behind", folder.display());
    }
    Ok(())
}

#[test]
fn nothing_of_a_service_survives_when_the_daemon_was_killed_in_between() -> Result<()> {
    let site = Site::new()?;
    site.configure(&(two_trees(&site)? + &restarts()))?;
    let mut daemon = site.start()?;
    let web = tree(&site, "web", &BTreeSet::new())?;
    let nobody = tree(&site, "nobody", &BTreeSet::new())?;
    let main = main_of(&mut daemon, "nobody")?;
    daemon.kill()?;
    // One is taken over, of the other the workers alone are left.
    send(main, Signal::KILL)?;
    let mut daemon = site.start()?;
    daemon.says("found running, taken over")?;
    let nobody = tree(&site, "nobody", &nobody)?;
    ensure!(
        tree(&site, "web", &BTreeSet::new())? == web,
        "it was touched"
    );
    send(main_of(&mut daemon, "web")?, Signal::KILL)?;
    let web = tree(&site, "web", &web)?;
    let folder = all_in_one(&web, "web")?;
    daemon.kill()?;
    let mut daemon = site.start()?;
    daemon.wait_for("both are taken over", |daemon| {
        let mains = [daemon.service("web")?, daemon.service("nobody")?];
        (web.contains(&mains[0]) && nobody.contains(&mains[1])).then_some(())
    })?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    ensure!(!folder.exists(), "{} stays behind", folder.display());
    Ok(())
}

/// `service_of_cgroup`, PSI and all that ask by the cgroup's number depend on it being told.
#[test]
fn the_cgroup_of_a_service_is_told_and_a_new_one_at_each_start() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let recording = site.path("recording");
    let mut daemon = site.start_with(|command| {
        command.arg("--record").arg(&recording);
    })?;
    let process = daemon.healthy("auth")?;
    let first = fs::metadata(folder(process)?)?.ino();
    send(process, Signal::KILL)?;
    daemon.wait_for("it was started anew", |daemon| {
        daemon.service("auth").filter(|now| *now != process)
    })?;
    // Whoever wrote to it must not keep the service from starting.
    let second = daemon.healthy("auth")?;
    fs::write(folder(second)?.join("cgroup.kill"), "1")?;
    daemon.wait_for("it was started again", |daemon| {
        daemon.service("auth").filter(|now| *now != second)
    })?;
    let process = daemon.healthy("auth")?;
    let last = fs::metadata(folder(process)?)?.ino();
    ensure!(daemon.stop()?.success(), "an orderly end");
    let dump = program(smart_monitor_tests::binary()?)
        .arg("replay")
        .arg(&recording)
        .arg("--dump")
        .output()?;
    let text = String::from_utf8(dump.stdout)?;
    for id in [first, last] {
        ensure!(
            text.contains(&format!("\"cgroup_id\":{id}")),
            "{id} is not told: {text}"
        );
    }
    Ok(())
}

#[test]
fn without_a_cgroup_a_service_runs_all_the_same_and_that_is_said() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start_with(|command| {
        let script = "for at in $(awk '/ - cgroup2 /{print $5}' /proc/self/mountinfo); do mount -o remount,bind,ro $at || exit 1; done; exec \"$@\"";
        let daemon = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let output = || File::options().append(true).open(site.path("1.log"));
        let mut wrapped = program("unshare");
        wrapped.args(["-m", "sh", "-c", script, "sh"]).arg(daemon).args(arguments);
        if let (Ok(out), Ok(err)) = (output(), output()) {
            wrapped.stdout(out).stderr(err);
        }
        *command = wrapped;
    })?;
    let process = daemon.healthy("auth")?;
    ensure!(!cgroup(process)?.ends_with("/auth"), "{}", cgroup(process)?);
    let said = "services run without a cgroup of their own";
    let health = daemon.health()?;
    ensure!(format!("{health:?}").contains(said), "{health:?}");
    send(process, Signal::KILL)?;
    daemon.wait_for("it is repaired", |daemon| {
        daemon.service("auth").filter(|now| *now != process)
    })?;
    daemon.healthy("auth")?;
    ensure!(
        daemon.log().matches(said).count() == 1,
        "once: {}",
        daemon.log()
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    Ok(())
}

/// Somebody moves the daemon to where its service is: it must not end itself.
#[test]
fn the_daemon_does_not_end_itself() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    let own = folder(daemon.process()?)?;
    let inside = folder(process)?;
    fs::write(
        inside.join("cgroup.procs"),
        daemon.process()?.pid.to_string(),
    )?;
    send(process, Signal::KILL)?;
    let now = daemon.wait_for("it is repaired", |daemon| {
        daemon.service("auth").filter(|now| *now != process)
    })?;
    ensure!(now != process, "it runs");
    daemon.says("nothing is ended there")?;
    daemon.healthy("auth")?;
    fs::write(own.join("cgroup.procs"), daemon.process()?.pid.to_string())?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    for folder in inside.ancestors().take(3) {
        let _others = fs::remove_dir(folder);
    }
    Ok(())
}

/// Memory pressure is made by a limit of the memory controller, which must be one of version 1: the daemon switches none on.
struct Limit(PathBuf);

impl Limit {
    fn new() -> Result<Self> {
        let name = format!("smart-monitor-test-{}", std::process::id());
        let folder = Path::new("/sys/fs/cgroup/memory").join(name);
        fs::create_dir(&folder).context(
            "this test needs the memory controller of cgroup version 1 at /sys/fs/cgroup/memory",
        )?;
        Ok(Self(folder))
    }

    fn set(&self, bytes: &str) -> Result<()> {
        Ok(fs::write(self.0.join("memory.limit_in_bytes"), bytes)?)
    }

    fn enter(&self, process: ProcessKey) -> Result<()> {
        Ok(fs::write(
            self.0.join("cgroup.procs"),
            process.pid.to_string(),
        )?)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let removed = || fs::remove_dir(&self.0).ok();
        if wait_until(PATIENCE, "its processes have left", removed).is_err() {
            eprintln!("{} stays behind", self.0.display());
        }
    }
}

#[test]
fn a_service_that_stalls_on_a_limit_of_its_own_is_shown_until_it_does_no_longer() -> Result<()> {
    let limit = Limit::new()?;
    let site = Site::new()?;
    let reader = format!(
        "while :; do dd if=/dev/zero of={0} bs=1M count=64; cat {0} {0} {0} >/dev/null; done 2>/dev/null",
        site.path("much").display()
    );
    let (busy, calm) = (
        site.script("busy", &reader)?,
        site.script("calm", "exec sleep 1000")?,
    );
    let alarm = "[samplers.memory_pressure]\nstall = \"10ms\"\nwindow = \"2s\"\n";
    site.configure(
        &(alarm.to_owned() + &service("busy", &busy, "") + &service("calm", &calm, "")),
    )?;
    let mut daemon = site.start()?;
    let process = main_of(&mut daemon, "busy")?;
    limit.set("12M")?;
    limit.enter(process)?;
    let incident = daemon.incident("it is seen to stall", |incident| {
        is(incident, "memory_pressure", "busy")
    })?;
    ensure!(incident.severity == Severity::Warning, "{incident:#?}");
    ensure!(incident.evidence.process == Some(process), "{incident:#?}");
    limit.set("-1")?;
    daemon.incident("it is over", |incident| {
        is(incident, "memory_pressure", "busy") && incident.is_over()
    })?;
    let all = daemon.incidents()?;
    ensure!(
        !all.iter()
            .any(|incident| is(incident, "memory_pressure", "calm")),
        "{all:#?}"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
