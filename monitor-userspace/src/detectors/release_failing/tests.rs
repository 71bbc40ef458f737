use super::*;
use crate::model::release::Source;
use crate::model::{CheckFailure, Release, Releases, Services};

fn at(seconds: u64) -> Time {
    Time::default().after(Duration::from_secs(1_000_000 + seconds))
}

fn process(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: 1,
    }
}

/// The service runs `v2` since second 0, after `v1`.
fn world(checked: bool) -> World {
    let mut service = Service::new("shop");
    service.checked = checked;
    service.memory_max = Some(1_000);
    service.process = Some(process(7));
    service.last_process = Some(process(7));
    service.started = Some(at(0));
    let mut release = Release::new(Releases {
        source: Source::Git {
            path: "/srv/shop".into(),
        },
        build: Vec::new(),
        schema_check: Vec::new(),
        backup_check: Vec::new(),
        limit: Duration::from_secs(1),
        proven_after: Duration::from_secs(1),
    });
    release.known.started_with(process(6), "v1", at(0));
    release.known.started_with(process(7), "v2", at(0));
    service.release = Some(Box::new(release));
    World {
        services: Services::from_iter([service]),
        ..World::default()
    }
}

/// What is found when this is seen.
fn sees(detect: &mut Detect, signal: &Signal, second: u64, world: &World) -> Vec<&'static str> {
    let mut out = Vec::new();
    detect.observe(signal, at(second), world, &mut out);
    names(&out)
}

fn names(found: &[Finding]) -> Vec<&'static str> {
    let name = |finding: &Finding| match finding {
        Finding::Raised { .. } => "raised",
        Finding::Cleared { .. } => "cleared",
    };
    found.iter().map(name).collect()
}

fn check(latency: u64, well: bool) -> Signal {
    Signal::Check {
        result: CheckResult::new(
            "shop",
            Duration::from_secs(latency),
            (!well).then_some(CheckFailure::Timeout),
        ),
    }
}

fn memory(resident: u64) -> Signal {
    Signal::Sample {
        sample: Sample::ServiceMemory {
            service: "shop".to_owned(),
            process: process(7),
            resident,
        },
    }
}

fn ends() -> Signal {
    Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Exited {
            process: process(7),
            status: Some(256),
        },
    }
}

#[test]
fn five_failed_checks_in_a_row_and_no_four() {
    let (mut detect, world) = (Detect::new(Config::default()), world(true));
    for second in 1..=4 {
        assert!(sees(&mut detect, &check(0, false), second, &world).is_empty());
    }
    assert!(sees(&mut detect, &check(0, true), 5, &world).is_empty());
    for second in 6..=9 {
        assert!(sees(&mut detect, &check(0, false), second, &world).is_empty());
    }
    assert_eq!(sees(&mut detect, &check(0, false), 10, &world), ["raised"]);
    assert_eq!(sees(&mut detect, &check(0, true), 11, &world), ["cleared"]);
    assert!(sees(&mut detect, &check(0, true), 12, &world).is_empty());
}

#[test]
fn a_mean_over_ten_seconds_is_too_slow() {
    let (mut detect, world) = (Detect::new(Config::default()), world(true));
    for second in [20, 40, 60, 80] {
        assert!(sees(&mut detect, &check(11, true), second, &world).is_empty());
    }
    assert_eq!(sees(&mut detect, &check(11, true), 100, &world), ["raised"]);
    assert!(sees(&mut detect, &check(11, true), 120, &world).is_empty());
    assert_eq!(sees(&mut detect, &check(9, true), 140, &world), ["cleared"]);
}

#[test]
fn memory_over_the_ceiling_for_as_many_samples() {
    for (checked, cleared) in [(false, vec!["cleared"]), (true, vec![])] {
        let (mut detect, world) = (Detect::new(Config::default()), world(checked));
        for second in 1..=4 {
            assert!(sees(&mut detect, &memory(1_001), second, &world).is_empty());
        }
        assert_eq!(sees(&mut detect, &memory(1_001), 5, &world), ["raised"]);
        assert!(
            sees(&mut detect, &check(0, true), 6, &world).is_empty(),
            "still over"
        );
        assert_eq!(sees(&mut detect, &memory(1_000), 7, &world), cleared);
        if checked {
            assert_eq!(sees(&mut detect, &check(0, true), 8, &world), ["cleared"]);
        }
    }
}

#[test]
fn ending_again_and_again_without_a_check_is_over_when_it_runs_for_a_while() {
    let (mut detect, world) = (Detect::new(Config::default()), world(false));
    assert!(sees(&mut detect, &ends(), 1, &world).is_empty());
    assert!(sees(&mut detect, &ends(), 2, &world).is_empty());
    assert_eq!(sees(&mut detect, &ends(), 3, &world), ["raised"]);
    let started = Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Started {
            process: process(7),
            adopted: false,
            cgroup_id: 0,
        },
    };
    sees(&mut detect, &started, 4, &world);
    assert_eq!(detect.wake(), Some(at(14)));
    let mut out = Vec::new();
    detect.tick(at(13), &world, &mut out);
    assert!(out.is_empty());
    detect.tick(at(14), &world, &mut out);
    assert_eq!(names(&out), ["cleared"]);
}

#[test]
fn trouble_that_no_release_brought_is_not_this() {
    let never = {
        let mut world = world(true);
        world.services.change("shop", |service| {
            if let Some(release) = &mut service.release {
                release.known.changed = None;
            }
        });
        world
    };
    let hours = 3_600;
    for (world, from) in [(never, 1), (world(true), 73 * hours)] {
        let mut detect = Detect::new(Config::default());
        for second in from..from + 20 {
            assert!(sees(&mut detect, &check(0, false), second, &world).is_empty());
            assert!(sees(&mut detect, &memory(2_000), second, &world).is_empty());
            assert!(sees(&mut detect, &ends(), second, &world).is_empty());
        }
        assert!(detect.tracks.is_empty());
    }
}

#[test]
fn another_release_begins_anew() {
    let (mut detect, mut world) = (Detect::new(Config::default()), world(true));
    for second in 1..=4 {
        sees(&mut detect, &check(0, false), second, &world);
    }
    world.services.change("shop", |service| {
        if let Some(release) = &mut service.release {
            release.known.started_with(process(8), "v3", at(5));
        }
    });
    for second in 6..=9 {
        assert!(sees(&mut detect, &check(0, false), second, &world).is_empty());
    }
    assert_eq!(sees(&mut detect, &check(0, false), 10, &world), ["raised"]);
}
