//! Who ended a process: a signal's sender, the kernel for lack of memory, a guard in the kernel.

use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::memory_ceiling::{
    KILLED, MemoryCeiling, OBSERVED, SCOPE_CGROUP, SCOPE_PROCESS, SPARED,
};
use monitor_common::probes::oom_kill::{CAUSE_CGROUP, CAUSE_HOST, OomKill};
use monitor_common::probes::process_signal::ProcessSignal;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{
    IncidentId, Outcome, ProcessUsage, Sample, ServiceSignal, Severity, Signal, State, Subject,
};

use super::{RESTART, SERVICE, Scene, key, task};

const KILL: &str = r#"
[[process]]
name = "batch"
comm = ["cruncher", "neighbour"]
[[remedy]]
detector = "memory_pressure"
on = ["*"]
action = "kill_process"
"#;

fn name(text: &str) -> [u8; 16] {
    task(1, text).comm
}

pub(super) fn crossed(scene: &mut Scene, pid: u32, comm: &str, verdict: u32, cgroup: u64) {
    scene.kernel(|header| {
        Event::MemoryCeiling(MemoryCeiling {
            header,
            task: task(pid, comm),
            limit_pages: 25_600,
            used_pages: 25_610,
            resident_pages: 20_000,
            memory_cgroup_id: cgroup,
            scope: if cgroup == 0 {
                SCOPE_PROCESS
            } else {
                SCOPE_CGROUP
            },
            verdict,
        })
    });
}

fn oom(scene: &mut Scene, pid: u32, comm: &str, cause: u32) {
    scene.kernel(|header| {
        Event::OomKill(OomKill {
            header,
            task: task(pid, comm),
            anon_pages: 25_600,
            file_pages: 256,
            shmem_pages: u64::MAX,
            trigger_pid: 950,
            oom_score_adj: -500,
            trigger_comm: name("greedy"),
            cause,
            padding: 0,
        })
    });
}

fn signalled(scene: &mut Scene, pid: u32, signal: u32, sender: (u32, &str), result: u32) {
    scene.kernel(|header| {
        Event::ProcessSignal(ProcessSignal {
            header,
            task: task(pid, "shop"),
            signal,
            result,
            sender_pid: sender.0,
            padding: 0,
            sender_comm: name(sender.1),
        })
    });
}

/// The service runs, and its workers are those in cgroup 1.
fn starts_in_cgroup(scene: &mut Scene) {
    let change = ServiceSignal::Started {
        process: key(700),
        adopted: false,
        cgroup_id: 1,
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
}

fn reaped(scene: &mut Scene, pid: u32, status: u32) {
    let change = ServiceSignal::Exited {
        process: key(pid),
        status: Some(status),
    };
    scene.signal(&Signal::Service {
        service: "shop".to_owned(),
        change,
    });
}

fn fact(scene: &Scene, id: u64, name: &str) -> Option<String> {
    let facts = &scene.incident(id).evidence.facts;
    let fact = facts.iter().find(|(known, _)| known == name);
    fact.map(|(_, value)| value.clone())
}

#[test]
fn a_kill_in_the_kernel_is_not_repeated_and_is_the_cause_of_the_exit() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}{KILL}"));
    scene.runs(700);
    crossed(&mut scene, 700, "shop", KILLED, 0);
    assert!(scene.permits.is_empty(), "it is dying already");
    assert_eq!(
        fact(&scene, 1, "done at the crossing").as_deref(),
        Some("SIGKILL sent in the kernel")
    );
    assert!(scene.incident(1).last(StepKind::Acted).is_some());
    // A reading on the way down is no recovery.
    let sample = Sample::ServiceMemory {
        service: "shop".to_owned(),
        process: key(700),
        resident: 1 << 20,
    };
    scene.signal(&Signal::Sample { sample });
    assert!(!scene.incident(1).is_over());
    scene.exits(700, 9);
    assert_eq!(scene.incident(2).caused_by, Some(IncidentId(1)));
    let by = fact(&scene, 2, "killed by").expect("it is told");
    assert!(by.starts_with("a guard in the kernel, 40 KiB over"), "{by}");
    scene.restarts(701);
    reaped(&mut scene, 700, 9);
    scene.answers();
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.incident(1).actions, 0);
    assert_eq!(scene.incident(2).outcome, Some(Outcome::Fixed));
    assert!(scene.permits.is_empty(), "one act in all");
}

