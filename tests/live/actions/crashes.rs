//! The daemon is killed while a service is held back: the next one lets it go.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use smart_monitor::host::cgroup::{Cgroup, Hierarchy, place};
use smart_monitor::host::procfs;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Incident, ProcessKey, State, Subject};
use smart_monitor_tests::{PATIENCE, Simulated, Site, wait_until};

const SPIKE: &str = "[policy]\nbusy_cpu = \"100%\"\nbusy_io = \"100%\"\nbackoff_initial = \"100ms\"\nboot_grace = \"0s\"\n[detectors.latency_spike]\nthreshold = \"300ms\"\nchecks = 2\ngrace = \"1s\"\n";

fn remedy(action: &str, lines: &str) -> String {
    format!(
        "\n[[remedy]]\ndetector = \"latency_spike\"\non = [\"auth\"]\naction = \"{action}\"\nseverity = \"warning\"\n{lines}\n"
    )
}

fn is_spike(incident: &Incident) -> bool {
    incident.detector == "latency_spike" && incident.subject == Subject::service("auth")
}

/// Whether an action's change is in force.
fn in_force(action: &str, process: ProcessKey) -> bool {
    let pid = process.pid;
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    match action {
        "freeze" => {
            let own = place(Hierarchy::V2, pid).and_then(|path| Cgroup::open(&path).ok());
            own.is_some_and(|own| own.read("cgroup.freeze").is_ok_and(|text| text == "1"))
        }
        "throttle_cpu" => {
            let apart = place(Hierarchy::V1("cpu"), pid);
            let apart =
                apart.is_some_and(|path| path.to_string_lossy().contains("/smart-monitor-"));
            let own = place(Hierarchy::V2, pid).and_then(|path| Cgroup::open(&path).ok());
            let limit = own.and_then(|own| own.read("cpu.max").ok());
            apart || limit.is_some_and(|text| !text.starts_with("max"))
        }
        "set_oom_score" => read("oom_score_adj").trim() == "700",
        _ => false,
    }
}

const ACTS: [(&str, &str); 3] = [
    ("freeze", "undo_after = \"1h\""),
    ("throttle_cpu", "with = { percent = 20 }"),
    ("set_oom_score", "with = { score = 700 }"),
];

fn let_go_after_a_crash(action: &str, lines: &str) -> Result<()> {
    let mut site = Site::new()?;
    "services_on_exit = \"leave\"".clone_into(&mut site.daemon_lines);
    let auth = Simulated::new("auth")?;
    let good = SPIKE.to_owned() + &auth.toml();
    let patient = format!("verify_within = \"1h\"\n{lines}");
    site.configure(&(good.clone() + &remedy(action, &patient)))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    auth.fault("hang", &[])?;
    daemon.incident("it is held back", |incident| {
        is_spike(incident) && incident.state == State::Verifying
    })?;
    ensure!(in_force(action, process), "{action} is in force");
    daemon.kill()?;
    ensure!(
        procfs::runs(process) && in_force(action, process),
        "it outlives the daemon"
    );

    // Nobody asks for it any more.
    site.configure(&good)?;
    let mut daemon = site.start()?;
    daemon.wait_for("it is let go", |_| {
        (!in_force(action, process)).then_some(())
    })?;
    ensure!(procfs::runs(process), "it is the same process");
    daemon.incident("the story says so", |incident| {
        is_spike(incident) && incident.held.is_none() && incident.last(StepKind::Undone).is_some()
    })?;
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn a_frozen_service_goes_on_after_a_crash() -> Result<()> {
    let [(action, lines), ..] = ACTS;
    let_go_after_a_crash(action, lines)
}

#[test]
fn a_limited_service_has_its_time_again_after_a_crash() -> Result<()> {
    let [_, (action, lines), _] = ACTS;
    let_go_after_a_crash(action, lines)
}

#[test]
fn a_service_has_its_oom_score_again_after_a_crash() -> Result<()> {
    let [.., (action, lines)] = ACTS;
    let_go_after_a_crash(action, lines)
}

/// Wherever it is when its word is in the journal: before the change, in the midst of it, or after.
#[test]
fn killed_right_after_its_word_whatever_was_changed_is_changed_back() -> Result<()> {
    for (action, lines) in ACTS {
        let mut site = Site::new()?;
        "services_on_exit = \"leave\"".clone_into(&mut site.daemon_lines);
        let auth = Simulated::new("auth")?;
        let good = SPIKE.to_owned() + &auth.toml();
        let patient = format!("verify_within = \"1h\"\n{lines}");
        site.configure(&(good.clone() + &remedy(action, &patient)))?;
        let mut daemon = site.start()?;
        let process = daemon.healthy("auth")?;
        auth.fault("hang", &[])?;
        // As soon as can be: each look costs some microseconds.
        let journal = site.state().join("journal.jsonl");
        let until = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&journal)?.contains("\"will_change\"") {
            ensure!(
                Instant::now() < until,
                "{action}: it gives no word: {}",
                daemon.last_words()
            );
            std::thread::yield_now();
        }
        daemon.kill()?;
        site.configure(&good)?;
        let mut daemon = site.start()?;
        daemon.incident("nothing is left to change back", |incident| {
            is_spike(incident) && incident.is_over() && incident.held.is_none()
        })?;
        wait_until(PATIENCE, "nothing is in force", || {
            (!in_force(action, process)).then_some(())
        })?;
        ensure!(procfs::runs(process), "it is the same process");
        ensure!(daemon.stop()?.success(), "an orderly end");
    }
    Ok(())
}

#[test]
fn what_did_not_help_is_let_go_and_the_next_step_ends_all_of_it() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    let ladder = "\n[[remedy]]\ndetector = \"latency_spike\"\non = [\"auth\"]\nverify_within = \"1s\"\nterm_grace = \"0s\"\n\
        [[remedy.step]]\naction = \"freeze\"\nundo_after = \"1h\"\n\
        [[remedy.step]]\naction = \"kill_cgroup\"\n\
        [[remedy]]\ndetector = \"service_down\"\non = [\"auth\"]\naction = \"restart_service\"\n";
    site.configure(&(SPIKE.to_owned() + &auth.toml() + ladder))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("auth")?;
    auth.fault("hang", &[("deaf", "1")])?;
    let incident = daemon.incident("all of it was ended", |incident| {
        let mut steps = incident.steps.iter();
        is_spike(incident)
            && steps
                .any(|step| step.what == StepKind::Acted && step.detail.contains("have ended: "))
    })?;
    ensure!(
        incident
            .steps
            .iter()
            .any(|step| step.what == StepKind::Undone
                && step.detail.contains("cgroup.freeze says 0 again")),
        "it was let go before: {incident:#?}"
    );
    let next = daemon.healthy("auth")?;
    ensure!(
        next != process && !procfs::runs(process),
        "it was started anew"
    );
    ensure!(
        wait_until(Duration::from_secs(5), "it runs on", || procfs::runs(next)
            .then_some(()))
        .is_ok(),
        "it runs"
    );
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
