//! Releases: which one has proven itself, and when one is gone back to; what stands in the way of that, and what it leaves behind.

use std::sync::Mutex;
use std::time::Duration;

use smart_monitor::actions;
use smart_monitor::host::release::Switch;
use smart_monitor::host::{Host, HostError, Opened, Restarted};
use smart_monitor::model::{
    CheckFailure, EffectResult, IncidentId, Outcome, Plan, ProcessKey, Releases, Request, Sample,
    Signal, Subject, Time,
};
use smart_monitor::policy::Permit;

use super::{Scene, done, key};

const CONFIG: &str = r#"
[[service]]
name = "shop"
kind = "command"
command = ["shop"]
memory_max = "100MiB"
check = { tcp = "127.0.0.1:8080" }

[service.release]
kind = "symlink"
path = "/srv/shop/current"
releases = "/srv/shop/releases"
proven_after = "5m"
"#;

const LADDER: &str = r#"
[[remedy]]
detector = "service_down"
on = ["shop"]
[[remedy.step]]
action = "restart_service"
[[remedy.step]]
action = "rollback_release"
"#;

const BY_PEOPLE: &str = r#"
[[remedy]]
detector = "manual"
on = ["shop"]
action = "rollback_release"
"#;

/// It runs as this process, and this release was in place.
fn runs(scene: &mut Scene, pid: u32, release: &str) {
    scene.starts(pid);
    read(scene, pid, Some(release));
    scene.answers();
}

fn read(scene: &mut Scene, pid: u32, release: Option<&str>) {
    let sample = Sample::Release {
        service: "shop".to_owned(),
        process: key(pid),
        release: release.map(str::to_owned),
        why: release.is_none().then(|| "git is not there".to_owned()),
    };
    scene.signal(&Signal::Sample { sample });
}

/// It runs v2, which is new, after v1, which proved itself.
fn deployed(rules: &str) -> Scene {
    let mut scene = Scene::new(&format!("{CONFIG}{rules}"));
    runs(&mut scene, 700, "v1");
    scene.pass(Duration::from_mins(6));
    runs(&mut scene, 701, "v2");
    scene
}

fn asked(scene: &mut Scene) {
    scene.person(Request::Act {
        action: "rollback_release".to_owned(),
        subject: Subject::service("shop"),
        rule: None,
        dry_run: false,
    });
}

fn switches(permit: &Permit) -> (&str, &str, bool) {
    match permit.plan() {
        Plan::SwitchRelease {
            from, to, forward, ..
        } => (from, to, *forward),
        other => panic!("{other:?}"),
    }
}

fn known(scene: &Scene) -> (Vec<String>, Vec<String>) {
    let (_, known) = scene.engine.known_releases().next().expect("it is known");
    (known.good, known.rolled_back)
}

/// A host with one service and its link.
#[derive(Debug)]
struct Fake {
    release: Mutex<String>,
    process: Option<ProcessKey>,
    unfit: bool,
    unwritten: bool,
    starts: bool,
    did: Mutex<Vec<String>>,
}

impl Fake {
    fn new(release: &str, pid: u32) -> Self {
        Self {
            release: Mutex::new(release.to_owned()),
            process: Some(key(pid)),
            unfit: false,
            unwritten: false,
            starts: true,
            did: Mutex::default(),
        }
    }

    fn did(&self, what: String) {
        self.did.lock().expect("nobody panicked").push(what);
    }

    fn all(&self) -> Vec<String> {
        self.did.lock().expect("nobody panicked").clone()
    }
}