#[test]
fn what_is_only_observed_is_acted_on_and_ends_with_a_reading_below() {
    let mut scene = Scene::new(&format!("{SERVICE}{KILL}"));
    scene.runs(700);
    crossed(&mut scene, 700, "shop", OBSERVED, 0);
    let permit = scene.permit();
    assert_eq!(permit.action(), "kill_process");
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    crossed(&mut scene, 700, "shop", OBSERVED, 0);
    assert_eq!(scene.incident(1).severity, Severity::Critical);
    let sample = Sample::ServiceMemory {
        service: "shop".to_owned(),
        process: key(700),
        resident: 99 << 20,
    };
    scene.signal(&Signal::Sample { sample });
    assert!(scene.incident(1).is_over());
}

#[test]
fn a_kill_that_follows_a_crossing_ends_the_wish_to_kill() {
    let mut scene = Scene::new(&format!("{SERVICE}{RESTART}"));
    scene.runs(700);
    crossed(&mut scene, 700, "shop", OBSERVED, 0);
    crossed(&mut scene, 700, "shop", KILLED, 0);
    scene.exits(700, 9);
    assert_eq!(scene.incident(2).caused_by, Some(IncidentId(1)));
}

#[test]
fn who_was_spared_is_never_ended_for_its_neighbours() {
    let mut scene = Scene::new(KILL);
    crossed(&mut scene, 800, "neighbour", SPARED, 77);
    assert!(scene.permits.is_empty());
    assert_eq!(scene.incident(1).severity, Severity::Warning);
    assert_eq!(scene.incident(1).subject.configured_name(), None);
    // Who is to blame is found while the cgroup goes on taking memory.
    crossed(&mut scene, 801, "cruncher", KILLED, 77);
    assert!(scene.incident(1).is_over());
    assert_eq!(scene.incident(2).evidence.process, Some(key(801)));
    scene.pass(Duration::from_secs(6));
    assert_eq!(scene.engine.open_incidents().count(), 0);
    assert!(scene.permits.is_empty());
}

#[test]
fn a_services_cgroup_over_its_ceiling_is_one_incident_with_its_other_troubles_of_memory() {
    let mut scene = Scene::new(SERVICE);
    starts_in_cgroup(&mut scene);
    let reads = |scene: &mut Scene, mib: u64| {
        let sample = Sample::ServiceMemory {
            service: "shop".to_owned(),
            process: key(700),
            resident: mib << 20,
        };
        scene.signal(&Signal::Sample { sample });
    };
    crossed(&mut scene, 750, "worker", SPARED, 77);
    reads(&mut scene, 101);
    assert_eq!(scene.engine.open_incidents().count(), 1);
    assert_eq!(scene.incident(1).subject, Subject::service("shop"));
    reads(&mut scene, 99);
    assert!(!scene.incident(1).is_over(), "its cgroup is over it yet");
    reads(&mut scene, 101);
    scene.pass(Duration::from_secs(6));
    assert!(!scene.incident(1).is_over(), "its main process is over it");
    reads(&mut scene, 99);
    assert!(scene.incident(1).is_over());
    crossed(&mut scene, 750, "worker", KILLED, 77);
    reaped(&mut scene, 700, 9);
    assert!(scene.incident(2).is_over(), "its memory is back");
    oom(&mut scene, 760, "worker", CAUSE_CGROUP);
    let victim = scene.incident(4);
    assert_eq!(victim.detector, "oom_killed");
    assert_eq!(victim.subject, Subject::service("shop"));
}

#[test]
fn a_worker_killed_in_the_kernel_is_no_reason_to_end_the_service_and_no_excuse_for_it_later() {
    let mut scene = Scene::new(&format!("{SERVICE}{KILL}"));
    starts_in_cgroup(&mut scene);
    crossed(&mut scene, 750, "worker", KILLED, 77);
    assert_eq!(scene.incident(1).severity, Severity::Warning);
    assert!(scene.permits.is_empty());
    let sample = Sample::ServiceMemory {
        service: "shop".to_owned(),
        process: key(700),
        resident: 101 << 20,
    };
    scene.signal(&Signal::Sample { sample });
    assert_eq!(scene.permit().action(), "kill_process");
    assert_eq!(scene.engine.open_incidents().count(), 1);
}

#[test]
fn a_process_over_its_ceiling_is_over_it_until_a_table_shows_it_below() {
    let usage = |mib: u64| ProcessUsage {
        process: key(800),
        comm: "cruncher".to_owned(),
        cpu_ns: 0,
        resident: mib << 20,
        major_faults: 0,
        run_delay_ns: 0,
        blocked: Vec::new(),
    };
    let table = |mib: u64| Signal::Sample {
        sample: Sample::Processes {
            processes: vec![usage(mib)],
        },
    };
    let mut scene = Scene::new(KILL);
    crossed(&mut scene, 800, "cruncher", OBSERVED, 0);
    assert_eq!(scene.permit().action(), "kill_process");
    let mut scene = Scene::new("");
    crossed(&mut scene, 800, "cruncher", OBSERVED, 0);
    scene.signal(&table(101));
    scene.pass(Duration::from_mins(1));
    assert!(!scene.incident(1).is_over());
    scene.signal(&table(99));
    assert!(scene.incident(1).is_over());
}

