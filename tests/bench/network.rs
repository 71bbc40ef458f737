//! A network that breaks: how long until packets flow again, from the moment of the fault, for each fault that can be repaired.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use smart_monitor_tests::lab::{Fault, Lab, V4, flows, resolves};
use smart_monitor_tests::wait_until;

use crate::daemon::{Daemon, Folder};
use crate::report::{Report, Samples, progress};

/// What runs into it has not been repaired.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two faults: a network that has been well for a while, not at the same place of its rhythm each time.
const REST: Duration = Duration::from_millis(1_100);

pub(crate) fn measure(binary: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    let count = Fault::ALL.len();
    progress(&format!("network: {count} faults, {rounds} times each"));
    let (folder, lab) = (Folder::new()?, Lab::new(V4)?);
    let resolv_conf = folder.0.join("resolv.conf");
    let well = format!("nameserver {}\n", V4.resolvers[0]);
    std::fs::write(&resolv_conf, &well)?;
    let config = config(&lab, &resolv_conf);
    let mut daemon = lab
        .host
        .inside(|| Daemon::start(binary, &folder, &config))?;
    daemon.wait_until_up(Duration::from_millis(20))?;
    let known = "the network is known";
    wait_until(PATIENCE, known, || {
        folder
            .0
            .join("state/network-uplink.json")
            .exists()
            .then_some(())
    })?;
    let state = lab.state()?;
    let mut all: Vec<Samples> = Fault::ALL.iter().map(|_| Samples::default()).collect();
    for round in 0..rounds {
        for (fault, samples) in Fault::ALL.iter().zip(&mut all) {
            let step = u32::try_from(round).unwrap_or(0) * 137 % 500;
            std::thread::sleep(REST + Duration::from_millis(step.into()));
            let took = one(*fault, &lab, &resolv_conf);
            samples.add(took.with_context(|| format!("{fault:?}, round {round}"))?);
            fault.lift(&lab)?;
            wait_until(PATIENCE, "all is as it was", || {
                let file = std::fs::read_to_string(&resolv_conf).ok()?;
                (file == well && lab.state().ok()? == state).then_some(())
            })
            .with_context(|| format!("after {fault:?}"))?;
        }
    }
    report.section("A network that breaks: fault -> packets flow again");
    for (fault, samples) in Fault::ALL.iter().zip(&all) {
        report.durations(fault.name(), samples, Some(Duration::from_secs(2)));
    }
    daemon.stop()?;
    Ok(())
}

/// From the fault to the first packet that gets there and back after it was seen not to.
fn one(fault: Fault, lab: &Lab, resolv_conf: &Path) -> Result<Duration> {
    let works = || {
        if fault.is_of_names() {
            resolves(resolv_conf)
        } else {
            flows(lab.far())
        }
    };
    let (ready, injected) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<Instant> {
            lab.host.enter()?;
            wait_until(PATIENCE, "it works before", || works().then_some(()))?;
            ready.store(true, Ordering::Release);
            while !injected.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            let deadline = Instant::now() + PATIENCE;
            while works() {
                ensure!(Instant::now() < deadline, "the fault broke nothing");
            }
            loop {
                if works() {
                    return Ok(Instant::now());
                }
                ensure!(Instant::now() < deadline, "it was not repaired");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        wait_until(PATIENCE, "it works before", || {
            ready.load(Ordering::Acquire).then_some(())
        })?;
        let begun = Instant::now();
        fault.inject(lab, resolv_conf)?;
        injected.store(true, Ordering::Release);
        let again = watcher.join().ok().context("the watcher has died")??;
        Ok(again.saturating_duration_since(begun))
    })
}

fn config(lab: &Lab, resolv_conf: &Path) -> String {
    let network = lab.toml(&format!(
        "resolv_conf = \"{}\"\nbackup_gateways = [\"{}\"]\nbackup_resolvers = [\"{}\"]\nnames = [\"a.example\"]",
        resolv_conf.display(),
        V4.routers[1], V4.resolvers[1]
    ));
    format!(
        r#"
[daemon]
http = ""

[policy]
boot_grace = "0s"
backoff_initial = "0s"
backoff_max = "0s"
limit = 1000
limit_window = "100ms"
host_limit_per_hour = 1000000

{network}
[[remedy]]
detector = "network_broken"
on = ["uplink"]
action = "repair_network"
undo_after = "1s"
"#
    )
}
