//! The daemon itself: a bad deploy is rolled back, proven, remembered; and what is cut short goes forward again.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, Outcome, Subject};
use smart_monitor_tests::{Daemon, PATIENCE, Site, program, send, wait_until};

const GOOD: &str = "exec sleep 1000\n";
const BAD: &str = "sleep 0.2; exit 1\n";

/// A service that runs `run` of its release; it has proven itself after a second.
fn config(site: &Site, run: &Path, release: &str) -> Result<()> {
    let mut text = format!(
        "[policy]\nbackoff_initial = \"10ms\"\nlimit = 20\n[detectors.service_down]\nsettle = \"500ms\"\n[[service]]\nname = \"shop\"\nkind = \"command\"\ncommand = [\"sh\", \"{}\"]\n[service.release]\nproven_after = \"1s\"\n{release}\n",
        run.display()
    );
    text.push_str(
        "[[remedy]]\ndetector = \"service_down\"\non = [\"shop\"]\nverify_within = \"5s\"\n",
    );
    for action in ["restart_service", "rollback_release"] {
        writeln!(text, "[[remedy.step]]\naction = \"{action}\"")?;
    }
    text.push_str(
        "[[remedy]]\ndetector = \"manual\"\non = [\"shop\"]\naction = \"rollback_release\"\n",
    );
    site.configure(&text)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = program("git");
    command.arg("-C").arg(folder).args(arguments);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Deployer");
        command.env(format!("GIT_{who}_EMAIL"), "deployer@example.org");
    }
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {arguments:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn commit(folder: &Path, run: &str) -> Result<String> {
    std::fs::write(folder.join("run"), run)?;
    git(folder, &["add", "-A"])?;
    git(folder, &["commit", "-q", "-m", "a release"])?;
    git(folder, &["rev-parse", "HEAD"])
}

/// A checkout whose first release is a good one.
fn checkout(site: &Site) -> Result<(PathBuf, String)> {
    let folder = site.path("app");
    std::fs::create_dir_all(&folder)?;
    git(&folder, &["init", "-q", "-b", "main"])?;
    let good = commit(&folder, GOOD)?;
    Ok((folder, good))
}

/// What the journal says last of the releases of the service.
fn known(site: &Site) -> Option<Value> {
    let journal = site.journal().ok()?;
    let mut lines = journal.iter().rev();
    let line = lines.find(|line| line.get("entry") == Some(&json!("releases")))?;
    line.get("known").cloned()
}

fn proven(site: &Site, release: &str) -> Result<()> {
    wait_until(PATIENCE, "the release has proven itself", || {
        let known = known(site)?;
        let good = known.get("good")?.as_array()?.last()?.as_str()?;
        (good == release).then_some(())
    })
}

/// It is put into place by now; whoever deploys has the service start with it.
fn restarted(daemon: &Daemon) -> Result<()> {
    send(daemon.service("shop").context("it runs")?, Signal::KILL)
}

fn tells(incident: &Incident, what: StepKind, text: &str) -> bool {
    let mut steps = incident.steps.iter();
    steps.any(|step| step.what == what && step.detail.contains(text))
}

fn down(incident: &Incident) -> bool {
    incident.detector == "service_down" && incident.subject == Subject::service("shop")
}

fn roll_backs(site: &Site) -> Result<usize> {
    let journal = site.journal()?;
    let of = |line: &&Value| {
        line.get("entry") == Some(&json!("intent"))
            && line.get("action") == Some(&json!("rollback_release"))
            && line.get("undo").is_none()
    };
    Ok(journal.iter().filter(of).count())
}

#[test]
fn a_bad_commit_is_rolled_back_and_the_old_one_proves_itself() -> Result<()> {
    let site = Site::new()?;
    let (folder, good) = checkout(&site)?;
    let release = format!("kind = \"git\"\npath = \"{}\"", folder.display());
    config(&site, &folder.join("run"), &release)?;
    let mut daemon = site.start()?;
    proven(&site, &good)?;
    let bad = commit(&folder, BAD)?;
    restarted(&daemon)?;
    let incident = daemon.incident("the deploy is rolled back", |incident| {
        down(incident) && incident.is_over() && tells(incident, StepKind::Acted, "runs release")
    })?;
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(tells(&incident, StepKind::Acted, &good), "{incident:#?}");
    ensure!(git(&folder, &["rev-parse", "HEAD"])? == good);
    ensure!(
        git(&folder, &["rev-parse", "main"])? == bad,
        "no branch is moved"
    );
    ensure!(git(&folder, &["status", "--porcelain"])?.is_empty());
    let known = known(&site).context("it is remembered")?;
    ensure!(known.get("rolled_back") == Some(&json!([bad])), "{known}");
    ensure!(roll_backs(&site)? == 1);
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_bad_link_is_rolled_back_and_the_old_one_proves_itself() -> Result<()> {
    let site = Site::new()?;
    let (releases, current) = (site.path("releases"), site.path("current"));
    for (name, run) in [("v1", GOOD), ("v2", BAD)] {
        std::fs::create_dir_all(releases.join(name))?;
        std::fs::write(releases.join(name).join("run"), run)?;
    }
    symlink("releases/v1", &current)?;
    let release = format!(
        "kind = \"symlink\"\npath = \"{}\"\nreleases = \"{}\"",
        current.display(),
        releases.display()
    );
    config(&site, &current.join("run"), &release)?;
    let mut daemon = site.start()?;
    proven(&site, "v1")?;
    // As a deploy does it: another link in its place.
    symlink("releases/v2", site.path("next"))?;
    std::fs::rename(site.path("next"), &current)?;
    restarted(&daemon)?;
    let incident = daemon.incident("the deploy is rolled back", |incident| {
        down(incident) && incident.is_over() && tells(incident, StepKind::Acted, "runs release v1")
    })?;
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");
    ensure!(std::fs::read_link(&current)? == Path::new("releases/v1"));
    ensure!(releases.join("v2/run").exists(), "nothing is deleted");
    daemon.healthy("shop")?;
    let known = known(&site).context("it is remembered")?;
    ensure!(known.get("rolled_back") == Some(&json!(["v2"])), "{known}");
    ensure!(roll_backs(&site)? == 1);
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_link_goes_back_and_forward_again_where_the_old_one_is_no_better() -> Result<()> {
    let site = Site::new()?;
    let (releases, current) = (site.path("releases"), site.path("current"));
    // The first release runs as long as nobody has migrated its data.
    let migrated = site.path("migrated");
    let first = format!("test -e {} && exit 1\n{GOOD}", migrated.display());
    for (name, run) in [("v1", first.as_str()), ("v2", BAD)] {
        std::fs::create_dir_all(releases.join(name))?;
        std::fs::write(releases.join(name).join("run"), run)?;
    }
    symlink("releases/v1", &current)?;
    let release = format!(
        "kind = \"symlink\"\npath = \"{}\"\nreleases = \"{}\"\nschema_check = [\"test\", \"-e\", \"{}\"]",
        current.display(),
        releases.display(),
        site.path("allowed").display()
    );
    config(&site, &current.join("run"), &release)?;
    let mut daemon = site.start()?;
    proven(&site, "v1")?;
    std::fs::write(&migrated, "")?;
    std::fs::remove_file(&current)?;
    symlink("releases/v2", &current)?;
    restarted(&daemon)?;
    daemon.incident("its schema check stops it", |incident| {
        down(incident) && tells(incident, StepKind::Failed, "schema check does not allow it")
    })?;
    ensure!(std::fs::read_link(&current)? == Path::new("releases/v2"));
    // Refused is not tried: the one shot is still there.
    std::fs::write(site.path("allowed"), "")?;
    daemon.incident("forward again", |incident| {
        down(incident) && tells(incident, StepKind::Undone, "runs release v2")
    })?;
    ensure!(std::fs::read_link(&current)? == Path::new("releases/v2"));
    let known = known(&site).context("it is remembered")?;
    ensure!(known.get("rolled_back") == Some(&json!(["v2"])), "{known}");
    daemon.incident("there is no second one", |incident| {
        down(incident) && tells(incident, StepKind::Refused, "rolled back from v2 before")
    })?;
    ensure!(std::fs::read_link(&current)? == Path::new("releases/v2"));
    Ok(())
}

/// A roll-back of a checkout, cut short in the midst of its build.
struct CutShort {
    site: Site,
    folder: PathBuf,
    good: String,
    bad: String,
    /// Each start of the old release is noted here.
    ran: PathBuf,
    /// Builds note here that they begin, and end when this is there.
    builds: PathBuf,
    free: PathBuf,
    daemon: Daemon,
}

impl CutShort {
    fn new() -> Result<Self> {
        let site = Site::new()?;
        let (ran, builds, free) = (site.path("ran"), site.path("builds"), site.path("free"));
        let folder = site.path("app");
        std::fs::create_dir_all(&folder)?;
        git(&folder, &["init", "-q", "-b", "main"])?;
        let good = commit(&folder, &format!("echo >> {}\n{GOOD}", ran.display()))?;
        let build = site.script(
            "build",
            &format!(
                "echo >> {}\nuntil test -e {}; do sleep 0.1; done\n",
                builds.display(),
                free.display()
            ),
        )?;
        let release = format!(
            "kind = \"git\"\npath = \"{}\"\nbuild = [\"{}\"]",
            folder.display(),
            build.display()
        );
        config(&site, &folder.join("run"), &release)?;
        let daemon = site.start()?;
        proven(&site, &good)?;
        Ok(Self {
            site,
            folder,
            good,
            bad: String::new(),
            ran,
            builds,
            free,
            daemon,
        })
    }

    /// This is deployed.
    fn deploy(&mut self, run: &str) -> Result<()> {
        self.bad = commit(&self.folder, run)?;
        restarted(&self.daemon)
    }

    /// That many builds have begun.
    fn builds(&self, number: usize) -> Result<()> {
        wait_until(PATIENCE, "it is being built", || {
            let text = std::fs::read_to_string(&self.builds).ok()?;
            (text.len() == number).then_some(())
        })
    }

    /// The daemon is killed while the old release is being built.
    fn cut(&mut self) -> Result<()> {
        self.builds(1)?;
        let head = git(&self.folder, &["rev-parse", "HEAD"])?;
        ensure!(head == self.good, "it is half done");
        self.daemon.kill()?;
        std::fs::remove_file(&self.ran)?;
        Ok(())
    }

    /// The next daemon has gone forward again, and has not run the old release meanwhile.
    fn went_forward(&mut self, how: &str) -> Result<()> {
        self.daemon = self.site.start()?;
        self.builds(2)?;
        ensure!(!self.ran.exists(), "it is not started before it is built");
        std::fs::write(&self.free, "")?;
        let incident = self.daemon.incident("it goes forward again", |incident| {
            tells(incident, StepKind::Undone, how)
        })?;
        ensure!(!tells(&incident, StepKind::Failed, ""), "{incident:#?}");
        ensure!(git(&self.folder, &["rev-parse", "HEAD"])? == self.bad);
        ensure!(!self.ran.exists(), "the old one was started");
        Ok(())
    }
}

#[test]
fn a_daemon_that_is_killed_in_the_midst_goes_forward_before_it_starts_the_service() -> Result<()> {
    let mut it = CutShort::new()?;
    it.deploy(BAD)?;
    it.cut()?;
    it.went_forward("runs release")?;
    // The one shot was used, though nobody said how it ended.
    it.daemon.incident("there is no second one", |incident| {
        down(incident)
            && tells(
                incident,
                StepKind::Refused,
                "before, and is not a second time",
            )
    })?;
    ensure!(roll_backs(&it.site)? == 1);
    ensure!(git(&it.folder, &["rev-parse", "HEAD"])? == it.bad);
    Ok(())
}

#[test]
fn what_ran_the_newer_one_all_along_is_not_started_anew() -> Result<()> {
    let mut it = CutShort::new()?;
    it.deploy(GOOD)?;
    proven(&it.site, &it.bad)?;
    let process = it.daemon.service("shop").context("it runs")?;
    let words = ["act", "rollback_release", "shop", "--wait", "0s"];
    super::told(&it.site, &words)?;
    it.cut()?;
    it.went_forward("which ran it all along: not started anew")?;
    ensure!(it.daemon.service("shop") == Some(process));
    Ok(())
}

#[test]
fn what_does_not_survive_the_daemon_runs_the_newer_one_again() -> Result<()> {
    let mut it = CutShort::new()?;
    it.deploy(GOOD)?;
    proven(&it.site, &it.bad)?;
    let process = it.daemon.service("shop").context("it runs")?;
    let words = ["act", "rollback_release", "shop", "--wait", "0s"];
    super::told(&it.site, &words)?;
    it.cut()?;
    send(process, Signal::KILL)?;
    it.went_forward("runs release")?;
    let runs = it.daemon.healthy("shop")?;
    ensure!(runs != process);
    it.daemon.says("waits until rollback_release of incident")?;
    Ok(())
}
