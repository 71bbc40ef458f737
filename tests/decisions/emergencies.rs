//! The host runs out of memory: whom policy lets go, and when the next one.

use std::time::Duration;

use smart_monitor::model::{Claims, MemoryClaim, Outcome, Sample, Signal, Subject};

use super::{Scene, done, key};

const MIB: u64 = 1 << 20;

/// 1000 MiB, an emergency below 100.
const CONFIG: &str = r#"
[policy]
backoff_initial = "0s"
[detectors.memory_pressure]
available_min = "100MiB"
least = "100MiB"
exhaust_within = "0s"
[[process]]
name = "one"
comm = ["one"]
[[process]]
name = "two"
comm = ["two"]
[[process]]
name = "spared"
comm = ["spared"]
[[remedy]]
detector = "memory_pressure"
on = ["one", "two"]
action = "kill_process"
term_grace = "0s"
"#;

fn table(scene: &mut Scene, processes: &[(u32, &str, u64)]) {
    let claim = |(pid, comm, mib): &(u32, &str, u64)| MemoryClaim {
        process: key(*pid),
        comm: (*comm).to_owned(),
        cgroup_id: 0,
        anon: mib * MIB,
        shmem: 0,
        swap: 0,
        oom_score_adj: 0,
    };
    let claims = Claims {
        processes: processes.iter().map(claim).collect(),
        cgroups: Vec::new(),
    };
    let sample = Sample::MemoryClaims { claims };
    scene.signal(&Signal::Sample { sample });
}

fn available(scene: &mut Scene, mib: u64) {
    let sample = Sample::Memory {
        total: 1000 * MIB,
        available: mib * MIB,
        swap_total: 0,
        swap_free: 0,
    };
    scene.signal(&Signal::Sample { sample });
    scene.pass(Duration::from_millis(10));
}

#[test]
fn the_second_goes_only_when_the_memory_of_the_first_was_not_enough() {
    let mut scene = Scene::new(CONFIG);
    let all = [(801, "one", 60), (802, "two", 60), (803, "spared", 700)];
    table(&mut scene, &all);
    available(&mut scene, 20);
    let first = scene.permit();
    let victim = first.plan().process().expect("a process");
    assert!(victim != key(803), "nobody consented to that");
    scene.effect(&first, done());
    for _ in 0..20 {
        available(&mut scene, 15);
    }
    assert!(scene.permits.is_empty(), "the first has not gone yet");
    let left: Vec<_> = all
        .into_iter()
        .filter(|(pid, ..)| key(*pid) != victim)
        .collect();
    table(&mut scene, &left);
    available(&mut scene, 70);
    assert!(scene.permits.is_empty(), "its memory may still come back");
    scene.pass(Duration::from_millis(500));
    available(&mut scene, 70);
    let second = scene.permit();
    assert_ne!(second.plan().process(), Some(victim));
    scene.effect(&second, done());
    available(&mut scene, 140);
    assert_eq!(scene.incident(2).outcome, Some(Outcome::Fixed));
    assert_eq!(scene.engine.open_incidents().count(), 0);
    assert!(scene.permits.is_empty());
}

#[test]
fn memory_that_comes_back_costs_no_second_one() {
    let mut scene = Scene::new(CONFIG);
    table(&mut scene, &[(801, "one", 300), (802, "two", 200)]);
    available(&mut scene, 50);
    let permit = scene.permit();
    assert_eq!(permit.plan().process(), Some(key(801)));
    scene.effect(&permit, done());
    table(&mut scene, &[(802, "two", 200)]);
    for mib in [60, 80, 99, 200, 350] {
        available(&mut scene, mib);
    }
    assert!(scene.permits.is_empty());
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
    assert_eq!(scene.engine.open_incidents().count(), 0);
}

#[test]
fn who_has_no_remedy_is_named_and_not_touched() {
    let mut scene = Scene::new(CONFIG);
    table(&mut scene, &[(801, "one", 10), (803, "spared", 700)]);
    available(&mut scene, 20);
    assert!(scene.permits.is_empty());
    let incident = scene.incident(1);
    assert!(
        matches!(&incident.subject, Subject::Process { comm, .. } if comm == "spared"),
        "{incident:#?}"
    );
    assert!(scene.refused_by(1).starts_with("consent:"));
}
