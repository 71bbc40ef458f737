//! What a look becomes, against somebody who runs services and says what the test wants.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

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

/// Somebody who runs services: what they say of each, and how their next restart, which fails, leaves the process that it ends.
#[derive(Debug, Default)]
struct Them {
    says: Mutex<BTreeMap<String, Seen>>,
    restart: Mutex<Option<(Held, Phase)>>,
}

impl Them {
    fn say(&self, service: &str, phase: Phase, process: Option<ProcessKey>) {
        let seen = Seen {
            phase,
            process,
            cgroup_id: 7,
            healer: None,
        };
        lock(&self.says).insert(service.to_owned(), seen);
    }
}

impl Source for Them {
    fn configure(&self, _: &BTreeMap<String, toml::Table>) {}

    fn look(&self, service: &str) -> Result<Seen, HostError> {
        let seen = lock(&self.says).get(service).cloned();
        seen.ok_or_else(|| HostError::NoService(service.to_owned()))
    }

    fn every(&self) -> Option<Duration> {
        None
    }

    fn restart(&self, service: &str, _: Duration) -> Result<(), HostError> {
        let (held, left) = lock(&self.restart).take().expect("it is the first");
        end(&held);
        self.say(service, left, None);
        Err(HostError::Supervisor {
            by: "them",
            service: service.to_owned(),
            why: "bad configuration".to_owned(),
        })
    }

    fn stop(&self, _: &str, _: Duration) -> Result<(), HostError> {
        Ok(())
    }

    fn start(&self, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn reload(&self, _: &str) -> Result<Option<String>, HostError> {
        Ok(None)
    }
}

fn runner() -> Arc<Runner> {
    Arc::new(Runner::new(Path::new("/run/smart-monitor/no-instance")))
}

fn outside(names: &[&str], word: &str) -> BTreeMap<String, Outside> {
    let outside = Outside {
        kind: "them",
        words: vec![word.to_owned()],
        with: toml::Table::new(),
    };
    let names = names.iter();
    names
        .map(|name| ((*name).to_owned(), outside.clone()))
        .collect()
}

/// What is told of one that runs while a restart of ours leaves it like this.
fn restarted_in_vain(left: Phase) -> (ProcessKey, Vec<ServiceSignal>) {
    let (held, process) = sleeper();
    let (them, heard) = (Arc::new(Them::default()), Arc::new(Heard::default()));
    them.say("shop", Phase::Running, Some(process));
    *lock(&them.restart) = Some((held, left));
    let followed = Followed {
        kind: "them",
        source: them,
        nudge: Nudge::new().expect("it is made"),
        notify: Arc::<Heard>::clone(&heard),
        runner: runner(),
        words: Mutex::default(),
        tracks: Mutex::default(),
    };
    followed.configure(outside(&["shop"], "shop"));
    assert_eq!(
        followed.running("shop").expect("it is known"),
        Some(process)
    );
    lock(&heard.0).clear();
    let words = ["shop".to_owned()];
    let failed = followed.restart("shop", Some(process), Duration::ZERO, &words);
    failed.expect_err("it is down");
    let told = std::mem::take(&mut *lock(&heard.0));
    (process, told)
}

#[test]
fn a_restart_of_ours_that_leaves_it_down_is_told() {
    let (process, told) = restarted_in_vain(Phase::Failed {
        why: "exit code 1".to_owned(),
        gave_up: false,
    });
    let reason = "them and service shop: bad configuration".to_owned();
    let start_failed = ServiceSignal::StartFailed { reason };
    assert_eq!(told, [exited(process), start_failed]);
    let (_, told) = restarted_in_vain(Phase::Stopped);
    assert_eq!(
        told,
        [ServiceSignal::Stopped],
        "somebody stopped it meanwhile"
    );
}

fn soon(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_act_on_one_keeps_nobody_from_another_nor_from_being_configured() {
    let (held, process) = sleeper();
    let (them, heard) = (Arc::new(Them::default()), Arc::new(Heard::default()));
    them.say("slow", Phase::Stopped, None);
    them.say("shop", Phase::Running, Some(process));
    let followed = Followed::start(
        "them",
        Arc::<Them>::clone(&them),
        Nudge::new().expect("it is made"),
        Arc::<Heard>::clone(&heard),
        runner(),
    )
    .expect("it begins");
    followed.configure(outside(&["shop", "slow"], "before"));
    let told = |signal: &ServiceSignal| lock(&heard.0).contains(signal);
    soon("it runs", || told(&started(process, true)));
    let slow = followed.track("slow").expect("it is followed");
    let act = lock(&slow);
    let asked = Arc::clone(&followed);
    let configured =
        std::thread::spawn(move || asked.configure(outside(&["shop", "slow"], "after")));
    soon("it is configured", || configured.is_finished());
    end(&held);
    let why = "exit code 1".to_owned();
    let gave_up = false;
    them.say("shop", Phase::Failed { why, gave_up }, None);
    soon("its end is told", || told(&exited(process)));
    drop(act);
    let before = followed.start_service("slow", &["before".to_owned()]);
    assert!(
        matches!(before, Err(HostError::OtherCommand(_))),
        "{before:?}"
    );
}
