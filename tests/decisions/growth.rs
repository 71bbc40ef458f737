//! Memory that grows: what will use it up is told in time, what only looks like it is not.

use std::time::Duration;

use smart_monitor::model::{ProcessUsage, Sample, Severity, Signal, Subject};

use super::{SERVICE, Scene, key};

/// A minute of tables; the process has what `mib` says at each second, and takes it from the host.
fn minute(scene: &mut Scene, pid: u32, second: &mut u64, mib: impl Fn(u64) -> u64, host: u64) {
    for _ in 0..60 {
        let resident = mib(*second) << 20;
        let sample = Sample::Memory {
            total: host << 20,
            available: (host << 20).saturating_sub(resident),
            swap_total: 0,
            swap_free: 0,
        };
        scene.signal(&Signal::Sample { sample });
        let usage = ProcessUsage {
            process: key(pid),
            comm: "leaky".to_owned(),
            cpu_ns: 0,
            resident,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        let sample = Sample::Processes {
            processes: vec![usage],
        };
        scene.signal(&Signal::Sample { sample });
        scene.pass(Duration::from_secs(1));
        *second += 1;
    }
}

fn grows(scene: &mut Scene, minutes: u64, mib: impl Fn(u64) -> u64, host: u64) -> u64 {
    let mut second = 0;
    for _ in 0..minutes {
        minute(scene, 800, &mut second, &mib, host);
    }
    second
}

fn open(scene: &Scene) -> usize {
    scene.engine.open_incidents().count()
}

#[test]
fn a_leak_is_told_with_its_rate_and_its_end() {
    let mut scene = Scene::new("");
    // A MiB every other second: of 1,000 MiB, 850 are left after five minutes, and those last for 28.
    let mut second = grows(&mut scene, 4, |second| 100 + second / 2, 1_000);
    assert_eq!(open(&scene), 0, "half a window is not over");
    minute(
        &mut scene,
        800,
        &mut second,
        |second| 100 + second / 2,
        1_000,
    );
    minute(
        &mut scene,
        800,
        &mut second,
        |second| 100 + second / 2,
        1_000,
    );
    let incident = scene.incident(1);
    assert_eq!(incident.detector, "memory_growth");
    assert_eq!(incident.severity, Severity::Warning);
    let facts = &incident.evidence.facts;
    let fact = |name: &str| {
        facts
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(fact("growth a minute"), Some("30.0 MiB"));
    assert_eq!(fact("in"), Some("25 min"));
    assert!(fact("would use up").is_some_and(|what| what.starts_with("the host's")));
    // It stops: over as soon as the pace of the last minutes is slow.
    for _ in 0..4 {
        minute(&mut scene, 800, &mut second, |_| 280, 1_000);
    }
    assert!(scene.incident(1).is_over());
    assert_eq!(open(&scene), 0);
}

#[test]
fn the_ceiling_of_a_service_is_the_nearer_limit() {
    let text = SERVICE.replace("100MiB", "1GiB");
    let mut scene = Scene::new(&text);
    scene.runs(800);
    grows(&mut scene, 6, |second| 100 + second / 2, 4_000);
    let incident = scene.incident(1);
    assert_eq!(incident.subject, Subject::service("shop"));
    let facts = &incident.evidence.facts;
    assert!(facts.contains(&(
        "would use up".to_owned(),
        "its memory_max of 1GiB".to_owned()
    )));
    scene.exits(800, 0);
    assert!(scene.incident(1).is_over(), "it ended");
}

#[test]
fn saws_leaps_caches_and_plenty_raise_nothing() {
    let saw = |second: u64| 200 + (second % 120) * 3;
    let leap = |second: u64| if second < 400 { 100 } else { 900 };
    let cache = |second: u64| 100 + second.min(240) * 3;
    let slow = |second: u64| 100 + second / 4;
    let small = |second: u64| 1 + second / 12;
    let series: [(&dyn Fn(u64) -> u64, u64); 5] = [
        (&saw, 1_200),
        (&leap, 1_200),
        (&cache, 1_200),
        (&slow, 4_000),
        (&small, 128),
    ];
    for (number, (mib, host)) in series.into_iter().enumerate() {
        let mut scene = Scene::new("");
        grows(&mut scene, 15, mib, host);
        assert_eq!(open(&scene), 0, "series {number}");
    }
}

#[test]
fn pages_of_files_that_the_host_can_take_back_use_nothing_up() {
    let mut scene = Scene::new("");
    for second in 0..600 {
        let sample = Sample::Memory {
            total: 1_000 << 20,
            available: 700 << 20,
            swap_total: 0,
            swap_free: 0,
        };
        scene.signal(&Signal::Sample { sample });
        let usage = ProcessUsage {
            process: key(800),
            comm: "mapped".to_owned(),
            cpu_ns: 0,
            resident: (100 + second) << 20,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        let sample = Sample::Processes {
            processes: vec![usage],
        };
        scene.signal(&Signal::Sample { sample });
        scene.pass(Duration::from_secs(1));
    }
    assert_eq!(open(&scene), 0);
}

#[test]
fn a_thousand_large_processes_and_strange_sizes_do_no_harm() {
    let mut scene = Scene::new("");
    for turn in 0..40_u64 {
        let usage = |pid: u32| ProcessUsage {
            process: key(pid),
            comm: "many".to_owned(),
            cpu_ns: 0,
            resident: match pid % 3 {
                0 => u64::MAX - turn,
                1 => u64::MAX / (turn + 1),
                _ => (100 + turn * 100) << 20,
            },
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        let sample = Sample::Memory {
            total: 0,
            available: u64::MAX / (turn + 1),
            swap_total: 0,
            swap_free: 0,
        };
        scene.signal(&Signal::Sample { sample });
        let sample = Sample::Processes {
            processes: (1_000..2_000).map(usage).collect(),
        };
        scene.signal(&Signal::Sample { sample });
        scene.pass(Duration::from_secs(11));
    }
    assert!(open(&scene) <= 256);
    let sample = Sample::Processes {
        processes: Vec::new(),
    };
    scene.pass(Duration::from_secs(11));
    scene.signal(&Signal::Sample { sample });
    assert_eq!(open(&scene), 0);
}