impl Host for Fake {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Err(HostError::Gone(process))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        self.did("start".to_owned());
        if !self.starts {
            return Err(HostError::NoService(service.to_owned()));
        }
        Ok(Restarted {
            process: key(900),
            acted: Time::from_nanos(1),
        })
    }

    fn running(&self, _: &str) -> Result<Option<ProcessKey>, HostError> {
        Ok(self.process)
    }

    fn will_change(&self, _: IncidentId, _: &str, undo: &Plan) -> Result<(), HostError> {
        let Plan::SwitchRelease { to, forward, .. } = undo else {
            panic!("{undo:?}");
        };
        self.did(format!("note {to} {forward}"));
        if self.unwritten {
            return Err(HostError::Journal("the disk is full".to_owned()));
        }
        Ok(())
    }

    fn release(&self, _: &Releases) -> Result<String, HostError> {
        Ok(self.release.lock().expect("nobody panicked").clone())
    }

    fn may_switch_release(&self, _: &Switch<'_>) -> Result<(), HostError> {
        if self.unfit {
            return Err(HostError::Unfit(
                "its schema check does not allow it".to_owned(),
            ));
        }
        Ok(())
    }

    fn switch_release(&self, switch: &Switch<'_>) -> Result<(), HostError> {
        self.did(format!("switch {}", switch.to));
        switch
            .to
            .clone_into(&mut self.release.lock().expect("nobody panicked"));
        Ok(())
    }

    fn now(&self) -> Time {
        Time::from_nanos(1)
    }
}

#[test]
fn what_ran_well_for_long_enough_is_good_and_an_incident_is_not_well() {
    let mut scene = Scene::new(&format!("{CONFIG}{LADDER}"));
    runs(&mut scene, 700, "v1");
    scene.pass(Duration::from_secs(299));
    assert_eq!(known(&scene), (vec![], vec![]));
    // One bad check, and the time begins anew.
    scene.checked("shop", Some(CheckFailure::Timeout));
    scene.checked("shop", None);
    scene.pass(Duration::from_secs(299));
    assert_eq!(known(&scene), (vec![], vec![]));
    scene.pass(Duration::from_secs(2));
    assert_eq!(known(&scene), (vec!["v1".to_owned()], vec![]));

    // What is put into place while a process runs is not what that runs.
    read(&mut scene, 700, Some("v2"));
    scene.pass(Duration::from_mins(10));
    assert_eq!(known(&scene).0, ["v1"]);
    // Read for a process that is not the service's any more.
    read(&mut scene, 600, Some("v3"));
    // Not known what it runs.
    scene.starts(701);
    read(&mut scene, 701, None);
    scene.answers();
    scene.pass(Duration::from_mins(10));
    assert_eq!(known(&scene).0, ["v1"]);
    read(&mut scene, 701, Some("v4"));
    scene.pass(Duration::from_mins(10));
    assert_eq!(known(&scene).0, ["v1", "v4"]);
}

#[test]
fn a_roll_back_is_the_last_rung_and_success_is_its_check() {
    let mut scene = deployed(LADDER);
    scene.exits(701, 256);
    scene.restarts(702);
    read(&mut scene, 702, Some("v2"));
    scene.pass(Duration::from_millis(20));
    scene.exits(702, 256);
    scene.pass(Duration::from_secs(2));
    let permit = scene.permit();
    assert_eq!(switches(&permit), ("v2", "v1", false));
    scene.starts(703);
    read(&mut scene, 703, Some("v1"));
    let undo = actions::rollback_release::forward(permit.plan());
    scene.effect_with(&permit, done(), undo);
    scene.answers();
    let incident = scene.incident(1);
    assert_eq!(incident.outcome, Some(Outcome::Fixed), "{incident:#?}");
    assert!(incident.held.is_some(), "a person may go forward again");
    assert_eq!(
        known(&scene),
        (vec!["v1".to_owned()], vec!["v2".to_owned()])
    );

    // The same release again: one shot was all.
    scene.pass(Duration::from_mins(20));
    runs(&mut scene, 704, "v2");
    scene.exits(704, 256);
    scene.restarts(705);
    read(&mut scene, 705, Some("v2"));
    scene.pass(Duration::from_millis(20));
    scene.exits(705, 256);
    scene.pass(Duration::from_secs(5));
    let again = scene
        .permits
        .iter()
        .any(|permit| permit.action() == "rollback_release");
    assert!(!again, "{:#?}", scene.permits);
}

