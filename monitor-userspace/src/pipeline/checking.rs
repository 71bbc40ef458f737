//! Runs the health checks: a task a check, on the slow side.
//!
//! An answer that is well as the one before was wakes nobody: such news is handed over together, every [`TOGETHER`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::inbox::Inbox;
use super::teller::Teller;
use crate::checks::{About, Asked, Config, Runner, Running, Tools};
use crate::host::clock;
use crate::metrics::Pace;
use crate::model::{CheckResult, ProcessKey, Service, Signal};

/// How long news that nobody waits for may wait for more of it.
const TOGETHER: Duration = Duration::from_millis(100);

/// Checks that are made as often as this are not hurried after an act.
const SOON: Duration = Duration::from_secs(2);

/// What tasks of checks share.
#[derive(Clone, Debug)]
struct Shared {
    inbox: Inbox,
    /// Something was put into the inbox that nobody was woken for.
    quiet: Arc<AtomicBool>,
    pace: Arc<Pace>,
}

impl Running for Arc<Teller> {
    fn process(&self, service: &str) -> Option<ProcessKey> {
        self.running(service)
    }
}

/// Starts them; dropping the set ends them.
pub(super) fn start(
    checks: &BTreeMap<String, Vec<Config>>,
    services: &[Service],
    teller: &Teller,
    inbox: &Inbox,
    (tools, pace): (&Arc<Tools>, &Arc<Pace>),
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    pace.anew();
    let origin = Instant::now();
    let shared = Shared {
        inbox: inbox.clone(),
        quiet: Arc::default(),
        pace: Arc::clone(pace),
    };
    for (service, configs) in checks {
        let known = services.iter().find(|known| known.name == *service);
        let elsewhere = known.is_some_and(Service::is_elsewhere);
        for config in configs {
            let about = About {
                service: service.clone(),
                check: config.name().to_owned(),
                tools: Arc::clone(tools),
            };
            let runner = Runner::new(config.clone(), about.clone(), origin);
            let marks = Marks {
                // What nobody here runs is asked from the beginning.
                starts: (!elsewhere && config.serving()).then(|| teller.starts(service)),
                releases: teller.releases(service),
                acts: (config.common.interval.0 > SOON).then(|| teller.acts()),
            };
            tasks.spawn(repeat(about, runner, marks, shared.clone()));
        }
    }
    if !checks.is_empty() {
        tasks.spawn(hand_over(shared));
    }
    tasks
}

/// What changes when a check is made next.
struct Marks {
    /// Starts of the service; none where they say nothing.
    starts: Option<watch::Receiver<u64>>,
    /// Releases of the service that were put in place.
    releases: watch::Receiver<u64>,
    /// Acts on anything; none where the next check comes soon anyway.
    acts: Option<watch::Receiver<u64>>,
}

async fn hand_over(shared: Shared) {
    let mut every = tokio::time::interval(TOGETHER);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if shared.quiet.swap(false, Ordering::Relaxed) {
            shared.inbox.wake();
        }
    }
}

/// Waits for the next of what is counted; none when there will be no more.
async fn next_of(counted: &mut Option<watch::Receiver<u64>>) -> Option<()> {
    match counted {
        Some(counted) => counted.changed().await.ok(),
        None => std::future::pending().await,
    }
}

async fn repeat(about: About, mut runner: Runner, mut marks: Marks, shared: Shared) {
    // Before the first start there is nothing to ask.
    while let Some(starts) = &mut marks.starts {
        if *starts.borrow_and_update() > 0 {
            runner.started(Instant::now());
            break;
        }
        if starts.changed().await.is_err() {
            return;
        }
    }
    // When a failure was told last. Those of a check that is hurried are no more than one that is not would have had: "three in a row" are
    // not to be had in three milliseconds.
    let mut failed: Option<Instant> = None;
    loop {
        let next = runner.next();
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            started = next_of(&mut marks.starts) => {
                if started.is_none() {
                    return;
                }
                runner.started(Instant::now());
                failed = None;
                continue;
            }
            Ok(()) = marks.releases.changed() => {
                runner.released(Instant::now());
                continue;
            }
            Some(()) = next_of(&mut marks.acts) => {
                runner.acted(Instant::now());
                continue;
            }
        }
        let missed = runner.missed();
        shared.pace.began(next.elapsed());
        let asked = tokio::select! {
            asked = runner.ask() => asked,
            // What was asked of the process before says nothing about this one.
            started = next_of(&mut marks.starts) => {
                if started.is_none() {
                    return;
                }
                runner.started(Instant::now());
                failed = None;
                continue;
            }
        };
        shared.pace.missed(runner.missed() - missed);
        if asked.result.is_ok() {
            failed = None;
        } else if failed.is_some_and(|at| at.elapsed() < runner.interval() / 2) {
            continue;
        } else {
            failed = Some(Instant::now());
        }
        tell(&about, asked, &shared);
    }
}

fn tell(about: &About, asked: Asked, shared: &Shared) {
    let (said, figures, failure) = match asked.result {
        Ok(answer) => (answer.said, answer.figures, None),
        Err(failure) => (asked.doing, Vec::new(), Some(failure)),
    };
    let result = CheckResult {
        service: about.service.clone(),
        check: about.check.clone(),
        latency: asked.took,
        failure,
        said,
        figures,
    };
    shared.pace.said(&result);
    let signal = Signal::Check { result };
    if asked.as_before {
        shared.inbox.signal_quietly(clock::now(), signal);
        shared.quiet.store(true, Ordering::Relaxed);
    } else {
        // Bounded and never lost: waits for the hot thread, which never waits for us.
        shared.inbox.signal(clock::now(), signal);
    }
}