#[test]
fn thousands_of_crossings_are_bounded() {
    let mut scene = Scene::new("");
    for pid in 1_000..6_000 {
        crossed(&mut scene, pid, "many", u32::MAX, 0);
        oom(&mut scene, pid, &pid.to_string(), u32::MAX);
    }
    assert!(scene.engine.open_incidents().count() <= 512);
    scene.pass(Duration::from_mins(2));
    scene.signal(&Signal::Sample {
        sample: Sample::Processes {
            processes: Vec::new(),
        },
    });
    assert_eq!(scene.engine.open_incidents().count(), 0);
}

#[test]
fn a_service_that_the_kernel_killed_for_memory_says_so() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    // The kernel's own signal is sent by whoever asked for memory: that is not who killed it.
    signalled(&mut scene, 700, 9, (950, "greedy"), 0);
    oom(&mut scene, 700, "shop", CAUSE_HOST);
    assert!(scene.engine.open_incidents().next().is_none());
    scene.exits(700, 9);
    assert_eq!(scene.incident(1).detector, "service_down");
    let expected = [
        ("killed by", "the kernel, for lack of memory"),
        ("why", "the host's memory was short"),
        ("held, anonymous", "100 MiB"),
        ("memory was asked for by", "greedy [950]"),
        ("oom_score_adj", "-500"),
    ];
    for (name, value) in expected {
        assert_eq!(fact(&scene, 1, name).as_deref(), Some(value));
    }
}

#[test]
fn any_other_victim_is_an_incident_until_no_other_follows() {
    let mut scene = Scene::new("");
    oom(&mut scene, 800, "worker", CAUSE_CGROUP);
    scene.pass(Duration::from_secs(40));
    oom(&mut scene, 801, "worker", CAUSE_CGROUP);
    scene.pass(Duration::from_secs(40));
    assert_eq!(scene.engine.open_incidents().count(), 1, "it goes on");
    let incident = scene.incident(1);
    assert_eq!(incident.detector, "oom_killed");
    assert!(matches!(&incident.subject, Subject::Process { process, .. } if *process == key(800)));
    assert!(fact(&scene, 1, "why").is_some_and(|why| why.contains("cgroup 1")));
    scene.pass(Duration::from_secs(21));
    assert!(scene.incident(1).is_over());
    let last = &scene.incident(1).steps.last().expect("it has steps").detail;
    assert!(last.ends_with("2 in all"), "{last}");
}

#[test]
fn a_killed_service_names_who_sent_the_signal() {
    for (signal, sender, status, name, expected) in [
        (
            9,
            (4_000, "bash"),
            9,
            "killed by",
            "bash [4000], SIGKILL (9)",
        ),
        (
            11,
            (700, "shop"),
            0x8b,
            "killed by",
            "by itself (a fault), SIGSEGV (11)",
        ),
        (6, (700, "shop"), 6, "killed by", "by itself, SIGABRT (6)"),
        (
            15,
            (1, "systemd"),
            0,
            "asked to end by",
            "systemd [1], SIGTERM (15)",
        ),
    ] {
        let mut scene = Scene::new(SERVICE);
        scene.runs(700);
        signalled(&mut scene, 700, signal, sender, 0);
        // To a process that ends already, or ignores it: nothing came of these.
        signalled(&mut scene, 700, 15, (5_000, "late"), 1);
        scene.exits(700, status);
        assert_eq!(fact(&scene, 1, name).as_deref(), Some(expected));
    }
}

#[test]
fn a_signal_to_another_process_or_long_ago_is_no_cause() {
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    signalled(&mut scene, 800, 9, (4_000, "bash"), 0);
    signalled(&mut scene, 700, 15, (4_000, "bash"), 0);
    scene.pass(Duration::from_mins(10));
    scene.exits(700, 256);
    for name in ["killed by", "asked to end by"] {
        assert_eq!(fact(&scene, 1, name), None);
    }
    let mut scene = Scene::new(SERVICE);
    scene.runs(700);
    signalled(&mut scene, 700, u32::MAX, (700, "\u{7f}"), 0);
    scene.exits(700, 11);
    assert_eq!(fact(&scene, 1, "killed by"), None);
}