#[test]
fn the_old_one_that_is_not_well_either_goes_forward_again() {
    let mut scene = deployed(LADDER);
    scene.exits(701, 256);
    scene.restarts(702);
    read(&mut scene, 702, Some("v2"));
    scene.pass(Duration::from_millis(20));
    scene.exits(702, 256);
    scene.pass(Duration::from_secs(2));
    let permit = scene.permit();
    scene.starts(703);
    read(&mut scene, 703, Some("v1"));
    let undo = actions::rollback_release::forward(permit.plan());
    scene.effect_with(&permit, done(), undo);
    scene.pass(Duration::from_millis(20));
    scene.exits(703, 256);
    scene.pass(Duration::from_secs(1));
    let permit = scene.permit();
    assert_eq!(switches(&permit), ("v1", "v2", true));
    assert_eq!(permit.plan().process(), None, "whatever runs by then");
    scene.starts(704);
    read(&mut scene, 704, Some("v2"));
    scene.effect(&permit, done());
    let incident = scene.incident(1);
    assert!(
        incident.held.is_none() && !incident.is_over(),
        "{incident:#?}"
    );
    assert_eq!(incident.outcome, Some(Outcome::NoEffect));
}

#[test]
fn there_is_none_without_a_release_to_go_back_to() {
    let mut scene = Scene::new(&format!("{CONFIG}{BY_PEOPLE}"));
    let refused = |scene: &mut Scene, id: u64, why: &str| {
        asked(scene);
        assert!(scene.permits.is_empty());
        let said = scene.refused_by(id);
        assert!(said.contains(why), "{said}");
    };
    scene.starts(700);
    refused(&mut scene, 1, "not known which release");
    read(&mut scene, 700, None);
    refused(&mut scene, 2, "git is not there");
    read(&mut scene, 700, Some("v1"));
    scene.answers();
    refused(
        &mut scene,
        3,
        "no release of shop but v1 has proven healthy",
    );
    scene.pass(Duration::from_mins(6));
    runs(&mut scene, 701, "v2");
    scene.pass(Duration::from_hours(73));
    refused(&mut scene, 4, "for longer than 72h");
}

#[test]
fn a_release_that_is_new_for_longer_than_the_rung_says_stays() {
    let rung = format!("{BY_PEOPLE}with = {{ within = \"1h\" }}\n");
    let mut scene = deployed(&rung);
    scene.pass(Duration::from_mins(61));
    asked(&mut scene);
    assert!(
        scene.refused_by(1).contains("no matter of its release"),
        "{}",
        scene.refused_by(1)
    );
    let mut scene = deployed(&rung);
    scene.pass(Duration::from_mins(59));
    asked(&mut scene);
    assert_eq!(switches(&scene.permit()), ("v2", "v1", false));
}

#[test]
fn what_is_known_outlives_a_reload_but_not_another_place() {
    let mut scene = deployed(BY_PEOPLE);
    scene.reconfigure(&format!("{}{BY_PEOPLE}", CONFIG.replace("5m", "10m")));
    assert_eq!(known(&scene).0, ["v1"]);
    scene.reconfigure(&format!(
        "{}{BY_PEOPLE}",
        CONFIG.replace("/srv/shop", "/opt/shop")
    ));
    assert!(scene.engine.known_releases().next().is_none());
}

#[test]
fn a_daemon_that_starts_again_knows_what_the_one_before_learned() {
    let before = deployed(BY_PEOPLE);
    let mut scene = Scene::new(&format!("{CONFIG}{BY_PEOPLE}"));
    scene
        .engine
        .know_releases(before.engine.known_releases().collect());
    scene.starts(701);
    asked(&mut scene);
    assert_eq!(switches(&scene.permit()), ("v2", "v1", false));
}

/// Carries out the plan of a person's roll-back on a host, and goes on with its undo where there is one.
fn carried_out(host: &Fake) -> (EffectResult, Option<Plan>, Option<Time>) {
    let mut scene = deployed(BY_PEOPLE);
    asked(&mut scene);
    let effect = actions::execute(scene.permit(), None, host);
    (effect.result, effect.undo, effect.acted)
}

#[test]
fn what_is_undone_is_written_down_before_anything_is_changed() {
    let host = Fake::new("v2", 701);
    let (result, undo, _) = carried_out(&host);
    assert_eq!(host.all(), ["note v2 true", "switch v1", "start"]);
    // The process is read back from the host, and it is another one than the fake says runs: it is only compared by the release.
    assert!(matches!(result, EffectResult::Done { .. }), "{result:?}");
    assert!(undo.is_some());

    let mut host = Fake::new("v2", 701);
    host.unwritten = true;
    let (result, undo, acted) = carried_out(&host);
    assert!(matches!(result, EffectResult::Failed { .. }) && undo.is_none() && acted.is_none());
    assert_eq!(host.all(), ["note v2 true"]);
}

