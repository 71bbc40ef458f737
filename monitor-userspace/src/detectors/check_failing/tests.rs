use std::time::Duration;

use super::*;
use crate::model::ProcessKey;
use crate::model::service::NONE;

fn at(ms: i64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn check(serving: bool, failures: u32, successes: u32) -> Check {
    Check {
        kind: "tcp".to_owned(),
        serving,
        failures,
        successes,
        severity: if serving {
            Severity::Critical
        } else {
            Severity::Warning
        },
        after_release: Vec::new(),
        well: Some(true),
        said: None,
    }
}

/// A service that runs since second 1, with these checks.
fn world(checks: &[(&str, Check)]) -> World {
    let mut service = Service::new("shop");
    service.process = Some(ProcessKey {
        pid: 7,
        start_ticks: 100,
    });
    service.started = Some(at(1_000));
    let checks = checks.iter();
    service.checks = checks
        .map(|(name, check)| ((*name).to_owned(), check.clone()))
        .collect();
    let mut world = World::default();
    world.services.insert(service);
    world
}

struct Scene {
    detector: Detect,
    world: World,
    ms: i64,
}

impl Scene {
    fn new(world: World) -> Self {
        Self {
            detector: Detect::new(Config::default()),
            world,
            ms: 100_000,
        }
    }

    /// Results of a check, one a second: what was found after the last of them.
    fn says(&mut self, check: &str, failures: &[Option<CheckFailure>]) -> Vec<Finding> {
        let mut out = Vec::new();
        for failure in failures {
            out.clear();
            self.ms += 1_000;
            let result = CheckResult {
                service: "shop".to_owned(),
                check: check.to_owned(),
                latency: Duration::from_millis(1),
                failure: failure.clone(),
                said: None,
                figures: Vec::new(),
            };
            let signal = Signal::Check { result };
            self.detector
                .observe(&signal, at(self.ms), &self.world, &mut out);
        }
        out
    }
}

fn failure() -> CheckFailure {
    CheckFailure::Answer("status 500".to_owned())
}

fn raised(found: &[Finding]) -> Option<Severity> {
    match found {
        [Finding::Raised { severity, .. }] => Some(*severity),
        _ => None,
    }
}

fn cleared(found: &[Finding]) -> bool {
    matches!(found, [Finding::Cleared { .. }])
}

#[test]
fn so_many_in_a_row_are_trouble_and_so_many_well_end_it() {
    let mut scene = Scene::new(world(&[("http", check(true, 3, 2))]));
    assert!(
        scene
            .says("http", &[Some(failure()), Some(failure()), None])
            .is_empty()
    );
    assert!(
        scene
            .says("http", &[Some(failure()), Some(failure())])
            .is_empty()
    );
    assert_eq!(
        raised(&scene.says("http", &[Some(failure())])),
        Some(Severity::Critical)
    );
    assert!(
        scene
            .says("http", &[Some(failure()), Some(failure())])
            .is_empty()
    );
    assert_eq!(
        raised(&scene.says("http", &[Some(failure())])),
        Some(Severity::Critical),
        "it is said again"
    );
    assert!(
        scene
            .says("http", &[None, Some(failure()), None])
            .is_empty()
    );
    assert!(cleared(&scene.says("http", &[None])));
    assert!(scene.says("http", &[None]).is_empty());
}

#[test]
fn it_is_over_when_all_of_them_are_well() {
    let checks = [("http", check(true, 1, 1)), ("cert", check(false, 1, 1))];
    let mut scene = Scene::new(world(&checks));
    assert_eq!(
        raised(&scene.says("cert", &[Some(failure())])),
        Some(Severity::Warning)
    );
    assert_eq!(
        raised(&scene.says("http", &[Some(failure())])),
        Some(Severity::Critical)
    );
    assert!(scene.says("cert", &[None]).is_empty());
    assert!(cleared(&scene.says("http", &[None])));
}

#[test]
fn one_that_starts_slowly_does_not_fail_while_it_starts() {
    let mut slow = check(true, 1, 1);
    slow.well = None;
    let mut world = world(&[("http", slow)]);
    world
        .services
        .change("shop", |service| service.started = Some(at(100_000)));
    let mut scene = Scene::new(world);
    // 59 s.
    let quiet = vec![Some(failure()); 59];
    assert!(scene.says("http", &quiet).is_empty());
    assert!(
        scene
            .says("http", &[Some(failure()), Some(failure())])
            .len()
            == 1,
        "60 s are over"
    );
}

#[test]
fn what_does_not_run_or_does_not_answer_in_time_is_others_trouble() {
    let mut scene = Scene::new(world(&[
        ("http", check(true, 1, 1)),
        ("file", check(false, 1, 1)),
    ]));
    assert!(
        scene
            .says("http", &[Some(CheckFailure::Timeout)])
            .is_empty()
    );
    scene
        .world
        .services
        .change("shop", |service| service.process = None);
    assert!(scene.says("http", &[Some(failure())]).is_empty());
    assert_eq!(
        raised(&scene.says("file", &[Some(failure())])),
        Some(Severity::Warning)
    );
    scene
        .world
        .services
        .change("shop", |service| service.kind = NONE.to_owned());
    let timeout = Some(CheckFailure::Timeout);
    assert_eq!(
        raised(&scene.says("http", &[timeout])),
        Some(Severity::Critical),
        "nobody else watches what nobody runs here"
    );
}

#[test]
fn a_check_that_is_gone_and_a_service_that_is_stopped_end_it() {
    let checks = [("http", check(true, 1, 1)), ("cert", check(false, 1, 1))];
    let mut scene = Scene::new(world(&checks));
    scene.says("http", &[Some(failure())]);
    let stopped = Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Stopped,
    };
    let mut out = Vec::new();
    scene
        .detector
        .observe(&stopped, at(200_000), &scene.world, &mut out);
    assert!(cleared(&out));
    scene.says("cert", &[Some(failure())]);
    scene
        .world
        .services
        .change("shop", |service| service.checks.remove("cert"));
    out.clear();
    scene.detector.tick(at(201_000), &scene.world, &mut out);
    assert!(cleared(&out));
}
