//! Programs of a real supervisord.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::{State, StepKind};
use smart_monitor::model::{Incident, ProcessKey, ServiceState};
use smart_monitor_tests::{Daemon, PATIENCE, Site, program, send, wait_until};

const REMEDY: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"
attempts = 1
"#;

/// A supervisord of the test's own; killed with it.
struct Supervisord {
    child: Child,
}

impl Supervisord {
    /// With these programs, each of which notes its starts in `NAME.starts` and fails while there is a file `NAME.broken`.
    fn start(site: &Site, programs: &[(&str, &str)]) -> Result<Self> {
        let folder = site.path("");
        let folder = folder.display();
        let mut text = format!(
            "[supervisord]\nnodaemon=true\nlogfile={folder}/sd.log\npidfile={folder}/sd.pid\nuser=root\n\
            [unix_http_server]\nfile={folder}/sd.sock\nusername=us\npassword=secret\n\
            [supervisorctl]\nserverurl=unix://{folder}/sd.sock\nusername=us\npassword=secret\n\
            [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        );
        for (name, settings) in programs {
            let script = site.script(
                name,
                "echo >> \"$0.starts\"; [ -e \"$0.broken\" ] && exit 3; exec sleep 1000",
            )?;
            let script = script.display();
            text = format!("{text}[program:{name}]\ncommand={script}\n{settings}\n");
        }
        fs::write(site.path("sd.conf"), text)?;
        fs::write(site.path("sd.password"), "secret\n")?;
        Self::again(site)
    }

    fn again(site: &Site) -> Result<Self> {
        let mut command = program("supervisord");
        command.arg("-c").arg(site.path("sd.conf"));
        // What it starts goes away with the site.
        command.env("SMART_MONITOR_STATE_DIR", site.state());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let _ = fs::remove_file(site.path("sd.sock"));
        let child = command.stderr(Stdio::null()).spawn();
        let child = child.context("no supervisord: .ci/run installs it")?;
        let supervisord = Self { child };
        let listens = || site.path("sd.sock").exists().then_some(());
        wait_until(PATIENCE, "supervisord listens", listens)?;
        Ok(supervisord)
    }

    fn kill(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        self.kill();
    }
}

fn control(site: &Site, words: &[&str]) -> Result<()> {
    let mut command = program("supervisorctl");
    command.arg("-c").arg(site.path("sd.conf")).args(words);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "supervisorctl {words:?}: {said}");
    Ok(())
}

fn services(site: &Site, names: &[&str]) -> String {
    let socket = site.path("sd.sock");
    let password = site.path("sd.password");
    let one = |name: &&str| {
        format!(
            "[[service]]\nname = \"{name}\"\nkind = \"supervisord\"\n\
            with = {{ socket = \"{}\", username = \"us\", password_file = \"{}\" }}\n",
            socket.display(),
            password.display()
        )
    };
    names.iter().map(one).collect::<String>() + REMEDY
}

fn starts(site: &Site, name: &str) -> Result<usize> {
    Ok(fs::read(site.path(&format!("{name}.starts")))?.len())
}

/// Kills the process of a service; the incident of that, when it is over, and the new process.
fn repaired(daemon: &mut Daemon, name: &str, old: ProcessKey) -> Result<(Incident, ProcessKey)> {
    send(old, Signal::KILL)?;
    let incident = daemon.incident(&format!("{name} is repaired"), |it| {
        it.subject.configured_name() == Some(name) && it.is_over()
    })?;
    let new = daemon.healthy(name)?;
    ensure!(new != old && procfs::runs(new), "{old} {new}");
    Ok((incident, new))
}

fn is(daemon: &mut Daemon, name: &str, state: ServiceState) -> Result<()> {
    daemon.wait_for(&format!("{name} is {}", state.name()), |daemon| {
        let view = daemon.status().ok()?.view.services.remove(name)?;
        (view.state == state).then_some(())
    })
}

fn counts(incident: &Incident, kind: StepKind) -> usize {
    incident.steps.iter().filter(|it| it.what == kind).count()
}

