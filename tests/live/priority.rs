//! Priorities of real threads: lowered by the action, and given back by the plan that it left.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, getpriority_process};
use smart_monitor::actions::{self, lower_priority};
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::host::signals::Held;
use smart_monitor::host::{Host, HostError, Opened, Restarted, clock, procfs};
use smart_monitor::model::{
    CheckResult, EffectResult, IncidentId, Plan, ProcessKey, ServiceSignal, Signal, Time,
};
use smart_monitor::policy::Permit;
use smart_monitor_tests::{PATIENCE, program, wait_until};

const CONFIG: &str = r#"
[[service]]
name = "spinner"
kind = "command"
command = ["spinner"]
check = { tcp = "127.0.0.1:1" }

[detectors.latency_spike]
checks = 1

[[remedy]]
detector = "latency_spike"
on = ["spinner"]
action = "lower_priority"
"#;

/// Two threads that take all the CPU they get; the second has a nice value of its own.
const SPINNER: &str = r"
import os, threading
def spin(nice):
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    while True:
        pass
threading.Thread(target=spin, args=(3,), daemon=True).start()
spin(-2)
";

/// The host, as far as this action needs it.
#[derive(Debug)]
struct Real;

impl Host for Real {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Ok(Box::new(Held::open(process)?))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        Err(HostError::NoService(service.to_owned()))
    }

    fn now(&self) -> Time {
        clock::now()
    }
}

/// Ends with its owner.
struct Spinner(Child);

impl Drop for Spinner {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The nice value of each thread of a process, in the order of their ids.
fn nice(process: ProcessKey) -> Result<Vec<i32>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/task", process.pid))? {
        threads.push(entry?.file_name().to_string_lossy().parse::<i32>()?);
    }
    threads.sort_unstable();
    let nice = threads
        .into_iter()
        .map(|thread| getpriority_process(Pid::from_raw(thread)));
    Ok(nice.collect::<Result<_, _>>()?)
}

/// The core's consent to lower the priority of this process.
fn permit(process: ProcessKey) -> Result<Permit> {
    let config = Config::parse(CONFIG, Path::new("test.toml"))?;
    let settings = Settings {
        detectors: config.detectors,
        policy: config.policy,
        remedies: config.remedies,
        services: config.services,
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, IncidentId(1));
    let mut orders = Vec::new();
    let started = Signal::Service {
        service: "spinner".to_owned(),
        change: ServiceSignal::Started {
            process,
            adopted: false,
            cgroup_id: 0,
        },
    };
    let check = |latency| Signal::Check {
        result: CheckResult::new("spinner", Duration::from_secs(latency), None),
    };
    for (second, signal) in [(1, started), (2, check(0)), (20, check(10))] {
        let at = Time::from_nanos(second * 1_000_000_000);
        engine.observe(&signal, at, at, &mut orders);
    }
    let permits = orders.into_iter().find_map(|order| match order {
        Order::Execute { permit, .. } => Some(permit),
        Order::Record(_) | Order::Releases { .. } => None,
    });
    permits.context("it was not permitted")
}

#[test]
fn a_spinning_process_waits_behind_others_and_gets_its_priority_back() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the live tests need root: cargo xtask test --live, or sudo"
    );
    let spinner = Spinner(program("python3").args(["-c", SPINNER]).spawn()?);
    let pid = spinner.0.id();
    let process = procfs::stat(pid).context("it runs")?.key;
    wait_until(PATIENCE, "both threads spin", || {
        (nice(process).ok()? == [-2, 3]).then_some(())
    })?;

    let effect = actions::execute(permit(process)?, None, &Real);
    ensure!(
        matches!(effect.result, EffectResult::Done { .. }) && effect.acted.is_some(),
        "{effect:?}"
    );
    ensure!(nice(process)? == [10, 10], "{:?}", nice(process));

    let undo = effect.undo.context("it can be undone")?;
    let Plan::RestorePriority { nice: had, .. } = &undo else {
        anyhow::bail!("{undo:?}");
    };
    ensure!(had.len() == 2, "{undo:?}");
    let target = Held::open(process)?;
    let want = |thread, had| lower_priority::wanted(&undo, thread, had).unwrap_or(had);
    let undone = target.renice(&want)?;
    ensure!(
        undone.changed == 2 && undone.stopped.is_none(),
        "{undone:?}"
    );
    ensure!(nice(process)? == [-2, 3], "{:?}", nice(process));

    drop(spinner);
    let gone = target.renice(&want);
    ensure!(matches!(gone, Err(HostError::Gone(_))), "{gone:?}");
    Ok(())
}
