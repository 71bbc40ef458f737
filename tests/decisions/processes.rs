//! Which processes are ended for what they take, and how.

use std::sync::Mutex;
use std::time::Duration;

use smart_monitor::actions::{self, Struck};
use smart_monitor::host::{Host, HostError, Opened, Reniced, Restarted};
use smart_monitor::model::{
    EffectResult, Outcome, Plan, ProcessKey, ProcessUsage, Sample, Signal, Time,
};

use super::{Scene, key};

pub(crate) const RUNAWAY: &str = r#"
[detectors.runaway_cpu]
for = "2s"
scope = "all"
[[process]]
name = "batch"
comm = ["cruncher", "sshd", "helper"]
[[remedy]]
detector = "runaway_cpu"
on = ["batch"]
action = "kill_process"
"#;

/// Ten seconds in which a process takes a whole core.
pub(crate) fn runs_away(scene: &mut Scene, pid: u32, comm: &str) {
    for second in 0..10_u64 {
        let usage = ProcessUsage {
            process: key(pid),
            comm: comm.to_owned(),
            cpu_ns: second * 1_000_000_000,
            resident: 1 << 20,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        scene.signal(&Signal::Sample {
            sample: Sample::Processes {
                processes: vec![usage],
            },
        });
        scene.pass(Duration::from_secs(1));
    }
}

#[test]
fn what_is_not_named_or_is_protected_is_never_ended() {
    for (pid, comm, guard) in [
        (800, "cruncher", None),
        (800, "database", Some("consent:")),
        (800, "sshd", Some("protected_subject:")),
        (1, "helper", Some("protected_subject:")),
        (500, "helper", Some("protected_subject:")),
    ] {
        let mut scene = Scene::new(RUNAWAY);
        runs_away(&mut scene, pid, comm);
        match guard {
            None => assert_eq!(scene.permit().action(), "kill_process"),
            Some(guard) => {
                assert!(
                    scene.permits.is_empty(),
                    "{comm} [{pid}] would have been killed"
                );
                assert!(
                    scene.refused_by(1).starts_with(guard),
                    "{}",
                    scene.refused_by(1)
                );
            }
        }
    }
}

#[test]
fn a_short_burst_is_no_runaway() {
    let mut scene = Scene::new(RUNAWAY);
    for (second, cpu) in [
        (0, 0),
        (1, 1_000),
        (2, 1_800),
        (3, 1_900),
        (4, 2_900),
        (5, 3_000_u64),
    ] {
        let usage = ProcessUsage {
            process: key(800),
            comm: "cruncher".to_owned(),
            cpu_ns: cpu * 1_000_000,
            resident: 1,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        assert!(second <= 5);
        scene.signal(&Signal::Sample {
            sample: Sample::Processes {
                processes: vec![usage],
            },
        });
        scene.pass(Duration::from_secs(1));
    }
    assert!(scene.engine.open_incidents().next().is_none());
}

const MEMORY: &str = r#"
[[process]]
name = "batch"
comm = ["small", "large"]
[[remedy]]
detector = "memory_pressure"
on = ["batch"]
action = "kill_process"
"#;

fn memory(scene: &mut Scene, processes: &[(u32, &str, u64)], available: u64, pressed: bool) {
    let processes = processes.iter().map(|(pid, comm, mib)| ProcessUsage {
        process: key(*pid),
        comm: (*comm).to_owned(),
        cpu_ns: 0,
        resident: mib << 20,
        major_faults: 0,
        run_delay_ns: 0,
        blocked: Vec::new(),
    });
    let table = Sample::Processes {
        processes: processes.collect(),
    };
    if pressed {
        let sample = Sample::MemoryPressure {
            some_avg10: 2_000,
            full_avg10: 500,
        };
        scene.signal(&Signal::Sample { sample });
    }
    scene.signal(&Signal::Sample { sample: table });
    let sample = Sample::Memory {
        total: 1000 << 20,
        available: available << 20,
        swap_total: 0,
        swap_free: 0,
    };
    scene.signal(&Signal::Sample { sample });
    scene.pass(Duration::from_secs(1));
}

#[test]
fn the_host_gives_up_the_named_process_whose_end_suffices() {
    let mut scene = Scene::new(MEMORY);
    let table = [
        (800, "small", 10),
        (801, "large", 300),
        (802, "database", 600),
    ];
    memory(&mut scene, &table, 500, false);
    memory(&mut scene, &table, 40, true);
    let permit = scene.permit();
    assert_eq!(
        scene.incident(1).evidence.process,
        Some(key(801)),
        "{:#?}",
        scene.incident(1)
    );
    scene.effect(
        &permit,
        EffectResult::Done {
            detail: String::new(),
        },
    );
    memory(
        &mut scene,
        &[(800, "small", 10), (802, "database", 600)],
        340,
        false,
    );
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
}

#[test]
fn pressure_alone_or_a_low_level_alone_kills_nothing() {
    let table = [(801, "large", 900)];
    let mut scene = Scene::new(MEMORY);
    for _ in 0..10 {
        memory(&mut scene, &table, 500, true);
    }
    assert!(
        scene.engine.open_incidents().next().is_none(),
        "there is enough memory"
    );
    let mut scene = Scene::new(MEMORY);
    for _ in 0..10 {
        memory(&mut scene, &table, 40, false);
    }
    assert!(
        scene.engine.open_incidents().next().is_none(),
        "nothing stalls"
    );
}

#[test]
fn when_only_a_stranger_would_do_it_is_proposed_and_not_done() {
    let mut scene = Scene::new(MEMORY);
    let table = [(800, "small", 10), (802, "database", 900)];
    memory(&mut scene, &table, 500, false);
    memory(&mut scene, &table, 20, true);
    assert!(scene.permits.is_empty());
    assert!(scene.incident(1).subject.to_string().contains("database"));
    assert!(scene.refused_by(1).starts_with("consent:"));
}

/// A host with one process that ignores SIGTERM, and what was done to it.
#[derive(Debug, Default)]
struct Stubborn(std::sync::Arc<Mutex<Vec<&'static str>>>);

#[derive(Debug)]
struct Held(std::sync::Arc<Mutex<Vec<&'static str>>>);

impl Held {
    fn did(&self, what: &'static str) {
        self.0.lock().expect("nobody panics with it").push(what);
    }
}

impl Opened for Held {
    /// Asked for the second time, it has become another program.
    fn name(&self) -> Option<String> {
        let asked = self.0.lock().expect("nobody panics with it");
        let name = if asked.contains(&"exec") {
            "precious"
        } else {
            "cruncher"
        };
        Some(name.to_owned())
    }

    fn terminate(&self) -> Result<(), HostError> {
        self.did("TERM");
        Ok(())
    }

    fn kill(&self) -> Result<(), HostError> {
        self.did("KILL");
        Ok(())
    }

    fn wait(&self, _: Duration) -> Result<bool, HostError> {
        self.did("wait");
        Ok(self
            .0
            .lock()
            .expect("nobody panics with it")
            .contains(&"KILL"))
    }

    fn release_memory(&self) {
        self.did("release");
    }

    fn renice(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        let done = self.0.lock().expect("nobody panics with it");
        let had = if done.contains(&"renice") { 15 } else { 0 };
        drop(done);
        let changed = want(1, had) != had;
        self.did(if changed { "renice" } else { "read nice" });
        Ok(Reniced {
            before: vec![(1, had)],
            changed: usize::from(changed),
            ..Reniced::default()
        })
    }
}

impl Host for Stubborn {
    fn open(&self, _: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Ok(Box::new(Held(self.0.clone())))
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
        Time::from_nanos(1)
    }
}

#[test]
fn a_process_is_asked_first_and_killed_only_when_it_stays() {
    for (grace, expected) in [
        ("5s", vec!["TERM", "wait", "KILL", "release", "wait"]),
        ("0s", vec!["KILL", "release", "wait"]),
    ] {
        let mut scene = Scene::new(&RUNAWAY.replace(
            "action = \"kill_process\"",
            &format!("action = \"kill_process\"\nterm_grace = \"{grace}\""),
        ));
        runs_away(&mut scene, 800, "cruncher");
        let permit = scene.permit();
        let host = Stubborn::default();
        let struck: Option<Struck> = actions::strike(&permit, &host).expect("it is there");
        assert!(
            struck.is_some(),
            "the first signal is sent on the hot thread"
        );
        let effect = actions::execute(permit, struck, &host);
        assert!(
            matches!(effect.result, EffectResult::Done { .. }),
            "{effect:?}"
        );
        // The grace is waited out in many looks.
        let mut done = host.0.lock().expect("nobody panics with it").clone();
        done.dedup();
        assert_eq!(done, expected);
    }
}

#[test]
fn what_has_become_another_program_is_not_touched() {
    for after_term in [false, true] {
        let mut scene = Scene::new(RUNAWAY);
        runs_away(&mut scene, 800, "cruncher");
        let permit = scene.permit();
        let host = Stubborn::default();
        let exec = || host.0.lock().expect("nobody panics with it").push("exec");
        if !after_term {
            exec();
            let effect = actions::strike(&permit, &host).expect_err("it is another one");
            assert!(matches!(effect.result, EffectResult::Refused { .. }));
            continue;
        }
        let struck = actions::strike(&permit, &host).expect("it is there");
        exec();
        let effect = actions::execute(permit, struck, &host);
        let EffectResult::Failed { reason } = &effect.result else {
            panic!("{effect:?}");
        };
        assert!(reason.contains("precious"), "{reason}");
        let done = host.0.lock().expect("nobody panics with it");
        assert!(!done.contains(&"KILL"), "{done:?}");
    }
}

#[test]
fn a_runaway_process_is_let_wait_and_what_it_had_is_known() {
    let mut scene = Scene::new(&RUNAWAY.replace(
        "action = \"kill_process\"",
        "action = \"lower_priority\"\nnice = 15",
    ));
    runs_away(&mut scene, 800, "cruncher");
    let permit = scene.permit();
    let Plan::LowerPriority { process, nice, .. } = *permit.plan() else {
        panic!("{permit:?}");
    };
    assert_eq!((process.pid, nice), (800, 15));
    let host = Stubborn::default();
    let struck = actions::strike(&permit, &host).expect("it has none");
    assert!(
        struck.is_none(),
        "thousands of threads are nothing for the hot thread"
    );
    let effect = actions::execute(permit, struck, &host);
    assert!(
        matches!(effect.result, EffectResult::Done { .. }),
        "{effect:?}"
    );
    let undo = Plan::RestorePriority {
        process,
        comm: "cruncher".to_owned(),
        nice: vec![(1, 0)],
    };
    assert_eq!(effect.undo, Some(undo));
    assert_eq!(
        *host.0.lock().expect("nobody panics with it"),
        ["renice", "read nice"],
        "nothing is ended"
    );
}
