//! Ends of the daemon: asked for, and by `kill -9` at the worst moments.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Outcome, ProcessKey, State, Subject};
use smart_monitor_tests::{Daemon, Simulated, Site, file_name, program, send};

use super::{is, is_fixed, remedy, restarts, tells};

const UNDER_WAY: &str = "was under way when the daemon ended";
const DISORDERLY: &str = "did not end in an orderly way";

fn alone(site: &Site, service: &str, process: ProcessKey) -> Result<()> {
    let running = site.running()?;
    ensure!(
        running.get(service).is_some_and(|all| all == &[process]),
        "{service}: {running:?}"
    );
    Ok(())
}

#[test]
fn services_outlive_a_killed_daemon_and_the_next_one_takes_them_over() -> Result<()> {
    let site = Site::new()?;
    let (auth, payment) = (Simulated::new("auth")?, Simulated::new("payment")?);
    site.configure(&(auth.toml() + &payment.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let before = (daemon.healthy("auth")?, daemon.healthy("payment")?);
    daemon.kill()?;
    ensure!(
        procfs::runs(before.0) && procfs::runs(before.1),
        "services live on"
    );

    let mut daemon = site.start()?;
    let after = (daemon.healthy("auth")?, daemon.healthy("payment")?);
    ensure!(before == after, "{before:?} {after:?}");
    alone(&site, "auth", before.0)?;
    alone(&site, "payment", before.1)?;
    daemon.says("found running, taken over")?;
    daemon.says(DISORDERLY)?;
    ensure!(
        !daemon.log().contains(UNDER_WAY),
        "nothing was: {}",
        daemon.log()
    );

    // They are not its children, and their ends are seen all the same.
    send(before.0, Signal::KILL)?;
    let incident = daemon.incident("it is repaired", |incident| {
        is_fixed(incident, "service_down", "auth")
    })?;
    ensure!(incident.evidence.process == Some(before.0), "{incident:#?}");
    let replaced = daemon.healthy("auth")?;
    alone(&site, "auth", replaced)?;
    ensure!(
        daemon.healthy("payment")? == before.1,
        "a bystander was touched"
    );
    // And they end with it, like its own.
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    Ok(())
}

#[test]
fn a_service_that_ended_while_no_daemon_ran_is_started() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("auth")?;
    daemon.kill()?;
    send(before, Signal::KILL)?;
    let mut daemon = site.start()?;
    let after = daemon.healthy("auth")?;
    ensure!(after != before, "it was started anew");
    alone(&site, "auth", after)
}

/// The next start says what was under way, once; the one after that has nothing to say.
fn said_once(
    site: &Site,
    daemon: &mut Daemon,
    action: &str,
    cut: &smart_monitor::model::Incident,
) -> Result<()> {
    daemon.says(UNDER_WAY)?;
    ensure!(daemon.log().contains(action), "{}", daemon.log());
    let old = daemon.incident("it is told", |incident| incident.id == cut.id)?;
    ensure!(
        old.outcome == Some(Outcome::Unknown) && old.is_over(),
        "{old:#?}"
    );
    ensure!(old.last(StepKind::Interrupted).is_some(), "{old:#?}");
    ensure!(daemon.stop()?.success(), "an orderly end");

    let mut third = site.start()?;
    ensure!(
        !third.log().contains(UNDER_WAY),
        "said again:\n{}",
        third.log()
    );
    ensure!(
        !third.log().contains(DISORDERLY),
        "it was orderly:\n{}",
        third.log()
    );
    let again = third.incident("it is still listed", |incident| incident.id == cut.id)?;
    ensure!(again.outcome == Some(Outcome::Unknown), "{again:#?}");
    // When it ended does not move with each start.
    let moved = again
        .closed
        .zip(old.closed)
        .map(|(a, b)| a.since(b).max(b.since(a)));
    ensure!(
        moved.is_some_and(|moved| moved.as_secs() < 1),
        "moved by {moved:?}"
    );
    ensure!(third.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn killed_while_it_waits_for_a_service_to_leave() -> Result<()> {
    let mut site = Site::new()?;
    site.daemon_lines = "services_on_exit = \"leave\"".to_owned();
    let auth = Simulated::new("auth")?;
    let spike = "[detectors.latency_spike]\nthreshold = \"300ms\"\nchecks = 2\ngrace = \"1s\"\n";
    let patient = remedy("latency_spike", "restart_service", "term_grace = \"1h\"");
    site.configure(&(spike.to_owned() + &auth.toml() + &patient))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("auth")?;
    auth.fault("hang", &[("deaf", "1")])?;
    let cut = daemon.incident("it has asked the service to leave", |incident| {
        is(incident, "latency_spike", "auth") && incident.state == State::Acting
    })?;
    daemon.kill()?;
    let left = procfs::stat(before.pid).context("the service still runs")?;
    ensure!(left.key == before && left.state != 'T', "{left:?}");

    // The next one takes it over, hung as it is, and does it anew.
    let firm = remedy("latency_spike", "restart_service", "term_grace = \"100ms\"");
    site.configure(&(spike.to_owned() + &auth.toml() + &firm))?;
    let mut daemon = site.start()?;
    let next = daemon.incident("the hang is repaired", |incident| {
        is_fixed(incident, "latency_spike", "auth")
    })?;
    ensure!(
        next.evidence.process == Some(before) && next.id > cut.id,
        "{next:#?}"
    );
    ensure!(!procfs::runs(before), "the old one is gone");
    let after = daemon.healthy("auth")?;
    alone(&site, "auth", after)?;
    said_once(&site, &mut daemon, "restart_service", &cut)?;
    alone(&site, "auth", after)
}

#[test]
fn killed_while_it_waits_for_a_process_to_leave() -> Result<()> {
    let site = Site::new()?;
    let busy = site.script(
        &format!("sm-busy-{}", std::process::id() % 100_000),
        "trap '' TERM\nwhile :; do :; done",
    )?;
    let name = file_name(&busy);
    let text = format!(
        "[detectors.runaway_cpu]\nthreshold = \"10%\"\nfor = \"1s\"\n[[process]]\nname = \"busy\"\ncomm = [\"{name}\"]\n"
    );
    site.configure(
        &(text.clone() + &remedy("runaway_cpu", "kill_process", "term_grace = \"1h\"")),
    )?;
    let mut child = program(&busy).stdin(Stdio::null()).spawn()?;
    let process = procfs::stat(child.id()).context("it runs")?.key;
    let killed = (|| {
        let mut daemon = site.start()?;
        let is_it = |subject: &Subject| matches!(subject, Subject::Process { process: it, .. } if *it == process);
        let cut = daemon.incident("it has asked the process to leave", |incident| {
            is_it(&incident.subject) && incident.state == State::Acting
        })?;
        daemon.kill()?;
        let left = procfs::stat(process.pid).context("the process still runs")?;
        ensure!(left.key == process && left.state != 'T', "{left:?}");
        site.configure(&(text + &remedy("runaway_cpu", "kill_process", "term_grace = \"100ms\"")))?;
        let mut daemon = site.start()?;
        daemon.incident("it is ended", |incident| {
            is_it(&incident.subject) && incident.outcome == Some(Outcome::Fixed)
        })?;
        ensure!(!procfs::runs(process), "it is gone");
        said_once(&site, &mut daemon, "kill_process", &cut)
    })();
    child.kill()?;
    child.wait()?;
    killed
}

#[test]
fn killed_again_and_again_it_never_runs_a_service_twice() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let limits =
        "[policy]\nbackoff_initial = \"10ms\"\nlimit = 1000\nhost_limit_per_hour = 10000\n";
    site.configure(&(limits.to_owned() + &auth.toml() + &restarts()))?;
    let mut last = None;
    for round in 0..8_u32 {
        let mut daemon = site.start()?;
        let process = daemon.healthy("auth")?;
        if let Some(before) = last {
            ensure!(
                process == before || !procfs::runs(before),
                "two of it: {before:?} {process:?}"
            );
        }
        alone(&site, "auth", process)?;
        send(process, Signal::KILL)?;
        // At a different moment of the repair each time, from before its exec to after its proof.
        std::thread::sleep(std::time::Duration::from_micros(400) * round * round);
        daemon.kill()?;
        let running = site.running()?.remove("auth").unwrap_or_default();
        ensure!(running.len() <= 1, "{running:?}");
        last = running.first().copied();
    }
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    alone(&site, "auth", process)?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    Ok(())
}

#[test]
fn asked_to_end_it_stops_its_services_and_cleans_up() -> Result<()> {
    let site = Site::new()?;
    let (auth, deaf) = (Simulated::new("auth")?, Simulated::new("deaf")?);
    site.configure(&(auth.toml() + &deaf.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    daemon.healthy("deaf")?;
    deaf.fault("hang", &[("deaf", "1")])?;
    ensure!(site.socket().exists(), "the socket is there");
    ensure!(daemon.stop()?.success(), "an orderly end: {}", daemon.log());
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    ensure!(!site.socket().exists(), "the socket is removed");
    let journal = site.journal()?;
    let last = journal.last().and_then(|line| line.get("entry")?.as_str());
    ensure!(last == Some("ended"), "{last:?}");
    let incidents = journal.iter().filter(|line| line.get("incident").is_some());
    ensure!(
        incidents.count() == 0,
        "stopping is no incident: {journal:#?}"
    );

    let mut daemon = site.start()?;
    ensure!(!daemon.log().contains(DISORDERLY), "{}", daemon.log());
    daemon.healthy("auth")?;
    daemon.signal(Signal::INT)?;
    ensure!(daemon.ended()?.success(), "Ctrl-C ends it too");
    ensure!(site.running()?.is_empty(), "{:?}", site.running()?);
    Ok(())
}

#[test]
fn asked_to_end_and_to_leave_its_services_it_leaves_them() -> Result<()> {
    let mut site = Site::new()?;
    site.daemon_lines = "services_on_exit = \"leave\"".to_owned();
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    let before = daemon.healthy("auth")?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    ensure!(!site.socket().exists(), "the socket is removed");
    alone(&site, "auth", before)?;
    let mut daemon = site.start()?;
    daemon.says("found running, taken over")?;
    ensure!(daemon.healthy("auth")? == before, "the same process");
    ensure!(!daemon.log().contains(DISORDERLY), "{}", daemon.log());
    alone(&site, "auth", before)
}

/// A terminal that went away, a log collector that died: no reason to go blind.
#[test]
fn it_goes_on_when_nobody_takes_its_log_any_more() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let quiet =
        "[policy]\nbackoff_initial = \"10ms\"\n[detectors.latency_spike]\nenabled = false\n";
    site.configure(&(quiet.to_owned() + &auth.toml() + &restarts()))?;
    // Its first words arrive, then every write fails: a pipe whose reader is gone.
    let mut command = site.command()?;
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let reader = child.stderr.take().context("a pipe")?;
    let ask = |path: &str| smart_monitor_tests::http_get(site.http, path).ok();
    let ready = smart_monitor_tests::wait_until(
        smart_monitor_tests::PATIENCE,
        "the service is healthy",
        || {
            ask("/health")
                .filter(|(_, body)| body.contains("\"auth\":\"HEALTHY\""))
                .map(|_| ())
        },
    );
    drop(reader);
    let result = ready.and_then(|()| {
        // Makes it speak: a bad file is an ERROR, a good one an INFO.
        let daemon = procfs::stat(child.id()).context("the daemon runs")?.key;
        std::fs::write(site.config(), "[nonsense]")?;
        send(daemon, Signal::HUP)?;
        smart_monitor_tests::wait_until(
            smart_monitor_tests::PATIENCE,
            "it has read the bad file",
            || {
                ask("/health")
                    .filter(|(_, body)| body.contains("nonsense"))
                    .map(|_| ())
            },
        )?;
        auth.fault("crash", &[])?;
        smart_monitor_tests::wait_until(
            smart_monitor_tests::PATIENCE,
            "the crash is repaired",
            || {
                ask("/api/v1/incidents")
                    .filter(|(_, body)| body.contains("\"outcome\":\"fixed\""))
                    .map(|_| ())
            },
        )
    });
    child.kill()?;
    child.wait()?;
    result
}

/// What cannot act any more must not look as if it could.
#[test]
fn an_incident_under_way_at_an_orderly_end_is_brought_to_an_end() -> Result<()> {
    let mut site = Site::new()?;
    site.daemon_lines = "services_on_exit = \"leave\"".to_owned();
    let auth = Simulated::new("auth")?;
    let remedies = "[policy]\nbackoff_initial = \"1h\"\nbackoff_max = \"1h\"\n";
    site.configure(&(remedies.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    for _ in 0..2 {
        let process = daemon.healthy("auth")?;
        send(process, Signal::KILL)?;
        daemon.incident("it is seen", |incident| {
            is(incident, "service_down", "auth")
                && incident.evidence.process == Some(process)
                && (incident.is_over() || tells(incident, StepKind::Refused, "cooldown"))
        })?;
    }
    ensure!(daemon.stop()?.success(), "an orderly end");
    let mut daemon = site.start()?;
    let old = daemon.incident("the one that waited", |incident| {
        incident.last(StepKind::Interrupted).is_some()
    })?;
    ensure!(
        old.is_over() && old.outcome != Some(Outcome::Unknown),
        "{old:#?}"
    );
    daemon.healthy("auth")?;
    Ok(())
}

/// Whoever runs with the right words in its environment is not a service for that.
#[test]
fn nobody_can_pass_for_a_service() -> Result<()> {
    let site = Site::new()?;
    let text =
        "[[service]]\nname = \"auth\"\nkind = \"command\"\ncommand = [\"sleep\", \"1000\"]\n";
    site.configure(text)?;
    let mut impostor = program("sleep");
    impostor.arg("1000").uid(65534).gid(65534).process_group(0);
    impostor
        .env("SMART_MONITOR_SERVICE", "auth")
        .env("SMART_MONITOR_STATE_DIR", site.state());
    let mut impostor = impostor.spawn()?;
    let seen = (|| {
        let mut daemon = site.start()?;
        let process = daemon.wait_for("it runs", |daemon| daemon.service("auth"))?;
        ensure!(
            process.pid != impostor.id(),
            "a stranger passes for the service"
        );
        ensure!(daemon.stop()?.success(), "an orderly end");
        ensure!(impostor.try_wait()?.is_none(), "a stranger was ended");
        Ok(())
    })();
    impostor.kill()?;
    impostor.wait()?;
    seen
}

/// A service that becomes another user by itself, and writes over its environment, is found again all the same; a child that it left
/// behind is not taken for it.
#[test]
fn a_service_is_known_by_its_process_not_by_its_looks() -> Result<()> {
    let site = Site::new()?;
    let drops = "exec env -i setpriv --reuid 65534 --clear-groups sleep 1000";
    let drops = site.script("drops", drops)?;
    let forks = site.script("forks", "sleep 1001 &\nexec sleep 1000")?;
    let service = |name: &str, script: &std::path::Path| {
        let script = script.display();
        format!("[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"{script}\"]\n")
    };
    site.configure(&(service("drops", &drops) + &service("forks", &forks)))?;
    let mut daemon = site.start()?;
    let mut name_of = |name: &str| {
        daemon.wait_for("it has become what it is", |daemon| {
            let process = daemon.service(name)?;
            let stat = procfs::stat(process.pid)?;
            (stat.comm == "sleep").then_some(process)
        })
    };
    let (dropped, forked) = (name_of("drops")?, name_of("forks")?);
    daemon.kill()?;
    send(forked, Signal::KILL)?;
    let children = site.running()?.remove("forks").unwrap_or_default();
    let mut daemon = site.start()?;
    let after = daemon.wait_for("it runs", |daemon| daemon.service("forks"))?;
    let taken = daemon.service("drops");
    // Nobody else would end it: its environment tells nothing.
    ensure!(daemon.stop()?.success(), "an orderly end");
    if procfs::runs(dropped) {
        send(dropped, Signal::KILL)?;
    }
    ensure!(taken == Some(dropped), "{taken:?} in place of {dropped:?}");
    ensure!(
        !children.contains(&after),
        "an orphan passes for the service"
    );
    Ok(())
}
