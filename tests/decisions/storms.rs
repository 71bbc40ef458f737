//! Fork storms, threads that hang, processes that thrash.

use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::fork_storm::ForkStorm;
use smart_monitor::model::{
    BLOCKED, BlockedThread, ProcessUsage, Sample, ServiceSignal, Severity, Signal, State, Subject,
};

use super::{SERVICE, Scene, key, task};

fn storm(scene: &mut Scene, pid: u32, killed: u32, guard: u32) {
    let millis = Duration::from_millis(100);
    let window_ns = u64::try_from(scene.now.before(millis).nanos()).expect("it is positive");
    scene.kernel(|header| {
        Event::ForkStorm(ForkStorm {
            header,
            task: task(pid, "forker"),
            forks: 1_001,
            limit: 1_000,
            window_ns,
            killed,
            guard,
        })
    });
}

fn fact(scene: &Scene, id: u64, name: &str) -> String {
    let facts = &scene.incident(id).evidence.facts;
    let fact = facts.iter().find(|(known, _)| known == name);
    fact.map(|(_, value)| value.clone()).unwrap_or_default()
}

#[test]
fn a_fork_storm_grows_critical_when_it_lasts_and_is_over_when_it_is_quiet() {
    let mut scene = Scene::new("");
    storm(&mut scene, 800, 0, 0);
    assert_eq!(scene.incident(1).severity, Severity::Warning);
    assert_eq!(fact(&scene, 1, "forks a second"), "10010");
    assert_eq!(fact(&scene, 1, "guard in the kernel"), "not armed");
    assert_eq!(fact(&scene, 1, "cgroup"), "1");
    for pid in [801, 802] {
        scene.pass(Duration::from_millis(1_050));
        storm(&mut scene, pid, 0, 0);
    }
    assert_eq!(scene.incident(1).severity, Severity::Critical);
    assert_eq!(fact(&scene, 1, "seconds in a row over it"), "3");
    scene.pass(Duration::from_secs(4));
    assert!(!scene.incident(1).is_over());
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.engine.wake(), None, "nothing is left to wait for");
}

#[test]
fn seconds_that_do_not_follow_each_other_stay_a_warning_and_a_killing_guard_is_critical() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(800);
    for _ in 0..5 {
        storm(&mut scene, 800, 0, 1);
        scene.pass(Duration::from_secs(4));
    }
    assert_eq!(scene.incident(1).severity, Severity::Warning);
    assert_eq!(scene.incident(1).subject, Subject::service("shop"));
    storm(&mut scene, 800, 7, 2);
    assert_eq!(scene.incident(1).severity, Severity::Critical);
    assert_eq!(fact(&scene, 1, "killed by the guard so far"), "7");
}

#[test]
fn what_a_services_other_processes_do_counts_as_the_service() {
    let mut scene = Scene::new(SERVICE);
    let change = ServiceSignal::Started {
        process: key(700),
        adopted: false,
        cgroup_id: 1,
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
    storm(&mut scene, 950, 0, 0);
    assert_eq!(scene.incident(1).subject, Subject::service("shop"));
    assert_eq!(scene.incident(1).evidence.process, Some(key(950)));
    scene.exits(950, 0);
    assert_eq!(
        scene.engine.open_incidents().count(),
        1,
        "a worker's end is no end of the service"
    );
}

#[test]
fn strange_fork_storms_do_no_harm() {
    let mut scene = Scene::new("");
    for n in 0..2_000_u64 {
        let mut task = task(900, "strange");
        task.cgroup_id = n.wrapping_mul(u64::MAX / 3);
        scene.kernel(|mut header| {
            header.time_ns = if n % 2 == 0 { u64::MAX } else { 0 };
            Event::ForkStorm(ForkStorm {
                header,
                task,
                forks: u32::MAX,
                limit: u32::MAX,
                window_ns: u64::MAX - n,
                killed: u32::MAX,
                guard: u32::MAX,
            })
        });
    }
    scene.pass(Duration::from_secs(1));
    scene.pass(Duration::from_secs(6));
    assert_eq!(scene.engine.open_incidents().count(), 0);
}

fn usage(pid: u32) -> ProcessUsage {
    ProcessUsage {
        process: key(pid),
        comm: "shop".to_owned(),
        cpu_ns: 0,
        resident: 200 << 20,
        major_faults: 0,
        run_delay_ns: 0,
        blocked: Vec::new(),
    }
}

/// A table, and a second after it.
fn table(scene: &mut Scene, processes: Vec<ProcessUsage>) {
    scene.signal(&Signal::Sample {
        sample: Sample::Processes { processes },
    });
    scene.pass(Duration::from_secs(1));
}

fn blocked(pid: u32, threads: &[(u32, u64)]) -> ProcessUsage {
    let thread = |(tid, switches): &(u32, u64)| BlockedThread {
        tid: *tid,
        switches: *switches,
    };
    ProcessUsage {
        blocked: threads.iter().map(thread).collect(),
        ..usage(pid)
    }
}

#[test]
fn a_thread_that_does_not_come_back_hangs_until_it_runs() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    for _ in 0..21 {
        assert_eq!(scene.engine.open_incidents().count(), 0);
        let both = vec![
            blocked(700, &[(701, 5)]),
            blocked(900, &[(900, 9), (901, 1)]),
        ];
        table(&mut scene, both);
    }
    assert_eq!(scene.incident(1).subject, Subject::service("shop"));
    assert_eq!(scene.incident(1).severity, Severity::Critical);
    assert_eq!(scene.incident(2).severity, Severity::Warning);
    assert_eq!(fact(&scene, 2, "their ids"), "900, 901");
    assert_eq!(fact(&scene, 2, "blocked for"), "20.0s");
    table(
        &mut scene,
        vec![blocked(700, &[(701, 6)]), blocked(900, &[(901, 1)])],
    );
    assert!(scene.incident(1).is_over(), "it ran in between");
    assert!(!scene.incident(2).is_over(), "one of two still hangs");
    table(&mut scene, vec![usage(700)]);
    assert!(scene.incident(2).is_over(), "it is gone");
}

