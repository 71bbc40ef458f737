//! Commands by way of the daemon: what they are told, what the journal has of them, and what becomes of them when it dies.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use smart_monitor::host::procfs;
use smart_monitor_tests::{PATIENCE, Site, program, wait_until};

use super::{act, acted_upon, told};

/// A service, and a rule that lets people run these commands on it, by the rule's name.
fn rules(site: &Site, commands: &[(&str, &str)]) -> Result<String> {
    let service = site.script("calm", "exec sleep 1000")?;
    let service = format!(
        "[[service]]\nname = \"calm\"\nkind = \"command\"\ncommand = [\"{}\"]\n",
        service.display()
    );
    let rules = commands.iter().map(|(name, with)| {
        format!(
            "[[remedy]]\nname = \"{name}\"\ndetector = \"manual\"\non = [\"calm\"]\naction = \"run_command\"\nwith = {{ {with} }}\n"
        )
    });
    Ok(service + &rules.collect::<String>())
}

fn number(site: &Site, file: &str) -> Result<u32> {
    let text = std::fs::read_to_string(site.path(file))?;
    text.trim().parse().context("a process id")
}

/// Until it has ended.
fn gone(pid: u32) -> Result<()> {
    wait_until(PATIENCE, "a process is gone", || {
        procfs::stat(pid)
            .is_none_or(|stat| stat.exiting)
            .then_some(())
    })
}

#[test]
fn a_command_is_run_as_it_is_written_and_its_words_are_kept() -> Result<()> {
    let site = Site::new()?;
    let tells = "echo \"$SMART_MONITOR_SUBJECT, $SMART_MONITOR_RULE, $SMART_MONITOR_INCIDENT\"; head -c 30000 /dev/zero";
    let tells = site.script("tells", tells)?;
    let commands = [
        ("tells", format!("command = [\"{}\"]", tells.display())),
        (
            "fails",
            "command = [\"sh\", \"-c\", \"echo broken >&2; exit 9\"]".to_owned(),
        ),
        (
            "nine",
            "command = [\"sh\", \"-c\", \"exit 9\"], accept_exit = [9]".to_owned(),
        ),
        (
            "hangs",
            "command = [\"sleep\", \"1000\"], timeout = \"300ms\"".to_owned(),
        ),
        ("nowhere", "command = [\"/no/such/program\"]".to_owned()),
        (
            "kept",
            format!(
                "command = [\"touch\", \"{}\"], write = [], user = 65534, group = 65534",
                site.path("made").display()
            ),
        ),
    ];
    let commands: Vec<_> = commands
        .iter()
        .map(|(name, with)| (*name, &**with))
        .collect();
    site.configure(&rules(&site, &commands)?)?;
    let mut daemon = site.start()?;
    daemon.healthy("calm")?;
    let by = |rule: &str| format!("run_command calm --rule {rule}");
    let one = act(&site, &daemon, &by("tells"), 0)?;
    let words = format!("service calm, tells, {}", one.id);
    let step = one.steps.iter().find(|step| step.detail.contains(&words));
    ensure!(
        step.is_some_and(|step| step.detail.len() < 4096),
        "{one:#?}"
    );
    let journal = site.journal()?;
    let effect = journal
        .iter()
        .find_map(|line| line.pointer("/effect/result/detail"));
    let effect = effect.and_then(Value::as_str).context("an effect")?;
    ensure!(
        effect.contains("bytes left out") && effect.len() > 16_000,
        "{effect}"
    );
    for (rule, code, said) in [
        ("fails", 1, "errors (7 bytes): broken"),
        ("nine", 0, "accepted (9)"),
        ("hangs", 1, "its time limit of 300ms was over"),
        ("nowhere", 1, "No such file"),
        ("kept", 1, "Permission denied"),
    ] {
        acted_upon(&site, &daemon, &by(rule), code, said)?;
    }
    ensure!(!site.path("made").exists(), "it was kept from that");
    // What would be run is shown word for word.
    let (code, said) = told(
        &site,
        &["act", "run_command", "calm", "--rule", "fails", "--dry-run"],
    )?;
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        code == 0 && said.contains(r#"["sh", "-c", "echo broken >&2; exit 9"]"#),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_command_ends_with_the_daemon_and_what_it_left_at_the_next_start() -> Result<()> {
    let site = Site::new()?;
    let at = site.path("");
    let long = site.script(
        "long",
        &format!("cd {}; setsid sh -c 'trap \"\" TERM HUP; echo $$ > escaped; exec sleep 1000' & echo $$ > main; wait", at.display()),
    )?;
    let with = format!("command = [\"{}\"], timeout = \"10m\"", long.display());
    site.configure(&rules(&site, &[("long", &with)])?)?;
    let mut daemon = site.start()?;
    daemon.healthy("calm")?;
    let mut asking = program(smart_monitor_tests::binary()?)
        .args(["act", "run_command", "calm", "--socket"])
        .arg(site.socket())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let both = ["escaped", "main"];
    daemon.wait_for("it runs", |_| {
        let there = both.iter().all(|file| number(&site, file).is_ok());
        there.then_some(())
    })?;
    // One thing at a time is done to a subject.
    act(&site, &daemon, "run_command calm", 1)?;
    daemon.kill()?;
    drop(daemon);
    gone(number(&site, "main")?)?;
    let _ended = asking.wait()?;
    let mut daemon = site.start()?;
    daemon.says("a command was under way when the daemon ended")?;
    gone(number(&site, "escaped")?)?;
    daemon.healthy("calm")?;
    ensure!(
        std::fs::read_dir(site.state().join("commands"))?.count() == 0,
        "no note is left"
    );
    Ok(())
}