#[test]
fn an_end_is_repaired_once_and_a_stop_never() -> Result<()> {
    let site = Site::new()?;
    let programs = [
        ("heals", "startsecs=0\nautorestart=true"),
        ("left", "startsecs=0\nautorestart=false"),
    ];
    let _supervisord = Supervisord::start(&site, &programs)?;
    site.configure(&services(&site, &["heals", "left"]))?;
    let mut daemon = site.start()?;
    let (heals, left) = (daemon.healthy("heals")?, daemon.healthy("left")?);

    let (theirs, heals) = repaired(&mut daemon, "heals", heals)?;
    ensure!(theirs.actions == 0, "they did it: {theirs:#?}");
    let tells = |it: &Incident| it.steps.iter().any(|it| it.detail.contains("supervisord"));
    ensure!(tells(&theirs), "it says who: {theirs:#?}");
    ensure!(starts(&site, "heals")? == 2, "it was started once again");

    let (ours, _) = repaired(&mut daemon, "left", left)?;
    ensure!(ours.actions == 1, "we did it: {ours:#?}");
    ensure!(counts(&ours, StepKind::Acted) == 1, "{ours:#?}");
    ensure!(starts(&site, "left")? == 2, "it was started once again");

    for name in ["heals", "left"] {
        control(&site, &["stop", name])?;
        is(&mut daemon, name, ServiceState::Stopped)?;
    }
    ensure!(!procfs::runs(heals), "it is stopped");
    let all = daemon.incidents()?;
    ensure!(all.len() == 2, "to stop it is no fault: {all:#?}");
    let twice = [starts(&site, "heals")?, starts(&site, "left")?];
    ensure!(twice == [2, 2], "nobody starts it: {twice:?}");
    control(&site, &["start", "heals"])?;
    daemon.healthy("heals")?;
    Ok(())
}

#[test]
fn what_they_give_up_is_tried_once_and_then_a_persons() -> Result<()> {
    let site = Site::new()?;
    let programs = [("flaps", "startsecs=1\nstartretries=1\nautorestart=true")];
    let _supervisord = Supervisord::start(&site, &programs)?;
    site.configure(&services(&site, &["flaps"]))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("flaps")?;
    // Only one that has run for its startsecs is started anew without being counted.
    wait_until(PATIENCE, "it counts as started", || {
        let log = fs::read_to_string(site.path("sd.log")).ok()?;
        log.contains("success: flaps").then_some(())
    })?;
    fs::write(site.path("flaps.broken"), "")?;
    send(first, Signal::KILL)?;
    let incident = daemon.incident("a person is needed", |it| it.state == State::Escalated)?;
    ensure!(incident.actions == 1, "one remedy: {incident:#?}");
    daemon.wait_for("it says why", |daemon| {
        let view = daemon.status().ok()?.view.services.remove("flaps")?;
        let why = view.service.gave_up?;
        why.contains("FATAL: given up").then_some(())
    })?;
    // The first; two of theirs; ours, and what they make of that.
    ensure!((4..=6).contains(&starts(&site, "flaps")?), "no storm");

    fs::remove_file(site.path("flaps.broken"))?;
    control(&site, &["start", "flaps"])?;
    daemon.healthy("flaps")?;
    Ok(())
}

#[test]
fn without_supervisord_nothing_is_known_until_it_is_back() -> Result<()> {
    let site = Site::new()?;
    let mut supervisord = Supervisord::start(&site, &[("web", "startsecs=0")])?;
    site.configure(&services(&site, &["web", "other"]))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("web")?;
    is(&mut daemon, "other", ServiceState::Unknown)?;
    supervisord.kill();
    is(&mut daemon, "web", ServiceState::Unknown)?;
    let view = daemon
        .status()?
        .view
        .services
        .remove("web")
        .context("it is there")?;
    let why = view.service.unknown.unwrap_or_default();
    ensure!(why.contains("nobody listens at"), "{why}");
    let _again = Supervisord::again(&site)?;
    let second = daemon.wait_for("its new process is seen", |daemon| {
        daemon.service("web").filter(|it| *it != first)
    })?;
    ensure!(daemon.healthy("web")? == second, "it is well");
    let all = daemon.incidents()?;
    ensure!(all.is_empty(), "that is no fault of the service: {all:#?}");
    Ok(())
}
