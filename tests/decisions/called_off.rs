//! Acts that are not to go on: a process was asked to leave, and before it is ended somebody says no, or it is no longer needed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smart_monitor::actions;
use smart_monitor::host::{Host, HostError, Opened, Reniced, Restarted};
use smart_monitor::model::{
    EffectResult, IncidentId, Outcome, ProcessKey, ProcessUsage, Request, Sample, Signal, Silence,
    Time,
};

use super::processes::{RUNAWAY, runs_away};
use super::{Scene, key};

fn silence(scene: &mut Scene, on: &str) {
    let silence = Silence {
        id: 1,
        on: on.to_owned(),
        detector: None,
        until: scene.now.after(Duration::from_hours(1)),
        by: "ann".to_owned(),
        reason: "let it finish".to_owned(),
    };
    scene.person(Request::Silence { silence });
}

/// The process is idle from now on.
fn calms_down(scene: &mut Scene) {
    for _ in 0..10 {
        let usage = ProcessUsage {
            process: key(800),
            comm: "cruncher".to_owned(),
            cpu_ns: 9_000_000_000,
            resident: 1 << 20,
            major_faults: 0,
            run_delay_ns: 0,
            blocked: Vec::new(),
        };
        let processes = vec![usage];
        scene.signal(&Signal::Sample {
            sample: Sample::Processes { processes },
        });
        scene.pass(Duration::from_secs(1));
    }
}

#[test]
fn what_is_said_while_an_act_is_under_way_calls_it_off() {
    type Said = fn(&mut Scene);
    let cases: [(Said, Option<&str>, Outcome); 6] = [
        (
            |scene| silence(scene, "batch"),
            Some("silence 1 by ann"),
            Outcome::Refused,
        ),
        (
            |scene| silence(scene, "*"),
            Some("silence 1 by ann"),
            Outcome::Refused,
        ),
        (|scene| silence(scene, "other"), None, Outcome::Failed),
        (
            |scene| scene.reconfigure(&format!("{RUNAWAY}dry_run = true\n")),
            Some("dry run since then"),
            Outcome::Refused,
        ),
        (
            |scene| scene.reconfigure(&RUNAWAY.replace("[[remedy]]", "[[remedy]]\nname = \"new\"")),
            Some("its rule is no longer configured"),
            Outcome::Refused,
        ),
        (calms_down, Some("no longer needed: "), Outcome::Refused),
    ];
    for (number, (said, expected, outcome)) in cases.into_iter().enumerate() {
        let mut scene = Scene::new(RUNAWAY);
        runs_away(&mut scene, 800, "cruncher");
        let permit = scene.permit();
        assert!(scene.engine.take_called_off().is_empty(), "{number}");
        said(&mut scene);
        let off = scene.engine.take_called_off();
        let (ids, why): (Vec<_>, Vec<_>) = off.into_iter().unzip();
        match expected {
            Some(expected) => {
                assert_eq!(ids, [IncidentId(1)], "{number}");
                assert!(why.concat().starts_with(expected), "{number}: {why:?}");
            }
            None => assert!(ids.is_empty(), "{number}: {why:?}"),
        }
        let reason = "as it came about".to_owned();
        let result = match outcome {
            Outcome::Refused => EffectResult::Refused { reason },
            _ => EffectResult::Failed { reason },
        };
        scene.effect(&permit, result);
        let incident = scene.incident(1);
        assert_eq!(incident.outcome, Some(outcome), "{number}: {incident:#?}");
    }
}

/// A host with one process that stays, which is called off after it was waited for so often.
#[derive(Debug, Default)]
struct Patient {
    done: Arc<Mutex<Vec<&'static str>>>,
    waited: Arc<AtomicUsize>,
    off_after: usize,
}

#[derive(Debug)]
struct Held(Arc<Mutex<Vec<&'static str>>>, Arc<AtomicUsize>);

impl Opened for Held {
    fn terminate(&self) -> Result<(), HostError> {
        self.0.lock().expect("nobody panics with it").push("TERM");
        Ok(())
    }

    fn kill(&self) -> Result<(), HostError> {
        self.0.lock().expect("nobody panics with it").push("KILL");
        Ok(())
    }

    fn wait(&self, _: Duration) -> Result<bool, HostError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let done = self.0.lock().expect("nobody panics with it");
        Ok(done.contains(&"KILL"))
    }

    fn release_memory(&self) {}

    fn renice(&self, _: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        Err(HostError::Unable("renice"))
    }
}

impl Host for Patient {
    fn open(&self, _: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Ok(Box::new(Held(
            Arc::clone(&self.done),
            Arc::clone(&self.waited),
        )))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        Err(HostError::NoService(service.to_owned()))
    }

    fn called_off(&self, _: IncidentId) -> Option<String> {
        let off = self.waited.load(Ordering::Relaxed) >= self.off_after;
        off.then(|| "ann says so".to_owned())
    }

    fn now(&self) -> Time {
        Time::from_nanos(1)
    }
}

#[test]
fn what_is_called_off_in_its_grace_is_not_ended() {
    // The grace of 5 s is 50 looks.
    for (off_after, killed) in [(0, false), (1, false), (20, false), (1000, true)] {
        let mut scene = Scene::new(RUNAWAY);
        runs_away(&mut scene, 800, "cruncher");
        let permit = scene.permit();
        let host = Patient {
            off_after,
            ..Patient::default()
        };
        let struck = actions::strike(&permit, &host).expect("it is there");
        let effect = actions::execute(permit, struck, &host);
        let done = host.done.lock().expect("nobody panics with it").clone();
        assert_eq!(done.contains(&"KILL"), killed, "{off_after}: {done:?}");
        if !killed {
            let waited = host.waited.load(Ordering::Relaxed);
            assert!(waited <= off_after.max(1), "{waited} looks");
            let EffectResult::Refused { reason } = &effect.result else {
                panic!("{effect:?}");
            };
            assert!(
                reason.contains("called off after SIGTERM: ann says so"),
                "{reason}"
            );
        }
    }
}
