//! Programs that the daemon starts itself: what they say of themselves, what they are given, what they leave behind.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::ServiceState;
use smart_monitor::model::incident::State;
use smart_monitor_tests::{Daemon, Site, file_name, send};

const RULES: &str = r#"
[[remedy]]
detector = "service_down"
on = ["*"]
action = "restart_service"

[[remedy]]
detector = "check_failing"
on = ["*"]
action = "restart_service"
"#;

/// A program in Python that has `say`, which sends its words to the socket that it was given.
fn program(site: &Site, name: &str, text: &str) -> Result<String> {
    let whole = format!(
        r#"import os, signal, socket, sys, time
def say(words, to=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)):
    to.sendto(words if isinstance(words, bytes) else words.encode(), os.environ["NOTIFY_SOCKET"])
def here(name):
    return os.path.exists(os.path.join(os.path.dirname(__file__), name))
def until(name):
    while not here(name):
        time.sleep(0.01)
def note(name, text):
    path = os.path.join(os.path.dirname(__file__), name)
    with open(path + ".new", "w") as file:
        file.write(str(text))
    os.rename(path + ".new", path)
{text}
"#
    );
    let path = site.path(name);
    std::fs::write(&path, whole)?;
    Ok(format!("[\"python3\", \"-u\", \"{}\"]", path.display()))
}

fn service(name: &str, command: &str, lines: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = {command}\n{lines}\n"
    )
}

fn state(daemon: &Daemon, name: &str) -> Option<ServiceState> {
    Some(daemon.status().ok()?.view.services.get(name)?.state)
}

/// What the check `notify` of a service said last.
fn said(daemon: &Daemon, name: &str) -> Option<String> {
    let status = daemon.status().ok()?;
    let checks = status.view.services.get(name)?.service.checks.clone();
    checks.get("notify")?.said.clone()
}

#[test]
fn one_is_starting_until_it_says_that_it_is_ready() -> Result<()> {
    let site = Site::new()?;
    let slow = program(
        &site,
        "slow",
        r#"
note("socket", os.environ["NOTIFY_SOCKET"])
say("STATUS=loading\nEXTEND_TIMEOUT_USEC=60000000")
until("go")
say("READY=1\nSTATUS=serving 5 users")
until("never")
"#,
    )?;
    let never = program(&site, "never-ready", "until('never')")?;
    let check = "start_within = \"1s\"\ncheck = { notify = {} }";
    site.configure(&(service("slow", &slow, check) + &service("late", &never, check)))?;
    let mut daemon = site.start()?;
    // It has no rule, so that nothing is done to it; it is told, in words.
    let failed = daemon.incident("one that is never ready is told", |it| {
        it.detector == "check_failing"
    })?;
    let evidence = format!("{:?}", failed.evidence);
    ensure!(
        failed.subject.to_string().contains("late") && evidence.contains("not said READY=1 in the"),
        "{failed:#?}"
    );
    // Longer than `start_within` by now, and it has asked for that.
    ensure!(state(&daemon, "slow") == Some(ServiceState::Starting));
    let process = daemon.service("slow").context("it runs")?;
    // A stranger's word is none of its own.
    let socket = std::fs::read_to_string(site.path("socket"))?;
    let stranger = std::os::unix::net::UnixDatagram::unbound()?;
    stranger.send_to(b"READY=1\nSTATUS=hijacked", &socket)?;
    daemon.says("is none of the service's")?;
    ensure!(state(&daemon, "slow") == Some(ServiceState::Starting));
    std::fs::write(site.path("go"), "")?;
    ensure!(daemon.healthy("slow")? == process, "nobody restarted it");
    let words = said(&daemon, "slow").unwrap_or_default();
    ensure!(words == "ready; it says: serving 5 users", "{words}");

    // The next daemon takes it over, and listens at the same place.
    daemon.kill()?;
    let mut next = site.start()?;
    ensure!(next.healthy("slow")? == process, "it was taken over");
    Ok(())
}

#[test]
fn a_missed_watchdog_is_a_hang_and_rubbish_is_nothing() -> Result<()> {
    let site = Site::new()?;
    let command = program(
        &site,
        "watched",
        r#"
note("told", " ".join([os.environ["WATCHDOG_USEC"], os.environ["WATCHDOG_PID"], str(os.getpid())]))
for rubbish in [b"", b"\xff\xfe", b"=" * 3000, b"a" * 60000, b"READY", b"MAINPID=1", b"READY=1\n\xff"]:
    say(rubbish)
note("rubbish", "sent")
until("go")
for at in range(500):
    say("STATUS=%d" % at)
say("READY=1\nSTATUS=well")
while not here("hang"):
    say("WATCHDOG=1")
    time.sleep(0.1)
os.remove(os.path.join(os.path.dirname(__file__), "hang"))
until("never")
"#,
    )?;
    let check = "check = { notify = { watchdog = \"1s\" } }";
    site.configure(&(service("watched", &command, check) + RULES))?;
    let mut daemon = site.start()?;
    daemon.wait_for("it has sent its rubbish", |_| {
        site.path("rubbish").exists().then_some(())
    })?;
    let process = daemon.service("watched").context("it runs")?;
    let told = std::fs::read_to_string(site.path("told"))?;
    ensure!(told == format!("1000000 {0} {0}", process.pid), "{told}");
    ensure!(state(&daemon, "watched") == Some(ServiceState::Starting));
    std::fs::write(site.path("go"), "")?;
    ensure!(daemon.healthy("watched")? == process);
    std::fs::write(site.path("hang"), "")?;
    let hung = daemon.incident("it is restarted", |it| it.state == State::Resolved)?;
    let evidence = format!("{:?}", hung.evidence);
    ensure!(
        hung.detector == "check_failing" && evidence.contains("its last sign of life"),
        "{hung:#?}"
    );
    ensure!(daemon.healthy("watched")? != process, "another runs");
    Ok(())
}

#[test]
fn another_main_process_is_taken_over_and_a_strangers_is_not() -> Result<()> {
    let site = Site::new()?;
    let command = program(
        &site,
        "forks",
        r#"
say("READY=1\nMAINPID=%s" % open(os.path.join(os.path.dirname(__file__), "stranger")).read())
child = os.fork()
if child == 0:
    os.setsid()
    until("never")
until("go")
say("MAINPID=%d" % child)
until("end")
"#,
    )?;
    std::fs::write(site.path("stranger"), std::process::id().to_string())?;
    let check = "check = { notify = {} }";
    site.configure(&(service("forks", &command, check) + RULES))?;
    let mut daemon = site.start()?;
    daemon.says("is no process of the service")?;
    let first = daemon.service("forks").context("it runs")?;
    // What came with the stranger is not taken either.
    ensure!(state(&daemon, "forks") == Some(ServiceState::Starting));
    std::fs::write(site.path("go"), "")?;
    let second = daemon.wait_for("its child is the main process", |daemon| {
        daemon.service("forks").filter(|it| *it != first)
    })?;
    // The first ends, and nobody misses it.
    std::fs::write(site.path("end"), "")?;
    daemon.wait_for("it is gone, and no zombie", |_| {
        procfs::stat(first.pid)
            .is_none_or(|stat| stat.key != first)
            .then_some(())
    })?;
    ensure!(daemon.service("forks") == Some(second) && daemon.incidents()?.is_empty());
    send(second, Signal::KILL)?;
    daemon.incident("the end of the second is one", |it| {
        it.detector == "service_down"
    })?;
    Ok(())
}
