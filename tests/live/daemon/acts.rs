//! What a person has done by hand: on real processes, through the command line, with the way back, also after the daemon has died.

use std::process::{Child, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, getpriority_process};
use serde_json::{Value, json};
use smart_monitor::model::{Incident, Outcome};
use smart_monitor_tests::{Daemon, Simulated, Site, http_send, program, send};

/// A name that no other process of the host has.
const COMM: &str = "sm-by-hand";

const RULES: &str = r#"
[[process]]
name = "batch"
comm = ["sm-by-hand"]
[[remedy]]
name = "by-hand"
detector = "manual"
on = ["batch", "auth"]
step = [
    { action = "lower_priority", nice = 15 },
    { action = "kill_process", term_grace = "0s" },
    { action = "restart_service" },
]
"#;

/// A process that waits, and ends with its owner.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Waiting {
    fn start(site: &Site) -> Result<Self> {
        // The kernel takes its name from the file: a link is enough.
        let link = site.path(COMM);
        if !link.exists() {
            std::os::unix::fs::symlink("/bin/sleep", &link)?;
        }
        let mut command = program(&link);
        command.arg("600").stdin(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    fn nice(&self) -> Result<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?);
        Ok(getpriority_process(pid)?)
    }
}

fn ask(site: &Site, words: &[&str]) -> Result<Output> {
    let mut command = program(smart_monitor_tests::binary()?);
    command.args(words).arg("--socket").arg(site.socket());
    command.env("SUDO_USER", "alice").stdin(Stdio::null());
    Ok(command.output()?)
}

/// Its exit code, and all that it says.
fn says(site: &Site, words: &[&str]) -> Result<(i32, String)> {
    let output = ask(site, words)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code().context("it ended")?, said))
}

/// That it ends so, and says all of that.
fn expect(site: &Site, words: &[&str], code: i32, parts: &[&str]) -> Result<String> {
    let (found, said) = says(site, words)?;
    ensure!(found == code, "{words:?} ended with {found}: {said}");
    for part in parts {
        ensure!(said.contains(part), "{words:?}: no {part:?} in {said}");
    }
    Ok(said)
}

fn newest(daemon: &Daemon) -> Result<Incident> {
    let incidents = daemon.incidents()?;
    incidents.into_iter().last().context("there is one")
}

#[test]
fn a_person_has_something_done_and_sees_what() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    site.configure(&(auth.toml() + RULES))?;
    let mut daemon = site.start()?;
    let first = daemon.healthy("auth")?;

    // Only said.
    let dry = ["act", "restart_service", "auth", "--dry-run"];
    let shows = [
        "restart_service (rule by-hand) would start service auth anew",
        "no guard stands in the way",
    ];
    expect(&site, &dry, 0, &shows)?;
    ensure!(daemon.service("auth") == Some(first), "nothing was done");

    let act = ["act", "restart_service", "auth"];
    expect(&site, &act, 0, &["by root (alice)", "Done as asked"])?;
    let second = daemon.healthy("auth")?;
    ensure!(second != first, "it runs anew");
    let incident = newest(&daemon)?;
    ensure!(incident.detector == "manual", "{incident:#?}");
    ensure!(incident.outcome == Some(Outcome::Fixed), "{incident:#?}");

    // Not understood; not allowed; never touched.
    let wrong: [(&[&str], i32, &str); 6] = [
        (&["act", "dance", "auth"], 2, "there is no action \"dance\""),
        (&act_on("ghost"), 2, "the configuration names auth, batch"),
        (&act_on("batch"), 2, "no process of batch runs"),
        (&act_on("pid:0"), 2, "no process has the number 0"),
        (&["act", "lower_priority", "pid:1"], 1, "consent"),
        (
            &["act", "restart_service", "auth", "--rule", "other"],
            1,
            "there is no rule other",
        ),
    ];
    for (words, code, part) in wrong {
        expect(&site, words, code, &[part])?;
    }
    // As JSON, whatever comes of it.
    let output = ask(&site, &["act", "lower_priority", "pid:1", "--json"])?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        answer.pointer("/incident/outcome") == Some(&json!("refused")),
        "{answer}"
    );
    // Whoever only reads cannot ask.
    let body = json!({"action": "restart_service", "subject": "auth"}).to_string();
    let (code, _) = http_send("POST", site.http, "/api/v1/acts", &body)?;
    ensure!(code == 403, "{code}");
    ensure!(daemon.service("auth") == Some(second), "it was left alone");

    let mut listing = program(smart_monitor_tests::binary()?);
    let listing = listing.args(["catalogue", "--json"]).output()?;
    let listing: Value = serde_json::from_slice(&listing.stdout)?;
    let asked: Value = daemon.ask("/api/v1/actions")?;
    ensure!(listing == asked, "{listing}\n{asked}");
    Ok(())
}

