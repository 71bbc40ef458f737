//! What a look becomes, against somebody who runs services and says what the test wants.

use std::os::fd::OwnedFd;

use super::*;
use crate::host::Opened;
use crate::host::exec::{self, Program};
use crate::host::signals::Held;
use crate::model::{Healer, ServiceSignal};
use crate::supervisors::{Phase, Seen};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<ServiceSignal>>);

impl Notify for Heard {
    fn service(&self, _: &str, change: ServiceSignal) {
        lock(&self.0).push(change);
    }
    fn watch(&self, _: &str, _: ProcessKey, _: OwnedFd) {}
    fn pressure(&self, _: &str, _: std::fs::File) {}
}

struct Scene {
    track: Track,
    heard: Heard,
}

impl Scene {
    fn new() -> Self {
        Self {
            track: Track::default(),
            heard: Heard::default(),
        }
    }

    /// A look that says this; what was told of it, and whether to look again soon.
    fn sees(&mut self, phase: Phase, process: Option<ProcessKey>) -> (Vec<ServiceSignal>, bool) {
        let seen = Seen {
            phase,
            process,
            cgroup_id: 7,
            healer: None,
        };
        self.gets(Ok(seen))
    }

    fn gets(&mut self, seen: Result<Seen, HostError>) -> (Vec<ServiceSignal>, bool) {
        let next = self.track.take("them", "shop", seen, &self.heard);
        (std::mem::take(&mut lock(&self.heard.0)), next.is_some())
    }
}

fn sleeper() -> (Held, ProcessKey) {
    let program = Program {
        command: vec!["sleep".to_owned(), "100".to_owned()],
        ..Program::default()
    };
    let held = exec::start(&program, None, None).expect("it starts");
    let process = held.process();
    (held, process)
}

fn end(held: &Held) {
    held.kill().expect("it is ours");
    assert!(held.wait(Duration::from_secs(10)).expect("it is ours"));
    held.bury();
}

fn started(process: ProcessKey, adopted: bool) -> ServiceSignal {
    ServiceSignal::Started {
        process,
        adopted,
        cgroup_id: 7,
    }
}

fn exited(process: ProcessKey) -> ServiceSignal {
    ServiceSignal::Exited {
        process,
        status: None,
    }
}

#[test]
fn an_end_is_a_fault_only_when_they_say_so() {
    let mut scene = Scene::new();
    let (held, first) = sleeper();
    assert_eq!(
        scene.sees(Phase::Running, Some(first)),
        (vec![started(first, true)], false)
    );
    assert_eq!(
        scene.sees(Phase::Running, Some(first)),
        (vec![], false),
        "once"
    );
    end(&held);
    assert_eq!(
        scene.sees(Phase::Running, Some(first)),
        (vec![], true),
        "they have not noticed yet"
    );
    assert_eq!(scene.sees(Phase::Stopping, None), (vec![], true));
    assert_eq!(
        scene.sees(Phase::Stopped, None),
        (vec![ServiceSignal::Stopped], false),
        "it was meant"
    );
    let (held, second) = sleeper();
    assert_eq!(
        scene.sees(Phase::Running, Some(second)),
        (vec![started(second, false)], false)
    );
    end(&held);
    let failed = Phase::Failed {
        why: "exit code 1".to_owned(),
        gave_up: false,
    };
    assert_eq!(
        scene.sees(failed.clone(), None),
        (vec![exited(second)], false)
    );
    assert_eq!(scene.sees(failed, None), (vec![], false), "once");
}

#[test]
fn one_that_they_start_anew_is_told_with_both_processes() {
    let mut scene = Scene::new();
    let (held, first) = sleeper();
    scene.sees(Phase::Running, Some(first));
    end(&held);
    assert_eq!(
        scene.sees(Phase::Starting, None),
        (vec![exited(first)], true)
    );
    let (held, second) = sleeper();
    assert_eq!(
        scene.sees(Phase::Running, Some(second)),
        (vec![started(second, false)], false)
    );
    end(&held);
    let (held, third) = sleeper();
    assert_eq!(
        scene.sees(Phase::Running, Some(third)),
        (vec![exited(second), started(third, false)], false),
        "they were faster than we looked"
    );
    end(&held);
    let why = "start limit hit".to_owned();
    let failed = Phase::Failed { why, gave_up: true };
    let reason = "them: start limit hit".to_owned();
    assert_eq!(
        scene.sees(failed, None),
        (vec![exited(third), ServiceSignal::GaveUp { reason }], false)
    );
}

#[test]
fn what_never_ran_has_failed_or_is_stopped() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.sees(Phase::Stopped, None),
        (vec![ServiceSignal::Stopped], false)
    );
    assert_eq!(scene.sees(Phase::Stopped, None), (vec![], false));
    let why = "exit code 1".to_owned();
    let failed = Phase::Failed {
        why,
        gave_up: false,
    };
    let reason = "them: exit code 1".to_owned();
    assert_eq!(
        scene.sees(failed, None),
        (vec![ServiceSignal::StartFailed { reason }], false)
    );
}

#[test]
fn who_cannot_be_asked_is_asked_again_and_what_runs_is_told_anew() {
    let mut scene = Scene::new();
    let (held, process) = sleeper();
    scene.sees(Phase::Running, Some(process));
    let gone = || Err(HostError::NoService("shop".to_owned()));
    let (told, again) = scene.gets(gone());
    assert!(
        matches!(told.as_slice(), [ServiceSignal::Unknown { reason }] if reason.contains("shop")),
        "{told:?}"
    );
    assert!(again);
    assert_eq!(scene.gets(gone()).0, []);
    assert_eq!(
        scene.sees(Phase::Running, Some(process)),
        (vec![started(process, true)], false),
        "the same one, taken over"
    );
    end(&held);
}

#[test]
fn who_starts_it_anew_is_told_when_that_changes() {
    let mut scene = Scene::new();
    let healer = Some(Healer {
        name: "them".to_owned(),
        patience: Duration::from_secs(3),
    });
    let seen = |healer: &Option<Healer>| {
        Ok(Seen {
            phase: Phase::Stopped,
            process: None,
            cgroup_id: 0,
            healer: healer.clone(),
        })
    };
    let heals = ServiceSignal::Heals {
        healer: healer.clone(),
    };
    assert_eq!(scene.gets(seen(&healer)).0, [heals, ServiceSignal::Stopped]);
    assert_eq!(scene.gets(seen(&healer)).0, []);
    assert!(scene.track.heals(), "its next end is left to them first");
    assert_eq!(
        scene.gets(seen(&None)).0,
        [ServiceSignal::Heals { healer: None }]
    );
    assert!(!scene.track.heals());
}