#[test]
fn what_runs_in_between_or_is_another_process_does_not_hang() {
    let mut scene = Scene::new("");
    for n in 0..60 {
        let mut reused = blocked(800, &[(800, 5)]);
        reused.process.start_ticks += n / 15;
        table(&mut scene, vec![blocked(700, &[(701, n / 15)]), reused]);
    }
    assert_eq!(scene.engine.open_incidents().count(), 0);
}

#[test]
fn a_gap_between_tables_counts_anew() {
    let mut scene = Scene::new("");
    for _ in 0..10 {
        table(&mut scene, vec![blocked(700, &[(700, 5)])]);
    }
    scene.pass(Duration::from_hours(1));
    for _ in 0..20 {
        table(&mut scene, vec![blocked(700, &[(700, 5)])]);
    }
    assert_eq!(scene.engine.open_incidents().count(), 0);
    table(&mut scene, vec![blocked(700, &[(700, 5)])]);
    assert_eq!(scene.engine.open_incidents().count(), 1);
    scene.pass(Duration::from_hours(1));
    table(&mut scene, vec![blocked(700, &[(700, 5)])]);
    assert_eq!(scene.engine.open_incidents().count(), 1, "it never ran");
}

#[test]
fn a_full_list_hides_no_recovery_and_thousands_of_blocked_threads_are_bounded() {
    let mut scene = Scene::new("");
    let full = |first: u32| {
        let threads: Vec<_> = (first..).take(BLOCKED).map(|tid| (tid, 1)).collect();
        blocked(700, &threads)
    };
    for _ in 0..21 {
        table(&mut scene, vec![full(1)]);
    }
    assert_eq!(scene.engine.open_incidents().count(), 1);
    table(&mut scene, vec![full(100)]);
    assert_eq!(scene.engine.open_incidents().count(), 1, "they do not show");
    table(&mut scene, vec![blocked(700, &[(100, 1)])]);
    assert_eq!(scene.engine.open_incidents().count(), 0);
    for _ in 0..25 {
        let many = (1_000..1_200).map(|pid| ProcessUsage {
            process: key(pid),
            ..full(pid * 100)
        });
        table(&mut scene, many.collect());
    }
    assert_eq!(scene.engine.open_incidents().count(), 1_024 / BLOCKED);
}

fn faults(scene: &mut Scene, total: &mut u64, rate: u64) {
    *total = total.wrapping_add(rate);
    let process = ProcessUsage {
        major_faults: *total,
        run_delay_ns: *total * 500_000,
        ..usage(800)
    };
    table(scene, vec![process]);
}

#[test]
fn a_process_thrashes_for_as_long_as_its_faults_say() {
    let mut scene = Scene::new("");
    let mut total = 1 << 40;
    for rate in [0, 900, 900, 100, 900, 900] {
        faults(&mut scene, &mut total, rate);
    }
    assert_eq!(scene.engine.open_incidents().count(), 0, "not in a row");
    faults(&mut scene, &mut total, 1_000);
    assert_eq!(scene.incident(1).detector, "major_fault_storm");
    assert_eq!(scene.incident(1).severity, Severity::Warning);
    assert_eq!(fact(&scene, 1, "major faults a second"), "1000");
    assert_eq!(fact(&scene, 1, "resident memory"), "200 MiB");
    assert_eq!(
        fact(&scene, 1, "time waiting for a CPU"),
        "50% (all threads together)"
    );
    for rate in [400, 400, 400, 400, 100, 100] {
        faults(&mut scene, &mut total, rate);
    }
    assert!(!scene.incident(1).is_over(), "not yet below half");
    faults(&mut scene, &mut total, 100);
    assert!(scene.incident(1).is_over());
    for n in 0..9 {
        let mut strange = if n % 2 == 0 { 0 } else { u64::MAX / 500_000 };
        faults(&mut scene, &mut strange, 0);
    }
}
