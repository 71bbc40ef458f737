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

#[test]
fn a_daemon_that_is_killed_in_the_midst_goes_forward_at_its_next_start() -> Result<()> {
    let site = Site::new()?;
    let (folder, good) = checkout(&site)?;
    let (started, free) = (site.path("started"), site.path("free"));
    // The first build does not end.
    let build = site.script(
        "build",
        &format!(
            "test -e {} && exit 0\ntouch {}\nexec sleep 1000\n",
            free.display(),
            started.display()
        ),
    )?;
    let release = format!(
        "kind = \"git\"\npath = \"{}\"\nbuild = [\"{}\"]",
        folder.display(),
        build.display()
    );
    config(&site, &folder.join("run"), &release)?;
    let mut daemon = site.start()?;
    proven(&site, &good)?;
    let bad = commit(&folder, BAD)?;
    restarted(&daemon)?;
    wait_until(PATIENCE, "the roll-back builds", || {
        started.exists().then_some(())
    })?;
    ensure!(
        git(&folder, &["rev-parse", "HEAD"])? == good,
        "it is half done"
    );
    daemon.kill()?;
    drop(daemon);
    std::fs::write(&free, "")?;

    let mut daemon = site.start()?;
    daemon.incident("it goes forward again", |incident| {
        tells(incident, StepKind::Undone, "runs release")
    })?;
    ensure!(git(&folder, &["rev-parse", "HEAD"])? == bad);
    // The one shot was used, though nobody said how it ended.
    daemon.incident("there is no second one", |incident| {
        down(incident)
            && tells(
                incident,
                StepKind::Refused,
                "before, and is not a second time",
            )
    })?;
    ensure!(roll_backs(&site)? == 1);
    ensure!(git(&folder, &["rev-parse", "HEAD"])? == bad);
    Ok(())
}
