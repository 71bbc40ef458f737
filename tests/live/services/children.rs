//! Programs that the daemon starts itself: what they say of themselves, what they are given, what they leave behind.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::model::ServiceState;
use smart_monitor::model::incident::State;
use smart_monitor_tests::{Daemon, Site, send};

const RULES: &str = r#"
# Tests run on hosts that are busy with other tests: that is no reason to wait here.
[policy]
busy_cpu = "100%"
busy_io = "100%"

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
    format!("[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = {command}\n{lines}\n")
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
note("where", os.environ["NOTIFY_SOCKET"])
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
    let socket = std::fs::read_to_string(site.path("where"))?;
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

#[test]
fn it_is_given_what_the_configuration_says_and_nothing_of_the_daemons() -> Result<()> {
    let site = Site::new()?;
    let command = program(
        &site,
        "given",
        r#"
import resource
signal.signal(signal.SIGINT, lambda *_: (note("asked", "SIGINT"), sys.exit(0)))
limits = [resource.getrlimit(which) for which in
    (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_STACK, resource.RLIMIT_NPROC)]
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
own = say.__defaults__[0].fileno()
files = sorted(name for name in os.listdir("/proc/self/fd") if int(name) != own)[:-1]
open("made", "w").close()
note("facts", "\n".join([
    repr([soft for soft, hard in limits]), str(all(soft == hard for soft, hard in limits)), str(os.nice(0)),
    open("/proc/self/oom_score_adj").read().strip(), os.environ["FROM_FILE"], os.environ["BOTH"],
    os.environ.get("INVOCATION_ID", "none"), oct(os.stat("made").st_mode & 0o777), str(os.getsid(0) == os.getpid()),
    status["SigBlk"].strip(), "%x" % (int(status["SigIgn"], 16) & 0x7fffffff), repr(files)]))
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_IGN)
        until("never")
until("never")
"#,
    )?;
    let file = site.path("env");
    std::fs::write(&file, "FROM_FILE='a secret'\nBOTH=file\n")?;
    let lines = format!(
        r#"
environment = {{ BOTH = "configuration" }}
environment_file = "{}"
folder = "{}"
umask = "027"
limits = {{ open_files = 321, core = "0B", stack = "4MiB", processes = 5000, nice = 7, oom_score_adj = 200 }}
stop_signal = "SIGINT"
stop_timeout = "20s"
"#,
        file.display(),
        site.path("").display()
    );
    site.configure(&service("given", &command, &lines))?;
    let mut daemon = site.start_with(|command| {
        command
            .env("INVOCATION_ID", "the daemon")
            .env("NOTIFY_SOCKET", "/nobody");
    })?;
    daemon.wait_for("it notes what it sees", |_| {
        site.path("facts").exists().then_some(())
    })?;
    let facts = std::fs::read_to_string(site.path("facts"))?;
    let facts: Vec<&str> = facts.lines().collect();
    // Python itself ignores SIGPIPE (bit 12) and SIGXFSZ (bit 24); those over 31 are the C library's.
    let expected = [
        "[321, 0, 4194304, 5000]",
        "True",
        "7",
        "200",
        "a secret",
        "configuration",
        "none",
        "0o640",
        "True",
        "0000000000000000",
        "1001000",
        "['0', '1', '2']",
    ];
    ensure!(facts == expected, "{facts:#?}");
    let left = daemon.wait_for("its children run", |_| {
        let running = site.running().ok()?.into_values().flatten();
        let running: Vec<_> = running.collect();
        (running.len() == 4).then_some(running)
    })?;
    ensure!(!daemon.log().contains("a secret"));
    daemon.stop()?;
    ensure!(std::fs::read_to_string(site.path("asked"))? == "SIGINT");
    ensure!(
        left.iter().all(|process| !procfs::runs(*process)),
        "no orphan is left"
    );

    // A file with a mistake is a failed start, told by its line alone.
    std::fs::write(&file, "FROM_FILE=x\nhunter2\n")?;
    let mut daemon = site.start()?;
    let failed = daemon.incident("it is not started", |it| it.detector == "service_down")?;
    let evidence = format!("{:?}", failed.evidence);
    ensure!(
        evidence.contains("line 2: it is not NAME=VALUE") && !evidence.contains("hunter2"),
        "{evidence}"
    );
    ensure!(!daemon.log().contains("hunter2"));
    Ok(())
}

#[test]
fn what_it_writes_is_kept_within_bounds_and_nothing_is_lost() -> Result<()> {
    let site = Site::new()?;
    let command = program(
        &site,
        "talks",
        r#"
for line in range(60000):
    print("line %d" % line, file=sys.stderr if line % 2 else sys.stdout)
    if line % 1000 == 0:
        time.sleep(0.02)
note("done", "yes")
until("more")
print("the very last", flush=True)
until("never")
"#,
    )?;
    let lines = "log = { max_size = \"128KiB\", keep = 20 }";
    site.configure(&service("talks", &command, lines))?;
    let mut daemon = site.start()?;
    daemon.wait_for("it has written", |_| {
        site.path("done").exists().then_some(())
    })?;
    let current = site.state().join("logs/talks.log");
    let old = |number: u32| site.state().join(format!("logs/talks.log.{number}"));
    daemon.wait_for("its file is short again", |_| {
        let length = std::fs::metadata(&current).ok()?.len();
        (length <= 128 << 10 && old(1).exists()).then_some(())
    })?;
    let logs = |arguments: &[&str]| {
        let binary = smart_monitor_tests::binary()?;
        let mut command = smart_monitor_tests::program(binary);
        let state = site.state();
        command.args(["logs", "talks", "--state-dir"]).arg(state);
        command.args(arguments);
        Ok::<_, anyhow::Error>(command)
    };
    // All lines, in their order, over all files.
    let all = logs(&["-n", "100000"])?.output()?;
    let all = String::from_utf8(all.stdout)?;
    let mut wrong = all
        .lines()
        .zip(0..)
        .filter(|(text, at)| *text != format!("line {at}"));
    ensure!(wrong.next().is_none() && all.lines().count() == 60000);
    ensure!(
        (1..=20).any(|number| !old(number).exists()),
        "within bounds"
    );
    let mut follows = logs(&["-n", "1", "--follow"])?;
    follows.stdout(std::process::Stdio::piped());
    let mut follows = follows.spawn()?;
    let mut heard = std::io::BufReader::new(follows.stdout.take().context("it writes")?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut heard, &mut line)?;
    std::fs::write(site.path("more"), "")?;
    std::io::BufRead::read_line(&mut heard, &mut line)?;
    follows.kill()?;
    follows.wait()?;
    ensure!(line == "line 59999\nthe very last\n", "{line}");
    let none = smart_monitor_tests::program(smart_monitor_tests::binary()?)
        .args(["logs", "nobody", "--state-dir"])
        .arg(site.state())
        .output()?;
    ensure!(!none.status.success(), "there is no such service");
    Ok(())
}
