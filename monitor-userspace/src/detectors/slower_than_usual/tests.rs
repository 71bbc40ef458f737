use super::*;
use crate::model::{CheckFailure, ProcessKey};

struct Scene {
    detector: Detect,
    world: World,
    ms: i64,
}

impl Scene {
    /// A service that runs.
    fn new() -> Self {
        let mut service = Service::new("shop");
        service.process = Some(ProcessKey {
            pid: 7,
            start_ticks: 1,
        });
        let mut world = World::default();
        world.services.insert(service);
        Self {
            detector: Detect::new(Config::default()),
            world,
            ms: 1_000,
        }
    }

    fn feed(&mut self, signal: &Signal) -> Vec<Finding> {
        self.ms += 1_000;
        let at = Time::from_nanos(self.ms * 1_000_000);
        let mut out = Vec::new();
        self.detector.observe(signal, at, &self.world, &mut out);
        out
    }

    /// So many answers that took so long: all that was found.
    fn answers(&mut self, count: usize, ms: u64) -> Vec<Finding> {
        let mut found = Vec::new();
        for _ in 0..count {
            let result = CheckResult::new("shop", Duration::from_millis(ms), None);
            found.extend(self.feed(&Signal::Check { result }));
        }
        found
    }
}

fn raised(found: &[Finding]) -> bool {
    matches!(
        found,
        [Finding::Raised {
            severity: Severity::Warning,
            ..
        }]
    )
}

fn cleared(found: &[Finding]) -> bool {
    matches!(found, [Finding::Cleared { .. }])
}

#[test]
fn far_slower_than_it_was_at_first_is_told_once_and_so_is_its_end() {
    let mut scene = Scene::new();
    assert!(scene.answers(40, 50).is_empty());
    assert!(scene.answers(10, 140).is_empty(), "less than three times");
    assert!(raised(&scene.answers(20, 400)));
    assert!(scene.answers(20, 130).is_empty(), "not far enough down");
    assert!(cleared(&scene.answers(10, 60)));
    assert!(scene.answers(50, 60).is_empty());
}

#[test]
fn single_slow_answers_and_quick_ones_are_no_trouble() {
    let mut scene = Scene::new();
    scene.answers(30, 50);
    for _ in 0..20 {
        assert!(scene.answers(1, 5_000).is_empty());
        assert!(scene.answers(3, 50).is_empty());
    }
    let mut quick = Scene::new();
    quick.answers(30, 1);
    assert!(quick.answers(50, 90).is_empty(), "below `least`");
}

#[test]
fn a_creeping_decline_is_not_taken_for_usual() {
    let mut scene = Scene::new();
    scene.answers(30, 50);
    let found: Vec<Finding> = (50..250).flat_map(|ms| scene.answers(20, ms)).collect();
    assert!(raised(&found), "{found:?}");
}

#[test]
fn a_slow_first_minute_is_not_taken_for_usual_either() {
    let mut scene = Scene::new();
    scene.answers(20, 1_000);
    assert!(scene.answers(2_000, 50).is_empty());
    assert!(raised(&scene.answers(10, 400)));
}

#[test]
fn failures_and_other_processes_do_not_count() {
    let mut scene = Scene::new();
    scene.answers(30, 50);
    for _ in 0..20 {
        let failure = Some(CheckFailure::Timeout);
        let result = CheckResult::new("shop", Duration::from_secs(2), failure);
        assert!(scene.feed(&Signal::Check { result }).is_empty());
    }
    assert!(raised(&scene.answers(10, 400)));
    let stopped = Signal::Service {
        service: "shop".to_owned(),
        change: ServiceSignal::Stopped,
    };
    assert!(cleared(&scene.feed(&stopped)));
    assert!(scene.answers(9, 400).is_empty(), "seen anew");
}
