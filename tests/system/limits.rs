//! Limits on what systemd runs: set in the unit's own cgroup, and taken away again.

use anyhow::{Result, ensure};

use super::Scene;
use super::stage::{Installed, Unit, WAITER, cgroup, configuration, main_process};

pub(crate) const SCENES: &[Scene] = &[
    (
        "limits_hold_on_a_unit_and_are_taken_away",
        limits_hold_on_a_unit_and_are_taken_away,
    ),
    (
        "the_daemons_own_services_have_no_limit_and_it_says_so",
        the_daemons_own_services_have_no_limit_and_it_says_so,
    ),
];

fn limits_hold_on_a_unit_and_are_taken_away() -> Result<String> {
    let unit = Unit::running("hog.service", "/usr/bin/sleep 54321", "")?;
    let entry = "[[process]]\nname = \"hog\"\ncomm = [\"sleep\"]\n";
    let daemon = Installed::new(&configuration("stop", entry))?;
    let process = main_process(&unit.0)?;
    let folder = cgroup(&unit.0)?;
    let file = |name: &str| -> Result<String> {
        Ok(std::fs::read_to_string(folder.join(name))?
            .trim()
            .to_owned())
    };
    for (action, name, limited) in [
        ("throttle_cpu", "cpu.max", "20000 100000"),
        ("throttle_memory", "memory.high", "67108864"),
    ] {
        let before = file(name)?;
        ensure!(before.starts_with("max"), "{name} is {before}");
        daemon.act(&[action, "hog"])?;
        ensure!(
            file(name)? == limited,
            "{name} is {} after {action}",
            file(name)?
        );
        let all = daemon.incidents()?;
        let id = all.iter().map(|it| it.id).max().map(|id| id.to_string());
        let (good, said) = daemon.told(&["undo", &id.unwrap_or_default()])?;
        ensure!(good, "undo failed: {said}");
        ensure!(
            file(name)? == before,
            "{name} is {} after it was undone",
            file(name)?
        );
    }
    ensure!(main_process(&unit.0)? == process, "it ran on");
    Ok("cpu.max and memory.high of a unit without a word about them".to_owned())
}

/// The daemon is in the cgroup that it would have to hand the controllers on from.
fn the_daemons_own_services_have_no_limit_and_it_says_so() -> Result<String> {
    let daemon = Installed::new(&configuration("stop", WAITER))?;
    let service = daemon.healthy("waiter")?;
    let (good, said) = daemon.told(&["act", "throttle_cpu", "waiter"])?;
    ensure!(!good && said.contains("cpu"), "{said}");
    ensure!(daemon.healthy("waiter")? == service, "it ran on");
    Ok(String::new())
}
