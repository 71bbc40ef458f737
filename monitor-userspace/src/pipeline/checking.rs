//! Runs the health checks: a task a service, on the slow side.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::inbox::Inbox;
use super::teller::Teller;
use crate::checks::{Config, Runner};
use crate::host::clock;
use crate::model::{CheckResult, Signal};

/// Starts them; dropping the set ends them.
pub(super) fn start(
    checks: &BTreeMap<String, Config>,
    teller: &Teller,
    inbox: &Inbox,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (service, config) in checks {
        match Runner::new(config) {
            Ok(runner) => {
                let starts = teller.starts(service);
                tasks.spawn(repeat(service.clone(), runner, starts, inbox.clone()));
            }
            Err(error) => tracing::error!(%service, %error, "this check cannot be run"),
        }
    }
    tasks
}

async fn repeat(
    service: String,
    mut runner: Runner,
    mut starts: tokio::sync::watch::Receiver<u64>,
    inbox: Inbox,
) {
    loop {
        // Before the first start there is nothing to ask.
        if *starts.borrow_and_update() == 0 {
            if starts.changed().await.is_err() {
                return;
            }
            continue;
        }
        let (latency, failure) = runner.ask().await;
        let result = CheckResult {
            service: service.clone(),
            latency,
            failure,
        };
        // Bounded and never lost: waits for the hot thread, which never waits for us.
        inbox.signal(clock::now(), Signal::Check { result });
        tokio::select! {
            () = tokio::time::sleep(runner.pause(latency)) => {}
            changed = starts.changed() => {
                if changed.is_err() {
                    return;
                }
                runner.started();
            }
        }
    }
}