#[test]
fn what_speaks_against_it_changes_nothing() {
    let mut host = Fake::new("v2", 701);
    host.unfit = true;
    let (result, undo, acted) = carried_out(&host);
    assert!(
        matches!(&result, EffectResult::Refused { reason } if reason.contains("schema")),
        "{result:?}"
    );
    assert!(host.all().is_empty() && undo.is_none() && acted.is_none());

    let host = Fake::new("v2", 999);
    let (result, ..) = carried_out(&host);
    assert!(
        matches!(result, EffectResult::Refused { .. }),
        "another process: {result:?}"
    );
    assert!(host.all().is_empty());
}

#[test]
fn a_service_that_does_not_start_with_the_old_one_leaves_the_way_forward() {
    let mut host = Fake::new("v2", 701);
    host.starts = false;
    let (result, undo, acted) = carried_out(&host);
    assert!(matches!(result, EffectResult::Failed { .. }), "{result:?}");
    assert!(acted.is_some());
    let Some(Plan::SwitchRelease {
        from,
        to,
        forward: true,
        process: None,
        ..
    }) = undo
    else {
        panic!("{undo:?}");
    };
    assert_eq!((from.as_str(), to.as_str()), ("v1", "v2"));
}

/// The undo of a roll-back that came to nothing, carried out on a host.
fn forward(host: &Fake) -> EffectResult {
    let mut scene = deployed(BY_PEOPLE);
    asked(&mut scene);
    let permit = scene.permit();
    let undo = actions::rollback_release::forward(permit.plan());
    scene.effect_with(&permit, done(), undo);
    scene.person(Request::Undo {
        incident: permit.incident(),
    });
    scene.pass(Duration::from_secs(1));
    let permit = scene.permit();
    assert_eq!(switches(&permit), ("v1", "v2", true));
    actions::execute(permit, None, host).result
}

#[test]
fn forward_again_only_from_what_was_put_there() {
    let host = Fake::new("v1", 900);
    assert!(matches!(forward(&host), EffectResult::Done { .. }));
    assert_eq!(host.all(), ["switch v2", "start"]);
    // It was ended before the service was: that one has run the release all along.
    let host = Fake::new("v1", 701);
    let EffectResult::Done { detail } = forward(&host) else {
        panic!("{:?}", host.all());
    };
    assert!(
        detail.contains("as pid 701, after v1, which ran it all along: not started anew"),
        "{detail}"
    );
    assert_eq!(host.all(), ["switch v2"]);
    // It was ended before it began: nothing is left to be changed back.
    let host = Fake::new("v2", 900);
    assert!(matches!(forward(&host), EffectResult::Refused { .. }));
    assert!(host.all().is_empty());
    // It was ended between the two, or while it was built.
    let mut host = Fake::new("v2", 900);
    host.process = None;
    forward(&host);
    assert_eq!(host.all(), ["switch v2", "start"]);
    // What cannot be told now is tried again, not given up.
    let mut host = Fake::new("v1", 900);
    host.unfit = true;
    assert!(matches!(forward(&host), EffectResult::Failed { .. }));
    assert!(host.all().is_empty());
}

#[test]
fn trouble_after_a_release_is_the_release_failing() {
    let rule = "[[remedy]]\ndetector = \"release_failing\"\non = [\"shop\"]\naction = \"rollback_release\"\n";
    let mut scene = deployed(rule);
    for _ in 0..4 {
        scene.pass(Duration::from_secs(10));
        scene.checked("shop", Some(CheckFailure::Answer("500".to_owned())));
    }
    assert!(scene.permits.is_empty());
    scene.pass(Duration::from_secs(10));
    scene.checked("shop", Some(CheckFailure::Answer("500".to_owned())));
    scene.pass(Duration::from_secs(5));
    let permit = scene.permit();
    assert_eq!(switches(&permit), ("v2", "v1", false));
    scene.starts(702);
    read(&mut scene, 702, Some("v1"));
    scene.effect(&permit, done());
    scene.answers();
    assert_eq!(
        scene.incident(permit.incident().0).outcome,
        Some(Outcome::Fixed)
    );
}
