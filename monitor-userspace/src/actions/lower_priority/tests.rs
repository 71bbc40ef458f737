use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::host::{HostError, Opened, Restarted};
use crate::model::{ProcessKey, Time};

const PROCESS: ProcessKey = ProcessKey {
    pid: 70,
    start_ticks: 7,
};

/// A host with one process: the nice value of each of its threads.
#[derive(Clone, Debug, Default)]
struct Fake {
    threads: Arc<Mutex<BTreeMap<u32, i32>>>,
    beyond: usize,
    /// Changing a thread from here on fails.
    forbidden: Option<u32>,
    ended: bool,
}

impl Fake {
    fn with(threads: &[(u32, i32)]) -> Self {
        let threads = Arc::new(Mutex::new(threads.iter().copied().collect()));
        Self {
            threads,
            ..Self::default()
        }
    }

    fn nice(&self) -> Vec<(u32, i32)> {
        let threads = self.threads.lock().expect("nobody panics with it");
        threads.iter().map(|(id, nice)| (*id, *nice)).collect()
    }
}

impl Opened for Fake {
    fn terminate(&self) -> Result<(), HostError> {
        panic!("nothing is ended")
    }

    fn kill(&self) -> Result<(), HostError> {
        panic!("nothing is ended")
    }

    fn wait(&self, _: Duration) -> Result<bool, HostError> {
        Ok(self.ended)
    }

    fn release_memory(&self) {
        panic!("nothing is ended")
    }

    fn renice(&self, want: &dyn Fn(u32, i32) -> i32) -> Result<Reniced, HostError> {
        let mut reniced = Reniced {
            beyond: self.beyond,
            ..Reniced::default()
        };
        for (id, nice) in &mut *self.threads.lock().expect("nobody panics with it") {
            if self.forbidden.is_some_and(|from| *id >= from) {
                reniced.stopped = Some(HostError::System {
                    what: format!("change thread {id}"),
                    source: std::io::ErrorKind::PermissionDenied.into(),
                });
                break;
            }
            reniced.before.push((*id, *nice));
            let wanted = want(*id, *nice);
            reniced.changed += usize::from(wanted != *nice);
            *nice = wanted;
        }
        if self.ended {
            reniced.stopped = Some(HostError::Gone(PROCESS));
        }
        match reniced.stopped.take_if(|_| reniced.changed == 0) {
            Some(error) => Err(error),
            None => Ok(reniced),
        }
    }
}

impl Host for Fake {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        if process != PROCESS {
            return Err(HostError::Reused(process));
        }
        Ok(Box::new(self.clone()))
    }

    fn restart_service(
        &self,
        _: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        panic!("nothing is started")
    }

    fn now(&self) -> Time {
        Time::from_nanos(5)
    }
}

fn lower(nice: i32) -> Plan {
    Plan::LowerPriority {
        process: PROCESS,
        comm: "cruncher".to_owned(),
        nice,
    }
}

fn detail(executed: &Executed) -> &str {
    match &executed.result {
        EffectResult::Done { detail } => detail,
        EffectResult::Failed { reason } | EffectResult::Refused { reason } => reason,
    }
}

#[test]
fn every_thread_waits_and_each_gets_back_what_it_had() {
    let host = Fake::with(&[(70, 0), (71, -5), (72, 15)]);
    let done = carry_out(&lower(10), &host);
    assert_eq!(
        host.nice(),
        [(70, 10), (71, 10), (72, 15)],
        "none is put forward"
    );
    assert_eq!(done.acted, Some(Time::from_nanos(5)));
    assert_eq!(detail(&done), "cruncher [70] has nice 10 on 2 threads");
    // Meanwhile one thread has ended, and one was born of a thread that waits.
    {
        let mut threads = host.threads.lock().expect("nobody panics with it");
        threads.remove(&71);
        threads.insert(90, 10);
    }
    let undone = carry_out(&done.undo.expect("it can be undone"), &host);
    assert_eq!(host.nice(), [(70, 0), (72, 15), (90, -5)]);
    assert_eq!(
        detail(&undone),
        "cruncher [70] has its nice values back on 2 threads"
    );
    assert_eq!(undone.undo, None, "an undo is not undone");
}

#[test]
fn nothing_to_change_is_no_success() {
    let host = Fake::with(&[(70, 19)]);
    let done = carry_out(&lower(10), &host);
    assert_eq!((done.acted, done.undo.clone()), (None, None));
    assert!(
        matches!(done.result, EffectResult::Failed { .. }),
        "{done:?}"
    );
    assert!(detail(&done).contains("10 or more already"), "{done:?}");
}

#[test]
fn what_was_done_in_part_can_be_undone() {
    let mut host = Fake::with(&[(70, 0), (71, 0), (72, 0)]);
    host.forbidden = Some(72);
    let done = carry_out(&lower(10), &host);
    assert!(
        matches!(done.result, EffectResult::Failed { .. }),
        "{done:?}"
    );
    assert!(done.acted.is_some());
    carry_out(&done.undo.expect("two were changed"), &host);
    assert_eq!(host.nice(), [(70, 0), (71, 0), (72, 0)]);
}

#[test]
fn what_was_left_out_is_told() {
    let mut host = Fake::with(&[(70, 0)]);
    host.beyond = 12;
    let done = carry_out(&lower(10), &host);
    assert!(
        detail(&done).contains("12 more are as they were"),
        "{done:?}"
    );
}

#[test]
fn another_process_and_a_foreign_plan_are_left_alone() {
    let host = Fake::with(&[(70, 0)]);
    let process = ProcessKey {
        pid: 70,
        start_ticks: 8,
    };
    let comm = "cruncher".to_owned();
    for plan in [
        Plan::LowerPriority {
            process,
            comm: comm.clone(),
            nice: 10,
        },
        Plan::RestorePriority {
            process,
            comm: comm.clone(),
            nice: vec![(70, 5)],
        },
    ] {
        let done = carry_out(&plan, &host);
        assert!(
            matches!(done.result, EffectResult::Refused { .. }),
            "{done:?}"
        );
        assert_eq!((done.acted, done.undo), (None, None));
    }
    let term_grace = Duration::ZERO;
    let kill = Plan::KillProcess {
        process: PROCESS,
        comm,
        term_grace,
        named: true,
    };
    assert!(matches!(
        carry_out(&kill, &host).result,
        EffectResult::Failed { .. }
    ));
    assert_eq!(host.nice(), [(70, 0)]);
}

#[test]
fn a_process_that_ends_meanwhile_leaves_nothing_to_undo() {
    let mut host = Fake::with(&[(70, 0)]);
    host.ended = true;
    let done = carry_out(&lower(10), &host);
    assert!(
        matches!(done.result, EffectResult::Failed { .. }),
        "{done:?}"
    );
    assert_eq!(done.undo, None);
}