fn act_on(subject: &str) -> [&str; 3] {
    ["act", "kill_process", subject]
}

#[test]
fn of_several_processes_one_must_be_named_and_who_is_gone_is_refused() -> Result<()> {
    let site = Site::new()?;
    site.configure(RULES.replace(", \"auth\"", "").as_str())?;
    let _daemon = site.start()?;
    let (one, other) = (Waiting::start(&site)?, Waiting::start(&site)?);
    let named = |process: &Waiting| format!("pid:{}", process.0.id());
    let both = [named(&one), named(&other)];
    let parts = [
        "2 processes of batch run, say which",
        both[0].as_str(),
        both[1].as_str(),
    ];
    expect(&site, &act_on("batch"), 2, &parts)?;
    expect(&site, &act_on(&both[0]), 0, &["Done as asked"])?;
    ensure!(!runs(&one), "it was ended");
    ensure!(runs(&other), "and the other was not");
    // The only one left needs no number.
    expect(&site, &act_on("batch"), 0, &["Done as asked"])?;
    ensure!(!runs(&other), "it was ended");
    Ok(())
}

/// Whether it runs, and is no zombie.
fn runs(process: &Waiting) -> bool {
    let stat = smart_monitor::host::procfs::stat(process.0.id());
    stat.is_some_and(|stat| !stat.exiting)
}

#[test]
fn what_is_in_force_is_listed_and_undone_on_a_word_also_after_a_crash() -> Result<()> {
    let site = Site::new()?;
    site.configure(RULES.replace(", \"auth\"", "").as_str())?;
    let mut daemon = site.start()?;
    let process = Waiting::start(&site)?;
    let before = process.nice()?;
    let act = ["act", "lower_priority", "batch"];
    let parts = ["Done as asked", "until somebody undoes it"];
    expect(&site, &act, 0, &parts)?;
    ensure!(process.nice()? == 15, "it waits behind others");
    let id = newest(&daemon)?.id.to_string();
    let line = format!("smart-monitor undo {id}");
    for words in [&["status"][..], &["incidents", &id], &["explain", &id]] {
        let (_, said) = says(&site, words)?;
        ensure!(
            said.contains("held: lower_priority on process") && said.contains(&line),
            "{words:?}: {said}"
        );
    }
    // Not twice: two that remember each other's value would leave it for good.
    expect(&site, &act, 1, &["is still to be changed back"])?;

    daemon.kill()?;
    drop(daemon);
    let mut daemon = site.start()?;
    daemon.incident("it is still in force", |incident| incident.held.is_some())?;
    ensure!(process.nice()? == 15, "and nobody changed it");
    expect(&site, &["undo", &id], 0, &["undone: "])?;
    ensure!(process.nice()? == before, "it has what it had");
    let parts = ["nothing that was done about incident", "is in force"];
    expect(&site, &["undo", &id], 1, &parts)?;
    expect(&site, &["undo", "999"], 1, &["no incident 999"])?;

    // Whose process is gone needs no undo, and is told so.
    expect(&site, &act, 0, &["Done as asked"])?;
    let id = newest(&daemon)?.id.to_string();
    let key = smart_monitor::host::procfs::stat(process.0.id()).context("it runs")?;
    send(key.key, rustix::process::Signal::KILL)?;
    drop(process);
    expect(&site, &["undo", &id], 0, &["nothing left to undo"])?;
    let (_, said) = says(&site, &["status"])?;
    ensure!(!said.contains("held:"), "{said}");
    Ok(())
}
